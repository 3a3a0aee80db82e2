"""Elo by judges side by side, and what a preference model promises of whoever trained on it.

Reads runs of `tournament`, one a seed, whose primary comparison is the policy trained against the
first preference model, against writers. The first judge is whose word counts. Follows Bai et al.
(2204.05862), Elo and the comparison with writers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hark.errors import RunError
from hark.evaluation.intervals import Estimate
from hark.loop.studies.seeds import SHARED_START, mean_over_seeds
from hark.loop.studies.trainings import source_of
from hark.report.drawing import QUIET, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.ratings import JudgedModels, judges_of, predictions_of
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862"
GOLD = "gold"
"""The scorer that judges by the playground's gold grade, without noise."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Promised and measured Elo, the judges, and the comparison with writers."""
    played = [Tournament.read(run) for run in runs]
    draw_judges(played, directory / "elo-judges.png")
    draw_promises(played, directory / "elo-promised.png")
    return [*promises(played), *judges_apart(played), against_writers(played)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tournament:
    """One seed: its judges, and what was measured of the policy trained against the model."""

    run: RunRecord
    trained: str
    writers: str
    judge: str
    """Whose measure is compared with what the preference model promises: the first judge."""
    preference_model: str
    gold: str | None
    """The judge that goes by the gold grade, if there is one."""

    @classmethod
    def read(cls, run: RunRecord) -> Tournament:
        """Raises: RunError unless the run names a primary comparison, judges, preference models."""
        told = run.settings
        if missing := [
            name for name in ("primary", "judges", "preference_models") if not told[name]
        ]:
            raise RunError(
                f"'{run.path}' has no {missing[0]}, which the study of Elo needs: set it"
            )
        return cls(
            run=run,
            trained=told["primary"]["model"],
            writers=told["primary"]["against"],
            judge=next(iter(told["judges"])),
            preference_model=next(iter(told["preference_models"])),
            gold=next((name for name, how in told["judges"].items() if how == GOLD), None),
        )

    def judged_by(self, name: str) -> JudgedModels:
        """What one judge's votes say."""
        return next(one for one in judges_of(self.run) if one.judge == name)

    def promised(self, model: str, how: str) -> float:
        """Elo promised over Elo measured; how: "from_gap" or "from_odds"."""
        own = self.run.results["over_estimates"][self.preference_model][self.judge]
        return float(own[model][how]["value"])

    @property
    def primary(self) -> Estimate:
        """Win rate of the trained policy over the writers, by the first judge."""
        found = next(one for one in self.run.results["judges"] if one["judge"] == self.judge)
        return Estimate.from_json(found["primary"]["estimate"])


def promises(played: Sequence[Tournament]) -> Iterator[Effect]:
    """Elo that scores promise for the policy trained against them, over Elo by the votes."""
    ways = {
        "from_gap": ("from the gap of mean scores, as in the paper", ""),
        "from_odds": (
            "from the mean over prompts of σ(gap), which leaves out that odds of a mean are not "
            "the mean of odds",
            ", unevenness of prompts left out",
        ),
    }
    for how, (words, suffix) in ways.items():
        estimate = mean_over_seeds([one.promised(one.trained, how) for one in played])
        yield Effect(
            name=f"A preference model promises too much Elo of whoever trained on it{suffix}",
            paper=f"{PAPER}, Elo predicted and measured",
            claim="Elo predicted from preference-model scores is above Elo by crowd votes for "
            "policies trained against that model.",
            setting=_setting(played),
            data=_data(played),
            measured=f"predicted less measured Elo of {played[0].trained}, predicted {words}",
            seeds=len(played),
            figure="elo-promised.png",
            **judged(estimate, above=0.0),
        )


def judges_apart(played: Sequence[Tournament]) -> Iterator[Effect]:
    """Whether the model as a judge flatters the policy trained on it, beside the gold grade.

    Not beside a crowd: votes without noise stretch every gap of Elo, whoever was trained on what.
    """
    gaps = [
        _elo(one.judged_by(one.preference_model), one.trained)
        - _elo(one.judged_by(one.gold), one.trained)
        for one in played
        if one.gold
    ]
    if not gaps:
        return
    estimate = mean_over_seeds(gaps)
    yield Effect(
        name="The preference model as a judge flatters whoever trained on it",
        paper=f"{PAPER}, Elo predicted and measured",
        claim="Elo by the preference model is too high for the policies trained against it.",
        setting=f"{_setting(played)} Both judges of this effect choose without noise.",
        data=_data(played),
        measured=f"Elo of {played[0].trained} where the preference model judges, less Elo by the "
        "gold grade",
        seeds=len(gaps),
        figure="elo-judges.png",
        **judged(estimate, above=0.0),
    )


def against_writers(played: Sequence[Tournament]) -> Effect:
    """The primary comparison: is the trained policy preferred to the writers?"""
    estimate = mean_over_seeds([float(one.primary.value or 0.0) for one in played])
    return Effect(
        name="The trained policy against writers",
        paper=f"{PAPER}, comparison with writers",
        claim="Crowd workers preferred the online policy to professional writers on 56 % of "
        "prompts.",
        setting=f"{_setting(played)} The writers are the authors of the demonstrations "
        "whose prompts were answered; the comparison was named in the run's settings beforehand.",
        data=_data(played),
        measured=f"win rate of {played[0].trained} over {played[0].writers} by {played[0].judge}",
        seeds=len(played),
        figure="elo-judges.png",
        **judged(estimate, above=0.5),
    )


def _data(played: Sequence[Tournament]) -> str:
    return source_of(played[0].run.settings["data"])


def _setting(played: Sequence[Tournament]) -> str:
    first = played[0]
    models = ", ".join(first.judged_by(first.judge).elo)
    return (
        f"Round robin of {models} on {first.run.results['prompts']} prompts, judged by "
        f"{', '.join(one.judge for one in judges_of(first.run))} on the same replies; "
        f"{len(played)} seeds: {SHARED_START}."
    )


def _elo(judged: JudgedModels, model: str) -> float:
    value = judged.elo[model].value
    assert value is not None, f"{model} has no rating by {judged.judge}"
    return value


# ── figures ──────────────────────────────────────────────────────────────────────────────────────


def draw_judges(played: Sequence[Tournament], path: Path) -> None:
    """Elo of each model by each judge, mean over seeds."""
    judges = [one.judge for one in judges_of(played[0].run)]
    models = list(played[0].judged_by(played[0].judge).elo)
    with canvas(height_inches=1.2 + 0.5 * len(models)) as drawing:
        axes = drawing.subplots()
        for (number, judge), (place, model) in itertools.product(
            enumerate(judges), enumerate(models)
        ):
            estimate = mean_over_seeds([_elo(one.judged_by(judge), model) for one in played])
            offset = 0.5 * ((number + 0.5) / len(judges) - 0.5)
            draw_row(axes, place + offset, estimate, colour(number))
        for number, judge in enumerate(judges):
            axes.plot([], [], marker="o", color=colour(number), label=judge)
        axes.set_yticks(range(len(models)), models)
        axes.invert_yaxis()
        axes.set_xlabel("Elo, mean over seeds")
        axes.legend(loc="best")
        save(drawing, path)


def draw_promises(played: Sequence[Tournament], path: Path) -> None:
    """Elo promised against Elo measured, each seed a mark of its own."""
    reads: dict[str, Callable[[Any], Estimate]] = {
        "by the gap of mean scores": lambda one: one.from_gap,
        "by the mean of σ(gap)": lambda one: one.from_odds,
    }
    models = list(played[0].judged_by(played[0].judge).elo)
    with canvas(height_inches=3.9) as drawing:
        axes = drawing.subplots()
        ends: list[float] = []
        for one in played:
            measured = one.judged_by(one.judge).elo
            for each in predictions_of(one.run)[one.preference_model]:
                for filled, read in zip((True, False), reads.values(), strict=True):
                    x, y = read(each).value, measured[each.model].value
                    if x is None or y is None:
                        continue
                    ink = colour(models.index(each.model))
                    axes.plot(x, y, marker="o", color=ink, markerfacecolor=ink if filled else "w")
                    ends += [x, y]
        for number, model in enumerate(models):
            axes.plot([], [], marker="o", linestyle="none", color=colour(number), label=model)
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=QUIET, linestyle="--")
        axes.set(
            xlabel=f"Elo promised by {played[0].preference_model} "
            "(filled: gap of means; open: mean of σ)",
            ylabel=f"Elo by {played[0].judge}",
        )
        axes.legend(loc="best")
        save(drawing, path)


def draw_row(axes: Any, place: float, estimate: Estimate, ink: str, scale: float = 1.0) -> None:
    """A dot and whisker across."""
    if estimate.value is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot(
            [scale * estimate.low, scale * estimate.high], [place, place], color=ink, alpha=0.55
        )
    axes.plot(scale * estimate.value, place, marker="o", color=ink, linestyle="none")
