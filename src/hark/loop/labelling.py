"""The stage `label`: a labeler judges comparisons."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hark.data.formats import read_unjudged, write_comparisons
from hark.data.records import Comparison
from hark.errors import DataError
from hark.loop.inputs import read_files
from hark.loop.judges import labeler
from hark.playground.labelers import LabelerSettings
from hark.runs.progress import progress
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths

AT_ONCE = 64
"""Comparisons that a labeler is given at a time: a model has then enough to fill its passes."""


class LabelSettings(DataStageSettings):
    """Judge comparisons by a labeler."""

    data: Paths
    """Files of comparisons to judge, such as `hark sample --responses-per-prompt 4` makes."""

    labeler: str = "playground"
    """Who judges: playground (a noisy population), module:function of a labeler of yours, or any
    scorer (its order becomes the ranks)."""

    population: LabelerSettings = LabelerSettings()
    """The playground's labelers: how many, how noisy, how biased."""

    ties: Literal["keep", "break"] = "keep"
    """Replies judged alike: keep the tie, or break it at random, as people must on a form without
    ties (Ziegler's best of four needs one best reply)."""

    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts whose comparisons go to `comparisons-heldout.jsonl`."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        if self.labeler != "playground" and "population" in self.model_fields_set:
            raise ValueError("population would be ignored: it is for labeler 'playground'")
        return self


def run_label(settings: LabelSettings, run: Run) -> dict[str, Any]:
    """Write `data/comparisons.jsonl` and `data/comparisons-heldout.jsonl`.

    A comparison whose responses are all alike or all tied says nothing and is left out, counted.
    """
    unjudged = read_files(read_unjudged, settings.data, settings, run)
    population = settings.population.model_copy(
        update={"seed": settings.population.seed + settings.seed}
    )
    judge = labeler(settings.labeler, population=population, device=settings.device)
    breaks = settings.ties == "break"
    judged: list[Comparison] = []
    with progress(total=len(unjudged), label="label", unit="comparison") as bar:
        for start in range(0, len(unjudged), AT_ONCE):
            verdicts = judge(unjudged[start : start + AT_ONCE])
            judged += [without_ties(each, settings.seed) if breaks else each for each in verdicts]
            bar.advance(len(verdicts))
    kept = [comparison for comparison in judged if any(comparison.ordered_pairs())]
    if not kept:
        raise DataError(f"all {len(judged)} comparisons are ties: there is nothing to learn")
    held_out, training = _by_prompt(kept, settings)
    write_comparisons(run.data_path("comparisons-heldout.jsonl"), held_out)
    write_comparisons(run.data_path("comparisons.jsonl"), training)
    pairs = sum(len(list(comparison.ordered_pairs())) for comparison in kept)
    possible = sum(_pair_count(comparison) for comparison in kept)
    return {
        "comparisons": len(kept),
        "held_out": len(held_out),
        "all_tied": len(judged) - len(kept),
        "pairs": pairs,
        "tied_pairs": 1 - pairs / possible,
        "labelers": len(Counter(comparison.labeler for comparison in kept)),
    }


def _by_prompt(
    comparisons: Sequence[Comparison], settings: LabelSettings
) -> tuple[list[Comparison], list[Comparison]]:
    """Held out and kept for training: all comparisons of a prompt on the same side.

    Raises: DataError if prompts are asked to be held out and one side would be empty.
    """
    prompts = list(dict.fromkeys(comparison.prompt for comparison in comparisons))
    count = round(len(prompts) * settings.held_out)
    if settings.held_out > 0 and not 0 < count < len(prompts):
        raise DataError(
            f"{len(prompts)} prompts cannot be parted with held_out {settings.held_out}: one side "
            "would be empty; label more prompts, or set held_out to 0"
        )
    chosen = set(random.Random(settings.seed).sample(prompts, count))
    held_out = [each for each in comparisons if each.prompt in chosen]
    return held_out, [each for each in comparisons if each.prompt not in chosen]


def without_ties(comparison: Comparison, seed: int) -> Comparison:
    """The same order with ties broken by a hash of (seed, prompt, response)."""
    assert comparison.ranks is not None

    def place(index: int) -> tuple[int, bytes]:
        assert comparison.ranks is not None
        said = repr((seed, comparison.prompt, comparison.responses[index])).encode()
        return comparison.ranks[index], hashlib.blake2b(said, digest_size=8).digest()

    order = sorted(range(len(comparison.responses)), key=place)
    ranks = tuple(order.index(index) + 1 for index in range(len(order)))
    return dataclasses.replace(comparison, ranks=ranks)


def _pair_count(comparison: Comparison) -> int:
    return len(list(itertools.combinations(comparison.responses, 2)))
