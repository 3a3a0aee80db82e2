import math

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
    assert fit.per_size == pytest.approx(0.007)
    assert fit.per_data == pytest.approx(0.015)
    assert (fit.parameters, fit.comparisons) == (pytest.approx(1e6), pytest.approx(1000))
    assert fit.accuracy == pytest.approx(0.6)
    assert fit.at(1e8, 8000) == pytest.approx(plane(1e8, 8000))


def test_the_slope_is_that_of_least_squares_and_of_what_varies():
    # y = 1, 2, 4 at ln D = 0, 1, 2: mean 7/3, slope (4 − 1)/2.
    fit = fit_accuracy([1, 2, 4], [5, 5, 5], [math.exp(n) for n in range(3)])
    assert fit.per_data == pytest.approx(1.5)
    assert fit.accuracy == pytest.approx(7 / 3)
    assert fit.per_size is None


def test_too_few_trainings_and_sizes_below_zero_are_refused():
    with pytest.raises(HarkError, match="2 trainings do not tell 3 coefficients apart"):
        fit_accuracy([0.5, 0.6], [1e5, 1e6], [100, 1000])
    with pytest.raises(HarkError, match="numbers of comparisons must be positive, got 0"):
        fit_accuracy([0.5, 0.6, 0.7], [1, 1, 1], [0, 10, 100])
