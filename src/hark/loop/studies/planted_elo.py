"""Planted ratings recovered: whether stated intervals of Elo hold the truth, in simulated studies.

Reads runs of `rehearse`, of several shapes and with both ways to intervals. Follows Bai et al.
(2204.05862), Elo, who state intervals of Elo.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hark.evaluation.intervals import Estimate
from hark.loop.studies.elo import PAPER, draw_row
from hark.report.drawing import QUIET, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

COVERAGE = (0.92, 0.97)
"""What stated 95 % intervals may cover."""
BIAS = 10.0
"""Elo by which ratings may be off on average; 1.4 % of wins between equals."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Coverage of each shape by each way to intervals, and the largest error of ratings."""
    rehearsed = [Rehearsal.read(run) for run in runs]
    low, high = COVERAGE
    _draw(
        rehearsed, directory / "elo-coverage.png", lambda one: one.coverage, scale=100,
        region=(low, high), label="intervals that hold the planted rating (%)",
    )  # fmt: skip
    _draw(
        rehearsed, directory / "elo-errors.png", lambda one: one.error, region=(-BIAS, BIAS),
        label="mean error of ratings (Elo)",
    )  # fmt: skip
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
        told = run.settings
        shape = f"{told['labelers']} × {told['votes_per_labeler']}"
        shape += f", spread {told['labeler_spread']:g}"
        shape += ", ties" if told["tie_odds"] else ""
        if told["prompts"]:
            shape += f", {told['prompts']} prompts of spread {told['prompt_spread']:g}"
        if told["clusters"] != "labeler":
            shape += f", clusters by {told['clusters']}"
        return cls(
            intervals=told["intervals"],
            shape=shape,
            coverage=Estimate.from_json(run.results["coverage"]),
            error=Estimate.from_json(run.results["elo_error"]),
            studies=run.results["studies"],
        )


def recovery(rehearsed: Sequence[Rehearsal]) -> Iterator[Effect]:
    """Coverage of each shape of study by each way, and the error of ratings where it is largest.

    A mean over shapes would hide one whose intervals are too short behind one too wide.
    """
    low, high = COVERAGE
    for one in rehearsed:
        yield Effect(
            name=f"Intervals of Elo hold planted ratings ({one.intervals}, {one.shape})",
            paper=f"{PAPER}, Elo",
            claim="Elo of models is estimated from votes, and stated with an interval.",
            setting=_studies(one),
            data="simulated votes",
            measured="share of stated 95 % intervals that hold the planted rating",
            seeds=0,
            figure="elo-coverage.png",
            **judged(one.coverage, above=low, below=high),
        )
    worst = max(rehearsed, key=lambda one: abs(one.error.value or 0.0))
    yield Effect(
        name="Elo recovers planted ratings",
        paper=f"{PAPER}, Elo",
        claim="Scores fitted to wins and losses give the strengths behind them.",
        setting=f"The furthest off of {len(rehearsed)} shapes: {_studies(worst)}",
        data="simulated votes",
        measured="mean error of a rating where it is largest, in Elo",
        seeds=0,
        figure="elo-errors.png",
        **judged(worst.error, above=-BIAS, below=BIAS),
    )


def _studies(one: Rehearsal) -> str:
    return (
        f"{one.studies} simulated studies at planted ratings, labelers × votes of each, who differ "
        f"by a spread in logits: {one.shape}"
    )


def _draw(
    rehearsed: Sequence[Rehearsal],
    path: Path,
    value: Callable[[Rehearsal], Estimate],
    *,
    region: tuple[float, float],
    label: str,
    scale: float = 1.0,
) -> None:
    """A number of each shape of study, by the way to intervals, and where it should lie."""
    shapes = list(dict.fromkeys(one.shape for one in rehearsed))
    ways = list(dict.fromkeys(one.intervals for one in rehearsed))
    labels = [textwrap.fill(shape, 32) for shape in shapes]
    lines = "\n".join(labels).count("\n") + 1
    with canvas(height_inches=1.4 + 0.22 * (lines + len(shapes))) as drawing:
        axes = drawing.subplots()
        axes.axvspan(scale * region[0], scale * region[1], color=QUIET, alpha=0.15, linewidth=0)
        for one in rehearsed:
            place = shapes.index(one.shape) + 0.22 * (ways.index(one.intervals) - 0.5)
            draw_row(axes, place, value(one), colour(ways.index(one.intervals)), scale=scale)
        for number, way in enumerate(ways):
            axes.plot([], [], marker="o", color=colour(number), label=way)
        axes.set_yticks(range(len(shapes)), labels)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.legend(loc="best")
        save(drawing, path)
