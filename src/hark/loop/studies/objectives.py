"""Imitation, binary discrimination and ranked preference modelling beside each other.

Askell et al. (2112.00861). Runs of `hark preference` on pairs of a ranked task and of a
binary one, and of `hark evaluate` that measure, on the same held-out pairs, language models trained
on the better replies alone. A task is the binary one if its file's name begins with `binary`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from hark.errors import DataError
from hark.evaluation.intervals import Estimate
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import (
    Line,
    Training,
    described,
    draw,
    trainings,
)
from hark.report.effects import Effect, above, because, within
from hark.report.run_record import RunRecord

PAPER = "Askell et al., 2112.00861, alignment objectives"
MUCH = 0.1
"""A lead in accuracy that counts as much better, on the ranked task."""
ALIKE = 0.05
"""A difference within this counts as none, on the binary task."""
MEASURES = {
    "accuracy": "sum", "accuracy_per_token": "mean",
    "accuracy_mutual_information": "mutual information",
}  # fmt: skip
"""Results of an evaluation by likelihood → what they are called."""


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One task by both ways of learning it."""

    modelled: list[Training]
    imitated: dict[int, dict[str, float]]
    """By seed: accuracy by each measure of likelihood."""

    def gaps(self) -> dict[int, float]:
        """Preference model less the best measure of imitation, by seed."""
        return {
            each.seed: each.accuracy - max(self.imitated[each.seed].values())
            for each in self.modelled
            if each.seed in self.imitated
        }


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """The lead of preference models over imitation on the ranked and on the binary task.

    Raises: DataError if a task lacks one of the two.
    """
    tasks = {name: _task(runs, binary=name == "binary") for name in ("ranked", "binary")}
    figure = _figure(tasks, directory)
    on_ranked, on_binary = (task.gaps() for task in tasks.values())
    ranked, binary = (mean_over_seeds([*gaps.values()]) for gaps in (on_ranked, on_binary))
    apart = mean_over_seeds(
        [lead - on_binary[seed] for seed, lead in on_ranked.items() if seed in on_binary]
    )
    told = "; ".join(f"{name}: {_told(task)}" for name, task in tasks.items())
    members = tasks["ranked"].modelled
    common = Effect(
        name="On a ranked task preference modelling beats imitation", paper=PAPER,
        claim="Ranked preference modelling is far better than imitation, up to 25 points.",
        setting=described(members), data=members[0].source,
        measured="accuracy of the preference model less that of imitation by its best measure",
        rule=f"reproduced if the whole interval is above {MUCH}", estimate=ranked,
        seeds=ranked.n, verdict=(verdict := above(ranked, MUCH)),
        reason=f"{because(ranked, verdict, f'above {MUCH}')} {told}.",
        figure=figure,
    )  # fmt: skip
    return [
        common,
        dataclasses.replace(
            common,
            name="On a binary task the two are alike",
            claim="Binary discrimination and imitation do about equally well.",
            rule=f"reproduced if the whole interval is within ±{ALIKE}",
            estimate=binary,
            seeds=binary.n,
            verdict=(verdict := within(binary, -ALIKE, ALIKE)),
            reason=f"{because(binary, verdict, f'within ±{ALIKE}')} {told}.",
        ),
        dataclasses.replace(
            common,
            name="The lead is larger on the ranked task",
            claim="What preference modelling gains over imitation is larger on ranked tasks.",
            measured="lead on the ranked task less lead on the binary task, by seed",
            rule="reproduced if the whole interval is above 0",
            estimate=apart,
            seeds=apart.n,
            verdict=(verdict := above(apart, 0.0)),
            reason=f"{because(apart, verdict, 'above 0')} {told}.",
        ),
    ]


def _task(runs: Sequence[RunRecord], *, binary: bool) -> Task:
    def belongs(path: str) -> bool:
        return Path(path).name.startswith("binary") == binary

    modelled = [each for each in trainings(runs) if belongs(each.settings["data"][0])]
    imitated = {
        int(settings["seed"]): {said: float(run.results[name]) for name, said in MEASURES.items()}
        for run in runs
        if run.manifest.stage == "evaluate" and "accuracy_mutual_information" in run.results
        if belongs((settings := run.settings)["data"][0])
    }
    if not modelled or not {each.seed for each in modelled} & imitated.keys():
        raise DataError(
            f"the {'binary' if binary else 'ranked'} task needs runs of hark preference and of "
            "hark evaluate (a language model on the same held-out comparisons) with the same seeds"
        )
    return Task(modelled, imitated)


def _estimates(task: Task) -> dict[str, Estimate]:
    by_measure = {
        f"imitation, {said}": mean_over_seeds([found[said] for found in task.imitated.values()])
        for said in MEASURES.values()
    }
    return by_measure | {
        "preference model": mean_over_seeds([each.accuracy for each in task.modelled])
    }


def _told(task: Task) -> str:
    return ", ".join(f"{name} {each.value:.3f}" for name, each in _estimates(task).items())


def _figure(tasks: dict[str, Task], directory: Path) -> str:
    """One mark for each way of learning, the tasks side by side."""
    lines: dict[str, list[Estimate]] = {}
    for task in tasks.values():
        for name, estimate in _estimates(task).items():
            lines.setdefault(name, []).append(estimate)
    return draw(
        directory / "objectives.png",
        [Line(label=name, x=[0, 1], y=estimates) for name, estimates in lines.items()],
        x_label="", y_label="accuracy, held out",
        levels=[("chance", 0.5)], ticks=[f"{name} task" for name in tasks],
    )  # fmt: skip
