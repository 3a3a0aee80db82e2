import numpy as np
import pytest

from hark.errors import HarkError
from hark.evaluation.reward_curve import RewardCurve, fit_square_root, reward_curve


def test_a_planted_square_root_law_is_found_and_beats_a_line_in_the_divergence():
    nats = np.linspace(0, 16, 30)
    fit = fit_square_root(nats, 0.5 + 2 * np.sqrt(nats))
    assert (fit.slope, fit.intercept) == (pytest.approx(2.0), pytest.approx(0.5))
    assert fit.r_squared == pytest.approx(1.0)
    assert fit.r_squared_of_divergence < 0.97
    assert fit.points == 30


def test_explained_variance_worked_by_hand():
    # Roots 0, 1, 2 and rewards 0, 2, 1: correlation 1 / (sqrt(2) sqrt(2)) = 1/2.
    fit = fit_square_root([0.0, 1.0, 4.0], [0.0, 2.0, 1.0])
    assert fit.r_squared == pytest.approx(0.25)


def test_negative_estimates_count_as_zero():
    assert fit_square_root([-0.3, 1.0, 4.0], [0.0, 1.0, 2.0]) == fit_square_root(
        [0.0, 1.0, 4.0], [0.0, 1.0, 2.0]
    )


def test_nothing_to_fit_is_none():
    assert fit_square_root([1.0, 2.0], [1.0, 2.0]) is None
    assert fit_square_root([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert fit_square_root([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) is None
    with pytest.raises(HarkError, match="1 of 3 divergences are not finite"):
        fit_square_root([1.0, np.nan, 2.0], [1.0, 2.0, 3.0])


def test_a_curve_has_intervals_and_says_which_description_is_better():
    draw = np.random.default_rng(0)
    nats = np.linspace(0.05, 25, 120)
    noise = draw.normal(scale=0.05, size=120)
    law = reward_curve(nats, 1.0 + 0.5 * np.sqrt(nats) + noise)
    assert law.slope.low < 0.5 < law.slope.high
    assert law.advantage.low > 0
    assert law.slope.clusters == 12
    line = reward_curve(nats, 1.0 + 0.1 * nats + noise)
    assert line.advantage.high < 0
    assert line.slope_of_divergence.low < 0.1 < line.slope_of_divergence.high
    assert RewardCurve.from_json(line.to_json()) == line


def test_few_steps_have_a_curve_without_intervals():
    few = reward_curve([0.0, 1.0, 4.0, 9.0], [0.0, 1.0, 2.0, 3.5])
    assert few.slope.state == "one cluster"
    assert few.slope.value == pytest.approx(fit_square_root([0, 1, 4, 9], [0, 1, 2, 3.5]).slope)
    assert reward_curve([1.0, 1.0], [0.0, 1.0]) is None
