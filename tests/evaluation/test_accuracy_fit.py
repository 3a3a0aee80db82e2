import math

import numpy as np
import pytest

from hark.errors import HarkError
from hark.evaluation.accuracy_fit import fit_accuracy

SIZES = (1e5, 1e6, 1e7)
AMOUNTS = (250, 1000, 4000)
GRID = [(size, amount) for size in SIZES for amount in AMOUNTS]


def plane(size: float, amount: float) -> float:
    """Bai et al.'s slopes, about 0.6 at a million parameters and a thousand comparisons."""
    return 0.6 + 0.007 * math.log(size / 1e6) + 0.015 * math.log(amount / 1000)


def test_a_plane_without_noise_is_recovered_exactly():
    fit = fit_accuracy([plane(*point) for point in GRID], *zip(*GRID, strict=True))
    assert fit.per_size.value == pytest.approx(0.007)
    assert fit.per_data.value == pytest.approx(0.015)
    assert (fit.parameters, fit.comparisons) == (pytest.approx(1e6), pytest.approx(1000))
    assert fit.accuracy.value == pytest.approx(0.6)
    assert fit.residual_deviation == pytest.approx(0, abs=1e-12)
    assert fit.at(1e8, 8000) == pytest.approx(plane(1e8, 8000))


def test_the_interval_is_that_of_least_squares():
    # y = 1, 2, 4 at ln D = 0, 1, 2: slope 1.5, residuals 1/6, −1/3, 1/6, variance 1/6 with one
    # degree of freedom, error of the slope √(1/12); t(1) at 97.5 % is 12.706.
    fit = fit_accuracy([1, 2, 4], [5, 5, 5], [math.exp(n) for n in range(3)])
    assert fit.per_data.value == pytest.approx(1.5)
    assert fit.per_data.high - 1.5 == pytest.approx(12.7062 * math.sqrt(1 / 12), rel=1e-4)
    assert fit.residual_deviation == pytest.approx(math.sqrt(1 / 6))
    assert (fit.per_size.value, fit.per_size.state) == (None, "not identified")


def test_stated_intervals_hold_the_planted_slopes():
    generator = np.random.default_rng(7)
    held = {"per_size": 0, "per_data": 0}
    trials = 600
    for _ in range(trials):
        observed = [plane(*point) + generator.normal(0, 0.02) for point in GRID for _ in range(3)]
        repeated = [point for point in GRID for _ in range(3)]
        fit = fit_accuracy(observed, *zip(*repeated, strict=True))
        for name, truth in (("per_size", 0.007), ("per_data", 0.015)):
            estimate = getattr(fit, name)
            held[name] += estimate.low <= truth <= estimate.high
    # Three standard errors of 95 % in 600 trials are 2.7 points.
    assert all(0.923 <= count / trials <= 0.977 for count in held.values())


def test_too_few_trainings_and_sizes_below_zero_are_refused():
    with pytest.raises(HarkError, match="2 trainings cannot tell noise from 2 coefficients"):
        fit_accuracy([0.5, 0.6], [1e5, 1e5], [100, 1000])
    with pytest.raises(HarkError, match="numbers of comparisons must be positive, got 0"):
        fit_accuracy([0.5, 0.6, 0.7], [1, 1, 1], [0, 10, 100])
