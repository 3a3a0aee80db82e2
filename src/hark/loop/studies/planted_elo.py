"""Planted ratings recovered: whether stated intervals of Elo hold the truth, in simulated studies.

Reads runs of `rehearse`, of several shapes and with both ways to intervals. Follows Bai et al.
(2204.05862), section 2.4 and figure 1, who state intervals of Elo.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hark.evaluation.intervals import NOTHING, Estimate
from hark.loop.studies.elo import PAPER, draw_row, effective, reason
from hark.report.drawing import QUIET, canvas, colour, save
from hark.report.effects import Effect, Verdict
from hark.report.run_record import RunRecord

COVERAGE = (0.92, 0.97)
"""What stated 95 % intervals may cover."""
BIAS = 10.0
"""Elo by which ratings may be off on average; 1.4 % of wins between equals."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Coverage by each way to intervals, and the error of ratings."""
    rehearsed = [Rehearsal.read(run) for run in runs]
    draw_coverage(rehearsed, directory / "elo-coverage.png")
    return list(recovery(rehearsed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """One shape of study with one way to intervals."""

    intervals: str
    shape: str
    coverage: Estimate
    error: Estimate
    studies: int

    @classmethod
    def read(cls, run: RunRecord) -> Rehearsal:
        """From a run of `rehearse`."""
        told = effective(run)
        shape = f"{told['labelers']} × {told['votes_per_labeler']}"
        shape += f", spread {told['labeler_spread']:g}"
        shape += ", ties" if told["tie_odds"] else ""
        shape += f", {told['prompts']} prompts" if told["prompts"] else ""
        return cls(
            intervals=told["intervals"],
            shape=shape,
            coverage=Estimate.from_json(run.results["coverage"]),
            error=Estimate.from_json(run.results["elo_error"]),
            studies=run.results["studies"],
        )


def recovery(rehearsed: Sequence[Rehearsal]) -> Iterator[Effect]:
    """Coverage by each way to intervals, and the error of ratings."""
    for way in dict.fromkeys(one.intervals for one in rehearsed):
        own = [one for one in rehearsed if one.intervals == way]
        held = pooled([one.coverage for one in own])
        verdict = within(held, *COVERAGE)
        yield Effect(
            name=f"Intervals of Elo hold planted ratings ({way})",
            paper=f"{PAPER}, section 2.4 and figure 1",
            claim="Elo of models is estimated from votes, and stated with an interval.",
            setting=_shapes(own),
            data="simulated votes",
            measured="share of stated 95 % intervals that hold the planted rating",
            rule="reproduced if the interval of the share lies within 92 to 97 %",
            estimate=held,
            seeds=0,
            verdict=verdict,
            reason=reason(verdict, "within 92 to 97 %"),
            figure="elo-coverage.png",
        )
    error = pooled([one.error for one in rehearsed if one.intervals == rehearsed[0].intervals])
    verdict = within(error, -BIAS, BIAS)
    yield Effect(
        name="Elo recovers planted ratings",
        paper=f"{PAPER}, section 2.4",
        claim="Scores fitted to wins and losses give the strengths behind them.",
        setting=_shapes([one for one in rehearsed if one.intervals == rehearsed[0].intervals]),
        data="simulated votes",
        measured="mean error of a rating, in Elo",
        rule=f"reproduced if its interval lies within ±{BIAS:g} Elo",
        estimate=error,
        seeds=0,
        verdict=verdict,
        reason=reason(verdict, f"within ±{BIAS:g} Elo"),
    )


def _shapes(rehearsed: Sequence[Rehearsal]) -> str:
    shapes = "; ".join(one.shape for one in rehearsed)
    studies = sum(one.studies for one in rehearsed)
    return (
        f"{studies} simulated studies at planted ratings, labelers × votes of each, who differ by "
        f"a spread in logits: {shapes}"
    )


def pooled(estimates: Sequence[Estimate]) -> Estimate:
    """Their plain mean, as of independent estimates."""
    known = [one for one in estimates if one.value is not None]
    if not known:
        return NOTHING
    value = math.fsum(one.value or 0.0 for one in known) / len(known)
    counts = {"n": sum(one.n for one in known), "clusters": sum(one.clusters for one in known)}
    if any(one.low is None or one.high is None for one in known):
        return Estimate(value=value, low=None, high=None, state="no variation", **counts)
    down, up = (
        math.hypot(*((end or 0.0) - (one.value or 0.0) for one in known for end in [reach(one)]))
        / len(known)
        for reach in (_low, _high)
    )
    return Estimate(value=value, low=value - down, high=value + up, **counts)  # type: ignore[arg-type]


def _low(one: Estimate) -> float | None:
    return one.low


def _high(one: Estimate) -> float | None:
    return one.high


def within(estimate: Estimate, low: float, high: float) -> Verdict:
    """Reproduced if the whole interval is inside, not if it is all outside."""
    if estimate.low is None or estimate.high is None:
        return "cannot be seen"
    if low <= estimate.low and estimate.high <= high:
        return "reproduced"
    return "not reproduced" if estimate.high < low or estimate.low > high else "cannot be seen"


def draw_coverage(rehearsed: Sequence[Rehearsal], path: Path) -> None:
    """Coverage of each shape of study, by the way to intervals."""
    shapes = list(dict.fromkeys(one.shape for one in rehearsed))
    ways = list(dict.fromkeys(one.intervals for one in rehearsed))
    with canvas(height_inches=1.2 + 0.45 * len(shapes)) as drawing:
        axes = drawing.subplots()
        axes.axvspan(100 * COVERAGE[0], 100 * COVERAGE[1], color=QUIET, alpha=0.15, linewidth=0)
        for one in rehearsed:
            place = shapes.index(one.shape) + 0.22 * (ways.index(one.intervals) - 0.5)
            draw_row(axes, place, one.coverage, colour(ways.index(one.intervals)), scale=100)
        for number, way in enumerate(ways):
            axes.plot([], [], marker="o", color=colour(number), label=way)
        axes.set_yticks(range(len(shapes)), shapes)
        axes.invert_yaxis()
        axes.set_xlabel("intervals that hold the planted rating (%)")
        axes.legend(loc="best")
        save(drawing, path)
