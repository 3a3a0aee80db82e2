"""The stage `preference`: training put together with what is measured of the model it leaves.

Bai et al. (2204.05862): accuracy on held-out comparisons, by turn and by data set,
calibration, and accuracy where both replies are good. A run whose predicted preferences do not come
true says so.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from hark.data.records import Comparison
from hark.evaluation.calibration import Calibration
from hark.evaluation.preference_accuracy import preference_accuracy
from hark.loop.evaluating import interval_of, that_fit
from hark.models.processes import is_first
from hark.models.scalar_head import ModelScorer
from hark.models.shared_scores import shared_scores
from hark.runs.run import Run
from hark.training import preference
from hark.training.preference_mixture import HeldOut
from hark.training.preference_settings import PreferenceSettings

USELESS_TEMPERATURE = 20.0
"""Scores that need more than this divided out of them hardly tell the replies apart."""


def run_preference(settings: PreferenceSettings, run: Run) -> dict[str, Any]:
    """Train; with evaluation data, measure accuracy and calibration and warn if they are off."""

    def measure(scorer: ModelScorer, held_out: HeldOut, left_out: frozenset[str]) -> dict[str, Any]:
        found = held_out_accuracy(settings, scorer, held_out, left_out)
        if is_first():
            for message in found["warnings"]:
                print(f"warning: {message}", file=sys.stderr, flush=True)
        return found

    return preference.train(settings, run, measure=measure)


def held_out_accuracy(
    settings: PreferenceSettings,
    scorer: ModelScorer,
    held_out: HeldOut,
    left_out: frozenset[str],
) -> dict[str, Any]:
    """Calibration of a trained model on its held-out comparisons, and accuracy in every slice.

    left_out: the labelers from whom nothing was learned.
    """
    comparisons, files = _measurable(settings, scorer, held_out)
    measured = preference_accuracy(
        functools.partial(shared_scores, scorer), comparisons, files=files,
        held_out_labelers=left_out, seed=settings.seed,
    )  # fmt: skip
    return {
        "calibration_error": measured.calibration.error.value,
        "calibration_interval": interval_of(measured.calibration.error),
        "warnings": calibration_warnings(measured.calibration),
        "details": measured.to_json(),
    }


def _measurable(
    settings: PreferenceSettings, scorer: ModelScorer, held_out: HeldOut
) -> tuple[list[Comparison], list[str]]:
    """Comparisons as training counts them: those too long are left out, unless they are cut."""
    comparisons = [item.record for item in held_out.comparisons]
    if settings.long_responses == "cut":
        return comparisons, held_out.files
    kept = set(map(id, that_fit(comparisons, scorer.fits)))
    pairs = [
        (comparison, file)
        for comparison, file in zip(comparisons, held_out.files, strict=True)
        if id(comparison) in kept
    ]
    return [comparison for comparison, _ in pairs], [file for _, file in pairs]


def calibration_warnings(measured: Calibration) -> list[str]:
    """A sentence if predicted preferences do not come true; none if that may be chance."""
    if not measured.is_off:
        return []
    error, expected = measured.error, measured.error_if_calibrated
    temperature = measured.temperature
    assert error.value is not None
    assert error.low is not None
    assert error.high is not None
    assert expected is not None
    said = (
        f"predicted preferences do not come true: calibration error {100 * error.value:.1f} % "
        f"({100 * error.low:.1f} to {100 * error.high:.1f}), {100 * expected:.1f} % would be chance"
    )
    if temperature is None or temperature > USELESS_TEMPERATURE:
        return [f"{said}; the scores say little of these comparisons: look at the accuracy"]
    leaning = "too sure of itself" if temperature > 1 else "not sure enough"
    return [f"{said}; the model is {leaning}: divide its scores by {temperature:.2f}"]
