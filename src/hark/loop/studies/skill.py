"""Specialised skills mixed into RL (HH, 2204.05862), over seeds.

Each run is one of `hark compare` with the playground's judge, on prompts that ask for a skill or on
all others; its policies are named "with the skill" and "without the skill", after whether the
skill's prompts were among those of PPO. Which skill it is, is told by the names of its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hark.errors import RunError
from hark.evaluation.intervals import Estimate
from hark.evaluation.policies import PolicyEvaluation
from hark.loop.studies.seeds import SHARED_START, mean_over_seeds
from hark.report.drawing import MARKERS, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

WITH, WITHOUT = "with the skill", "without the skill"
NO_LOSS = 0.02
"""Of the gold grade, from 0 to 1: a loss within it counts as none."""
PROMPTS = {
    "prompts-code": ("code", True),
    "prompts-other": ("code", False),
    "prompts-not-code": ("code", False),
    "prompts-shorter": ("summaries", True),
    "prompts-not-shorter": ("summaries", False),
}
"""How the name of a file of prompts ends → a skill, and whether its prompts ask for it.

`hark playground` writes those of code, -other being all but code; `hark playground-prompts` any."""

Grades = dict[str, float]
"""Gold grade of each policy of a comparison."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """What mixing each skill in brings on its own prompts, and costs on others.

    Raises: RunError if a run lacks one of the two policies or the judge's grades, or its prompts
    are of no skill or of several.
    """
    tables: dict[str, dict[bool, list[Grades]]] = {}
    for run in runs:
        skill, asked_for = _asked(run)
        tables.setdefault(skill, {True: [], False: []})[asked_for].append(_grades(run))
    return [
        effect
        for skill, found in tables.items()
        for effect in _effects(skill, found[True], found[False], directory)
    ]


def _effects(
    skill: str, on_skill: Sequence[Grades], on_others: Sequence[Grades], directory: Path
) -> list[Effect]:
    """Gain and cost of one skill, and their figure."""
    figure = f"skill-{skill}.png"
    _draw(skill, on_skill, on_others, directory / figure)

    def shared(tables: Sequence[Grades]) -> dict[str, Any]:
        return {
            "paper": "HH, 2204.05862, specialised skills", "data": "playground",
            "seeds": len(tables), "figure": figure,
            "setting": f"{len(tables)} PPO trainings on all prompts against as many on all but "
            f"those that ask for {skill}, with the same preference model and as many episodes; "
            f"{SHARED_START}",
        }  # fmt: skip

    return [
        Effect(
            name=f"A skill mixed into RL is learnt: {skill}",
            claim="Natural-language RLHF combines with specialised skills such as code and "
            "summaries.",
            measured=f"gold grade on requests for {skill}, trained with them less without",
            **judged(_difference(on_skill), above=0.0), **shared(on_skill),
        ),
        Effect(
            name=f"Mixing the skill in costs nothing elsewhere: {skill}",
            claim="There is no loss in helpfulness and harmlessness from mixing.",
            measured=f"gold grade on all requests but those for {skill}, trained with the skill "
            "less without",
            **judged(_difference(on_others), above=-NO_LOSS), **shared(on_others),
        ),
    ]  # fmt: skip


def _asked(run: RunRecord) -> tuple[str, bool]:
    """The skill that a run is about, and whether its prompts ask for it."""
    stems = [Path(path).stem for path in run.settings["data"]]
    found = {
        next((said for ending, said in PROMPTS.items() if stem.endswith(ending)), None)
        for stem in stems
    }
    (said, *others) = found or {None}
    if said is None or others:
        raise RunError(
            f"'{run.path}' compares on {', '.join(stems) or 'no file'}, which is not the prompts "
            f"of one skill or all others; the study needs files whose names end in "
            f"{', '.join(PROMPTS)}"
        )
    return said


def _difference(tables: Sequence[Grades]) -> Estimate:
    """By how much the policy trained with the skill is better than the one without."""
    return mean_over_seeds([table[WITH] - table[WITHOUT] for table in tables])


def _grades(run: RunRecord) -> Grades:
    """Gold grade of each policy: the mean of helpfulness and harmlessness."""
    rows = map(PolicyEvaluation.from_json, run.results["policies"])
    found = {row.name: row.grade for row in rows if row.grade is not None}
    if not {WITH, WITHOUT} <= found.keys():
        raise RunError(
            f"'{run.path}' compares {', '.join(found) or 'nothing by gold grades'}; the study "
            f"needs policies '{WITH}' and '{WITHOUT}' and judge playground"
        )
    return found


def _draw(skill: str, on_skill: Sequence[Grades], on_others: Sequence[Grades], path: Path) -> None:
    with canvas() as drawing:
        axes = drawing.subplots()
        for number, (kind, tables) in enumerate(
            ((f"requests for {skill}", on_skill), ("other requests", on_others))
        ):
            for place, table in enumerate(tables):
                axes.plot(
                    list(table), list(table.values()), color=colour(number), linewidth=0.8,
                    marker=MARKERS[number], markersize=4.5, label=kind if place == 0 else None,
                )  # fmt: skip
        axes.set_ylabel("gold grade")
        axes.legend()
        save(drawing, path)
