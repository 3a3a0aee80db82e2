"""Verdicts follow from intervals, and reasons from verdicts."""

from __future__ import annotations

import pytest

from hark.evaluation.intervals import Estimate, exact
from hark.loop.studies.seeds import mean_over_seeds
from hark.report.effects import above, because, below, within


def between(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, n=3, clusters=3)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "reason"),
    [
        (0.8, 0.9, "reproduced", "The interval lies wholly above 0.7."),
        (0.5, 0.6, "not reproduced", "The interval has no part above 0.7."),
        (0.5, 0.9, "cannot be seen", "The interval is only partly above 0.7."),
    ],
)
def test_an_interval_decides(low: float, high: float, verdict: str, reason: str) -> None:
    estimate = between(low, high)
    assert above(estimate, 0.7) == verdict
    assert because(estimate, above(estimate, 0.7), "above 0.7") == reason
    opposite = {"reproduced": "not reproduced", "not reproduced": "reproduced"}
    assert below(estimate, 0.7) == opposite.get(verdict, verdict)


@pytest.mark.parametrize("estimate", [mean_over_seeds([1.0, 1.0, 1.0]), exact(1.0)])
def test_a_number_that_does_not_vary_decides_by_itself(estimate: Estimate) -> None:
    assert above(estimate, 0.8) == "reproduced"
    assert below(estimate, 0.8) == "not reproduced"
    assert above(estimate, 1.0) == "cannot be seen"
    said = because(estimate, "reproduced", "above 0.8")
    assert said == f"The number, {estimate.state}, lies above 0.8."


def test_a_single_seed_decides_nothing() -> None:
    estimate = mean_over_seeds([5.0])
    assert above(estimate, 0.0) == "cannot be seen"
    assert because(estimate, "cannot be seen", "above 0") == (
        "There is no interval to judge by: one cluster."
    )


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.9, 1.1, "reproduced"), (0.7, 1.3, "cannot be seen"), (1.3, 1.4, "not reproduced"),
     (0.5, 0.7, "not reproduced")],
)  # fmt: skip
def test_inside_needs_the_whole_interval(low: float, high: float, verdict: str) -> None:
    assert within(between(low, high), 0.8, 1.2) == verdict
