import json
import math

import numpy as np
import pytest
from scipy import special

from hark.errors import HarkError
from hark.evaluation.calibration import (
    Calibration,
    best_temperature,
    calibration,
    equal_count_bins,
    gap_calibration,
)


def test_error_and_brier_score_worked_by_hand():
    # Two bins. 0.6 came true 1 of 2: |0.5 - 0.6| = 0.1. 0.9 came true 2 of 2: |1 - 0.9| = 0.1.
    # ECE = (2 * 0.1 + 2 * 0.1) / 4 = 0.1. Brier = (0.16 + 0.36 + 0.01 + 0.01) / 4 = 0.135.
    result = calibration([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], bins=2)
    assert result.error.value == pytest.approx(0.1)
    assert result.brier.value == pytest.approx(0.135)
    assert [(b.predicted, b.observed.value, b.observed.n) for b in result.bins] == [
        (pytest.approx(0.6), 0.5, 2),
        (pytest.approx(0.9), 1.0, 2),
    ]


def test_signed_errors_within_a_bin_cancel_before_the_absolute_value():
    # One bin: residuals -0.2 and +0.2 sum to nothing.
    assert calibration([0.2, 0.8], [0, 1], bins=1).error.value == pytest.approx(0.0)


def test_the_error_vanishes_when_labels_are_drawn_from_the_prediction():
    generator = np.random.default_rng(0)
    gaps = generator.normal(scale=2.0, size=8000)
    labels = generator.random(8000) < special.expit(gaps)
    result = gap_calibration(gaps, labels, resamples=200)
    assert result.error.value < 0.02
    assert result.error.low == 0.0
    assert result.error_if_calibrated == pytest.approx(result.error.value, abs=0.008)
    assert result.temperature == pytest.approx(1.0, abs=0.08)


def test_an_overconfident_model_is_found_out():
    generator = np.random.default_rng(1)
    gaps = generator.normal(scale=2.0, size=5000)
    labels = generator.random(5000) < special.expit(gaps / 3)
    result = gap_calibration(gaps, labels, resamples=200)
    assert result.temperature == pytest.approx(3.0, rel=0.1)
    assert result.error.low > 3 * result.error_if_calibrated
    assert result.bins[-1].observed.high < result.bins[-1].predicted


def test_the_interval_covers_an_error_known_in_advance():
    # Every prediction is 0.8 and comes true with 0.7, so that the truth is 0.1.
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(100):
        labels = generator.random(300) < 0.7
        error = calibration(np.full(300, 0.8), labels, resamples=300, seed=trial).error
        covered += error.low <= 0.1 <= error.high
    assert covered >= 89


def test_turning_every_pair_round_changes_nothing():
    generator = np.random.default_rng(3)
    gaps = generator.normal(size=300)
    labels = (generator.random(300) < 0.7).astype(float)
    assert gap_calibration(gaps, labels) == gap_calibration(-gaps, 1 - labels)


def test_a_model_without_favourites_predicts_one_half_and_is_calibrated():
    result = gap_calibration([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    assert result.error.value == 0.0
    assert result.brier.value == 0.25
    assert result.temperature is None


def test_bins_hold_equal_numbers_and_equal_predictions_stay_together():
    assert equal_count_bins(np.arange(10) / 10, 5).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert equal_count_bins(np.array([0.5, 0.5, 0.5, 0.9]), 4).tolist() == [0, 0, 0, 1]


def test_best_temperature_worked_by_hand():
    # All gaps are 2 and 3 of 4 favourites win: sigma(2 / T) = 3/4, so T = 2 / ln 3.
    outcomes = np.array([1.0, 1.0, 1.0, 0.0])
    assert best_temperature(np.full(4, 2.0), outcomes) == pytest.approx(2 / math.log(3))


def test_no_finite_temperature_is_none():
    assert best_temperature(np.array([1.0, 2.0]), np.array([1.0, 1.0])) is None
    assert best_temperature(np.array([1.0, 2.0]), np.array([0.0, 0.0])) is None


def test_what_is_not_a_probability_is_refused():
    with pytest.raises(HarkError, match=r"1 of 2 predicted probabilities are outside 0 to 1"):
        calibration([0.5, 1.5], [1, 0])
    with pytest.raises(HarkError, match="1 of 1 score gaps are not finite"):
        gap_calibration([math.inf], [1])


def test_nothing_and_one_cluster_are_named_states():
    empty = calibration([], [])
    assert (empty.bins, empty.error.state, empty.error_if_calibrated) == (
        (),
        "no observations",
        None,
    )
    single = calibration([0.6, 0.7], [1, 0], clusters=[["a", "a"]])
    assert (single.error.state, single.error.high) == ("one cluster", None)


def test_calibration_survives_json():
    result = gap_calibration([0.3, 1.0, -2.0, 0.5], [1, 1, 0, 0], bins=2)
    assert Calibration.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_only_an_error_beyond_chance_is_off():
    generator = np.random.default_rng(3)
    gaps = generator.normal(0, 2, 2000)
    outcomes = (generator.random(2000) < 1 / (1 + np.exp(-gaps))).astype(float)
    assert not gap_calibration(gaps, outcomes).is_off
    assert gap_calibration(3 * gaps, outcomes).is_off
    assert not gap_calibration([], []).is_off
