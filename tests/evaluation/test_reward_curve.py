import numpy as np
import pytest

from hark.errors import HarkError
from hark.evaluation.reward_curve import fit_square_root


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
