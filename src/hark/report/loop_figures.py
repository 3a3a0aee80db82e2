"""The figures of iterated online training, round by round (Bai et al., 2204.05862)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hark.evaluation.intervals import Estimate
from hark.report.drawing import DASHES, MARKERS, Figure, canvas, colour, finish

BINS = 30
Series = Mapping[str, Sequence[tuple[float, Estimate]]]
"""Name of a line → its points: round, and what was measured."""


def score_histograms(scores: Mapping[str, Sequence[float]]) -> Figure:
    """How a preference model scores the replies of each tranche.

    scores: name of each tranche, in the order of collection, to its replies' scores.
    """
    with canvas() as drawing:
        draw_score_histograms(drawing.subplots(), scores)
        return finish(
            drawing,
            name="scores-by-tranche",
            title=_moved([float(np.mean(values)) for values in scores.values()]),
            caption="Replies that labelers compared, by the tranche they were collected in, all "
            "scored by the newest preference model; thin lines are means. Bai et al. (2022) saw "
            "the scores move right with each round.",
        )


def draw_score_histograms(axes: Axes, scores: Mapping[str, Sequence[float]]) -> None:
    """One outline a tranche, and its mean."""
    lows, highs = zip(*(np.quantile(each, [0.002, 0.998]) for each in scores.values()), strict=True)
    edges = np.linspace(min(lows), max(highs), BINS + 1)
    for number, (name, values) in enumerate(scores.items()):
        ink, dashes = colour(number), DASHES[number % len(DASHES)]
        heights, _ = np.histogram(values, bins=edges, density=True)
        axes.stairs(heights, edges, color=ink, linestyle=dashes, linewidth=1.6, label=name)
        mean = float(np.mean(values))
        axes.axvline(mean, color=ink, linestyle=dashes, linewidth=1.0, alpha=0.7)
    axes.set(xlabel="score of the newest preference model", ylabel="density")
    axes.legend(loc="best")


def _moved(means: Sequence[float]) -> str:
    steps = len(means) - 1
    rises = sum(later > earlier for earlier, later in itertools.pairwise(means))
    if steps < 1:
        return "Scores of the replies that were compared"
    if rises == steps:
        return "Scores rise with every tranche"
    return f"Scores rise in {rises} of {steps} steps from tranche to tranche"


def by_round(
    lines: Series, *, name: str, title: str, y_label: str, caption: str, percent: bool = False
) -> Figure:
    """Dots with their intervals over rounds."""
    with canvas() as drawing:
        axes = drawing.subplots()
        draw_by_round(axes, lines, y_label=y_label)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        return finish(drawing, name=name, title=title, caption=caption)


def draw_by_round(axes: Axes, lines: Series, *, y_label: str) -> None:
    """One line each, a little apart; what has no number is left out."""
    for number, (label, points) in enumerate(lines.items()):
        shown = [(at, one, one.value) for at, one in points if one.value is not None]
        shift = 0.04 * (number - (len(lines) - 1) / 2)
        at = [place + shift for place, _, _ in shown]
        values = [value for _, _, value in shown]
        below = [0.0 if one.low is None else value - one.low for _, one, value in shown]
        above = [0.0 if one.high is None else one.high - value for _, one, value in shown]
        axes.errorbar(
            at, values, yerr=np.array([below, above]), color=colour(number),
            linestyle=DASHES[number % len(DASHES)], marker=MARKERS[number % len(MARKERS)],
            markersize=5, capsize=3, linewidth=1.4, elinewidth=1.2, label=label,
        )  # fmt: skip
    axes.set(xlabel="round", ylabel=y_label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(lines) > 1:
        axes.legend(loc="best")
