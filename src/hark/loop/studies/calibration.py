"""Whether predicted preferences come true, and whether good is harder to tell from good.

Bai et al. (2204.05862), calibration. Runs of `hark preference` that differ in their
seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import special

from hark.evaluation.calibration import Calibration
from hark.evaluation.preference_accuracy import BOTH_GOOD_LEVELS
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import Line, Training, described, draw, trainings
from hark.report.drawing import QUIET, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862, calibration"
LARGEST_ERROR = 0.05
GOOD_LEVEL = 7
"""Place in `BOTH_GOOD_LEVELS` that is compared with all pairs: 70 % of the scores are below."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """The calibration error, and how much accuracy falls where both replies are good."""
    members = trainings(runs)
    return [_error(members, directory), _both_good(members, directory)]


def _error(members: Sequence[Training], directory: Path) -> Effect:
    found = [each.measured.calibration for each in members]
    errors = mean_over_seeds([each.error.value or 0.0 for each in found])
    expected = sum(each.error_if_calibrated or 0.0 for each in found) / len(found)
    temperatures = [each.temperature for each in found if each.temperature is not None]
    middle = f"{np.mean(temperatures):.2f}" if temperatures else "undefined"
    return Effect(
        name="Predicted preferences come true", paper=PAPER,
        claim="The reply scored Δ higher is preferred with probability σ(Δ).",
        setting=described(members), data=members[0].source,
        measured="expected calibration error on held-out comparisons", seeds=len(members),
        figure=_curve(found, directory / "calibration.png"),
        **judged(
            errors, below=LARGEST_ERROR,
            further=f"A perfectly calibrated model would show {expected:.3f}; the temperature that "
            f"would put it right is {middle}, above 1 being too sure.",
        ),
    )  # fmt: skip


def _curve(found: Sequence[Calibration], path: Path) -> str:
    """Observed accuracy against Δ, one line a seed, on the curve that is predicted."""
    with canvas() as drawing:
        axes = drawing.add_subplot()
        widest = 0.5
        for number, each in enumerate(found):
            gaps = special.logit(np.clip([bin_.predicted for bin_ in each.bins], 0.5, 1 - 1e-6))
            widest = max(widest, float(gaps.max()))
            observed = [bin_.observed.value or 0.0 for bin_ in each.bins]
            axes.plot(gaps, observed, "o-", color=colour(number), label=f"training {number + 1}")
        curve = np.linspace(0, widest, 100)
        axes.plot(curve, special.expit(curve), color=QUIET, label="1 / (1 + exp(−Δ))")
        axes.set(xlabel="score gap Δ", ylabel="share preferred")
        axes.legend(loc="best")
        save(drawing, path)
    return path.name


def _both_good(members: Sequence[Training], directory: Path) -> Effect:
    fallen = [
        (value - (each.measured.both_good[0].estimate.value or 0.0))
        for each in members
        if (value := each.measured.both_good[GOOD_LEVEL].estimate.value) is not None
    ]
    estimate = mean_over_seeds(fallen)
    levels = range(len(BOTH_GOOD_LEVELS))
    figure = draw(
        directory / "both-good.png",
        [
            Line(
                label="both replies above the threshold",
                x=[100 * BOTH_GOOD_LEVELS[place] for place in levels],
                y=[
                    mean_over_seeds(
                        [
                            value
                            for each in members
                            if (value := each.measured.both_good[place].estimate.value) is not None
                        ]
                    )
                    for place in levels
                ],
            )
        ],
        x_label="threshold: share of all scores below it (%)", y_label="accuracy",
        levels=[("chance", 0.5)],
    )  # fmt: skip
    return Effect(
        name="Good is harder to tell from good", paper=PAPER,
        claim="Accuracy on the pairs in which both scores exceed a threshold falls as it rises.",
        setting=f"{described(members)}; the threshold has {100 * BOTH_GOOD_LEVELS[GOOD_LEVEL]:.0f} "
        "% of all scores below it", data=members[0].source,
        measured="accuracy where both scores exceed the threshold, less that on all pairs",
        seeds=len(members), figure=figure, **judged(estimate, below=0.0),
    )  # fmt: skip
