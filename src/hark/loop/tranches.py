"""The stage `tranches`: what a preference model says of comparisons, tranche by tranche.

Bai et al. (2204.05862): with every round of online training the scores of the replies that people
compare move up, and the comparisons become harder to call: 74, 70 and 67 % on the base,
rejection-sampled and online tests.

Departures
1. Scores of a tranche are clustered by prompt; the paper draws histograms without intervals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator

from hark.data.formats import read_comparisons
from hark.data.records import Comparison, answered
from hark.evaluation.intervals import NOTHING, Estimate, clustered_mean
from hark.evaluation.preference_accuracy import preference_accuracy
from hark.evaluation.scores import score
from hark.loop.inputs import data_files, model_files, read_files
from hark.loop.judges import Scorer, remembering, scorer
from hark.models.processes import is_first
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths


class TranchesSettings(DataStageSettings):
    """Measure tranches of comparisons by a preference model."""

    model: str
    """The preference model, or any other scorer."""
    replies: dict[str, Paths]
    """Name of each tranche to its comparisons, whose replies are scored."""
    held_out: dict[str, Paths] = Field(default_factory=dict)
    """The same to comparisons that the model was not trained on, for its accuracy."""
    judge: str | None = None
    """Another scorer of the same replies, such as playground."""

    @model_validator(mode="after")
    def _tranches_known(self) -> Self:
        if unknown := set(self.held_out) - set(self.replies):
            raise ValueError(f"held_out names a tranche that replies do not: {min(unknown)}")
        return self


def tranches_inputs(settings: TranchesSettings) -> list[Path]:
    """Files and directories whose contents decide the result."""
    named = [settings.model, *([settings.judge] if settings.judge else [])]
    found = [path for name in named for path in model_files(name)]
    given = [*settings.replies.values(), *settings.held_out.values()]
    data = [path for paths in given for each in paths for path in data_files(str(each))]
    return list(dict.fromkeys([*found, *data]))


def run_tranches(settings: TranchesSettings, run: Run) -> dict[str, Any]:
    """Write `data/scores.jsonl`: a line for each reply, with its tranche and scores."""
    model = remembering(scorer(settings.model, device=settings.device, dtype=settings.dtype))
    judge = None if settings.judge is None else scorer(settings.judge, device=settings.device)
    told: list[dict[str, Any]] = []
    lines: list[str] = []
    for name, paths in settings.replies.items():
        comparisons = read_files(read_comparisons, paths, settings, run)
        held_out = settings.held_out.get(name, ())
        unseen = read_files(read_comparisons, held_out, settings, run) if held_out else []
        rows = _scored(name, comparisons, model, judge)
        lines += [json.dumps(row) for row in rows]
        told.append(
            {
                "tranche": name,
                "comparisons": len(comparisons),
                "score": _mean(rows, "score", comparisons).to_json(),
                "judge": _mean(rows, "judge", comparisons).to_json() if judge else None,
                "accuracy": _accuracy(model, unseen, settings.seed).to_json(),
            }
        )
    if is_first():
        run.data_path("scores.jsonl").write_text("".join(line + "\n" for line in lines))
    return {"tranches": told}


def _scored(
    name: str, comparisons: Sequence[Comparison], model: Scorer, judge: Scorer | None
) -> list[dict[str, Any]]:
    """One row for each reply of each comparison, in order."""
    dialogues = [answered(one.prompt, text) for one in comparisons for text in one.responses]
    with torch.no_grad():
        scores = [float(value) for value in score(model, dialogues)]
        graded = [] if judge is None else [float(value) for value in score(judge, dialogues)]
    return [
        {"tranche": name, "score": value, **({"judge": graded[place]} if graded else {})}
        for place, value in enumerate(scores)
    ]


def _mean(
    rows: Sequence[dict[str, Any]], column: str, comparisons: Sequence[Comparison]
) -> Estimate:
    prompts = [one.prompt for one in comparisons for _ in one.responses]
    return clustered_mean([row[column] for row in rows], clusters=[prompts])


def _accuracy(model: Scorer, unseen: Sequence[Comparison], seed: int) -> Estimate:
    if not any(any(one.ordered_pairs()) for one in unseen):
        return NOTHING
    return preference_accuracy(model, unseen, seed=seed).estimate
