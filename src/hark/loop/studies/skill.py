"""A specialised skill mixed into RL (HH, 2204.05862), over seeds.

Each run is one of `hark compare` with the playground's judge, on prompts that ask for the skill
(files ending in -code) or on all others; its policies are named "with the skill" and "without the
skill", after whether its prompts were among those of PPO.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hark.errors import RunError
from hark.evaluation.policies import PolicyEvaluation
from hark.loop.studies.seeds import SHARED_START, mean_over_seeds
from hark.report.drawing import MARKERS, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

WITH, WITHOUT = "with the skill", "without the skill"
NO_LOSS = 0.02
"""Of the gold grade, from 0 to 1: a loss within it counts as none."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """What mixing the skill in brings on its own prompts, and costs on others.

    Raises: RunError if a run lacks one of the two policies or the judge's grades.
    """
    on_skill = [_grades(run) for run in runs if _asks_for_skill(run)]
    on_others = [_grades(run) for run in runs if not _asks_for_skill(run)]
    _draw(on_skill, on_others, directory / "skill.png")
    gain, cost = (
        mean_over_seeds([table[WITH] - table[WITHOUT] for table in tables])
        for tables in (on_skill, on_others)
    )
    shared: dict[str, Any] = {
        "paper": "HH, 2204.05862, specialised skills", "data": "playground", "seeds": len(on_skill),
        "figure": "skill.png",
        "setting": f"{len(on_skill)} PPO trainings on all prompts against as many on all but those "
        "that ask for code, with the same preference model and as many episodes; "
        f"{SHARED_START}",
    }  # fmt: skip
    return [
        Effect(
            name="A skill mixed into RL is learnt",
            claim="Natural-language RLHF combines with specialised skills such as code and "
            "summaries.",
            measured="gold grade on requests for code, trained with them less without",
            **judged(gain, above=0.0), **shared,
        ),
        Effect(
            name="Mixing the skill in costs nothing elsewhere",
            claim="There is no loss in helpfulness and harmlessness from mixing.",
            measured="gold grade on all other requests, trained with the skill less without",
            **judged(cost, above=-NO_LOSS), **shared,
        ),
    ]  # fmt: skip


def _asks_for_skill(run: RunRecord) -> bool:
    return all(Path(path).stem.endswith("-code") for path in run.settings["data"])


def _grades(run: RunRecord) -> dict[str, float]:
    """Gold grade of each policy: the mean of helpfulness and harmlessness."""
    found = {}
    for row in map(PolicyEvaluation.from_json, run.results["policies"]):
        parts = [each.value for each in (row.helpfulness, row.harmlessness) if each is not None]
        known = [value for value in parts if value is not None]
        if len(known) == 2:
            found[row.name] = sum(known) / 2
    if not {WITH, WITHOUT} <= found.keys():
        raise RunError(
            f"'{run.path}' compares {', '.join(found) or 'nothing by gold grades'}; the study "
            f"needs policies '{WITH}' and '{WITHOUT}' and judge playground"
        )
    return found


def _draw(
    on_skill: Sequence[dict[str, float]], on_others: Sequence[dict[str, float]], path: Path
) -> None:
    with canvas() as drawing:
        axes = drawing.subplots()
        for number, (kind, tables) in enumerate(
            (("requests for code", on_skill), ("other requests", on_others))
        ):
            for place, table in enumerate(tables):
                axes.plot(
                    list(table), list(table.values()), color=colour(number), linewidth=0.8,
                    marker=MARKERS[number], markersize=4.5, label=kind if place == 0 else None,
                )  # fmt: skip
        axes.set_ylabel("gold grade")
        axes.legend()
        save(drawing, path)
