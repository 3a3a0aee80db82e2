"""Areas under the ROC curve with honest intervals; a direction learned from few outliers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from hark.errors import HarkError
from hark.evaluation.out_of_distribution import (
    LayerAreas,
    area_under_roc,
    areas_at_layer,
    outlier_exposure,
    share_above,
    threshold_for,
)
from hark.models.outlier_detector import Gaussian


def test_the_area_counts_pairs_and_halves_ties() -> None:
    # Pairs (ordinary, outlier): 1<3, 1<2, 2<3 won, 2=2 tied: 3.5 of 4.
    assert area_under_roc([1.0, 2.0], [3.0, 2.0]).value == pytest.approx(3.5 / 4)
    assert area_under_roc([], [1.0]).value is None
    assert area_under_roc([0.0], [1.0]).state == "one cluster"
    with pytest.raises(HarkError, match="1 of 2 scores of outliers are not finite"):
        area_under_roc([0.0], [1.0, np.nan])


def test_perfect_separation_still_has_an_interval() -> None:
    found = area_under_roc(np.zeros(30), np.ones(20))
    assert found.value == 1.0
    assert found.low == pytest.approx(1 / (1 + 1.959964**2 / 20), abs=1e-5)
    assert found.high == 1.0


def test_intervals_hold_the_true_area_about_95_times_in_a_hundred() -> None:
    generator = np.random.default_rng(0)
    truth = float(special.ndtr(1.2 / np.sqrt(2)))
    held = 0
    for _ in range(600):
        found = area_under_roc(generator.normal(size=60), generator.normal(1.2, size=25))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 0.925 <= held / 600 <= 0.975


def test_the_threshold_refuses_no_more_than_the_allowed_share() -> None:
    scores = np.arange(100.0)
    threshold = threshold_for(scores, 0.05)
    assert (scores > threshold).sum() == 5
    assert share_above(scores, threshold).value == pytest.approx(0.05)
    assert (scores > threshold_for(scores, 0.0)).sum() == 0


def test_a_few_outliers_show_the_direction_that_many_ordinary_prompts_hide() -> None:
    generator = np.random.default_rng(1)
    ordinary = generator.normal(size=(400, 6)) * np.array([1, 1, 1, 1, 1, 100.0])
    outliers = generator.normal(size=(60, 6)) * np.array([1, 1, 1, 1, 1, 100.0])
    outliers[:, 2] += 2.0
    direction = outlier_exposure(ordinary[:300], outliers[:10])
    scaled = np.abs(direction * ordinary.std(axis=0))
    assert scaled.argmax() == 2
    found = area_under_roc(ordinary[300:] @ direction, outliers[10:] @ direction)
    assert found.value is not None
    assert found.value > 0.8
    assert direction[2] > 0


def test_every_method_is_measured_at_a_layer_and_survives_json() -> None:
    generator = np.random.default_rng(2)
    ordinary, outliers = generator.normal(size=(200, 4)), generator.normal(1.0, size=(50, 4))
    gaussian = Gaussian.fit(ordinary[:100], shrinkage=0.0)
    found = areas_at_layer(3, gaussian, {5: np.ones(4)}, ordinary[100:], outliers)
    assert found.layer == 3
    assert found.exposed[5] == area_under_roc(ordinary[100:].sum(axis=1), outliers.sum(axis=1))
    assert found.mahalanobis.value is not None
    assert found.mahalanobis.value > 0.6
    assert LayerAreas.from_json(found.to_json()) == found
