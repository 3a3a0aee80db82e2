"""Verdicts follow from intervals, and reasons from verdicts."""

from __future__ import annotations

import pytest

from hark.evaluation.intervals import Estimate, exact
from hark.loop.studies.seeds import mean_over_seeds
from hark.report.effects import judged


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
    found = judged(estimate, above=0.7)
    assert found["verdict"] == verdict
    assert found["reason"] == reason
    assert found["rule"] == "reproduced if the whole interval is above 0.7"
    assert found["estimate"] is estimate
    opposite = {"reproduced": "not reproduced", "not reproduced": "reproduced"}
    assert judged(estimate, below=0.7)["verdict"] == opposite.get(verdict, verdict)


@pytest.mark.parametrize("estimate", [mean_over_seeds([1.0, 1.0, 1.0]), exact(1.0)])
def test_a_number_that_does_not_vary_decides_by_itself(estimate: Estimate) -> None:
    assert judged(estimate, below=0.8)["verdict"] == "not reproduced"
    assert judged(estimate, above=1.0)["verdict"] == "cannot be seen"
    found = judged(estimate, above=0.8, further="Beside it stood 3.")
    assert found["verdict"] == "reproduced"
    said = f"The number, {estimate.state}, lies above 0.8. Beside it stood 3."
    assert found["reason"] == said


def test_a_single_seed_decides_nothing() -> None:
    found = judged(mean_over_seeds([5.0]), above=0.0)
    assert found["verdict"] == "cannot be seen"
    assert found["reason"] == "There is no interval to judge by: one cluster."


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.9, 1.1, "reproduced"), (0.7, 1.3, "cannot be seen"), (1.3, 1.4, "not reproduced"),
     (0.5, 0.7, "not reproduced")],
)  # fmt: skip
def test_inside_needs_the_whole_interval(low: float, high: float, verdict: str) -> None:
    assert judged(between(low, high), above=0.8, below=1.2)["verdict"] == verdict


def test_a_rule_says_its_region() -> None:
    estimate = between(0.0, 0.01)
    assert judged(estimate, above=-0.02)["rule"].endswith("is above −0.02")
    assert judged(estimate, above=-10, below=10)["rule"].endswith("is within ±10")
    assert judged(estimate, above=0.92, below=0.97)["rule"].endswith("is between 0.92 and 0.97")
