"""Figures of a preference model on held-out comparisons: Bai et al. (2204.05862), figure 9."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from scipy import special

from hark.evaluation.calibration import Calibration
from hark.evaluation.intervals import Estimate
from hark.evaluation.preference_accuracy import BothGood
from hark.report import findings
from hark.report.drawing import QUIET, Figure, canvas, colour, finish

SUREST = 1 - 1e-6
"""Predicted probabilities are drawn up to this: the score gap of 1 is infinite."""


def accuracy_against_gap(measured: Calibration) -> Figure:
    """How often the reply scored Δ higher is the preferred one, on the curve 1 / (1 + e^−Δ)."""
    gaps = special.logit(np.clip([each.predicted for each in measured.bins], 0.5, SUREST))
    with canvas() as drawing:
        axes = drawing.subplots()
        curve = np.linspace(0, max(1.0, float(gaps.max())), 100)
        axes.plot(curve, special.expit(curve), color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        _with_intervals(axes, gaps.tolist(), [each.observed for each in measured.bins])
        axes.set(xlabel="score gap Δ", ylabel="preferred")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        return finish(
            drawing,
            name="accuracy-against-gap",
            title=findings.calibration(measured),
            caption="Held-out pairs in groups of about equal number by their score gap Δ. The "
            "dashed curve is what the model predicts, 1 / (1 + e^−Δ).",
        )


def accuracy_where_both_are_good(slices: Sequence[BothGood]) -> Figure:
    """Accuracy on the pairs in which both scores exceed a threshold."""
    shown = [each for each in slices if each.estimate.value is not None]
    with canvas() as drawing:
        axes = drawing.subplots()
        axes.axhline(0.5, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        _with_intervals(axes, [each.threshold for each in shown], [each.estimate for each in shown])
        axes.set(xlabel="both scores above", ylabel="accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        return finish(
            drawing,
            name="both-good",
            title=_trend(shown),
            caption="Each point leaves out the pairs with a score below the threshold; the dashed "
            "line is chance. Telling good from good is harder than telling good from bad.",
        )


def _trend(slices: Sequence[BothGood]) -> str:
    first, last = slices[0].estimate, slices[-1].estimate
    if first.apart_from(last) and (first.value or 0.0) > (last.value or 0.0):
        return "The preference model is less often right where both replies are good"
    return "Accuracy by how good both replies are"


def _with_intervals(axes: Axes, x: Sequence[float], estimates: Sequence[Estimate]) -> None:
    values = [each.value or 0.0 for each in estimates]
    ends = [
        (value - each.low, each.high - value)
        if each.low is not None and each.high is not None
        else (0.0, 0.0)
        for value, each in zip(values, estimates, strict=True)
    ]
    axes.errorbar(x, values, yerr=np.array(ends).T, color=colour(0), marker="o", capsize=3)
