from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hark.errors import DataError
from hark.evaluation.best_of import BestOf, best_of_curve, best_of_n_values


def test_the_mean_over_all_subsets_by_hand() -> None:
    # Scores order the values 10, 0, 4. Best of 2: subsets {10, 0}, {10, 4}, {0, 4} give 0, 4, 4.
    scores, values = [[1.0, 2.0, 3.0]], [[10.0, 0.0, 4.0]]
    assert best_of_n_values(scores, values, 1).tolist() == [pytest.approx(14 / 3)]
    assert best_of_n_values(scores, values, 2).tolist() == [pytest.approx(8 / 3)]
    assert best_of_n_values(scores, values, 3).tolist() == [pytest.approx(4.0)]


def test_it_is_what_enumerating_every_subset_gives() -> None:
    draw = np.random.default_rng(0)
    scores, values = draw.normal(size=(4, 7)), draw.normal(size=(4, 7))
    for n in range(1, 8):
        every = [
            np.mean([of[max(subset, key=lambda i: by[i])] for subset in subsets])
            for by, of in zip(scores, values, strict=True)
            for subsets in [list(itertools.combinations(range(7), n))]
        ]
        assert best_of_n_values(scores, values, n) == pytest.approx(np.array(every))


def test_more_than_were_drawn_is_refused() -> None:
    with pytest.raises(DataError, match="best of 4 cannot be told from 3 draws"):
        best_of_n_values([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], 4)


def test_a_curve_of_normal_scores_rises_as_order_statistics_do() -> None:
    draws = np.random.default_rng(1).normal(size=(3000, 16))
    curve = best_of_curve(draws, -draws, [1, 2, 16], prompts=range(3000))
    # The expected largest of 2 standard normals is 1/√π, of 16 it is 1.766 (Harter 1961).
    for point, expected in zip(curve, (0.0, 1 / math.sqrt(math.pi), 1.766), strict=True):
        low, high = point.preference.low, point.preference.high
        assert low is not None
        assert high is not None
        assert low - 0.01 < expected < high + 0.01
        assert point.judge.value == pytest.approx(-(point.preference.value or 0.0))
        assert BestOf.from_json(point.to_json()) == point
    assert curve[0].divergence == 0.0
    assert curve[2].divergence == pytest.approx(math.log(16) - 15 / 16)
