"""Elo by scores, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from hark.errors import HarkError
from hark.evaluation import elo
from hark.evaluation.intervals import Estimate
from hark.evaluation.score_elo import ScoreElo, over_estimate, score_elo


def test_a_score_of_0_69_is_120_elo_and_66_6_percent_of_wins() -> None:
    """The paper's own example, from scores to Elo to wins."""
    found = {
        one.model: one
        for one in score_elo({"weak": [0.1] * 8, "strong": [0.79] * 8}, range(8), anchor="weak")
    }
    rating = found["strong"].from_gap.value
    assert rating is not None
    assert rating - 1000 == pytest.approx(120, abs=0.2)
    assert elo.win_probability_of_elo(rating - 1000) == pytest.approx(0.666, abs=5e-4)
    assert found["strong"].from_odds.value == pytest.approx(rating)
    assert (found["weak"].from_gap.value, found["weak"].from_gap.state) == (1000.0, "exact")


def test_uneven_gaps_promise_more_by_their_mean_than_by_their_odds() -> None:
    """Gaps ln 3 and ln 3 − ln 9: shares 3/4 and 1/4 are even, and so is the mean gap of 0. Gaps
    ln 9 and 0: shares 9/10 and 1/2 are 0.7, odds of 7/3, where the mean gap has odds of 3."""
    even = score_elo({"a": [0.0, 0.0], "b": [math.log(3), -math.log(3)]}, [0, 1], anchor="a")[1]
    assert even.from_gap.value == pytest.approx(1000)
    assert even.from_odds.value == pytest.approx(1000)
    uneven = score_elo({"a": [0.0, 0.0], "b": [math.log(9), 0.0]}, [0, 1], anchor="a")[1]
    assert uneven.score.value == pytest.approx(math.log(3))
    assert uneven.from_gap.value == pytest.approx(1000 + elo.ELO_PER_LOGIT * math.log(3))
    assert uneven.from_odds.value == pytest.approx(1000 + elo.ELO_PER_LOGIT * math.log(7 / 3))


def test_intervals_are_by_prompt_and_come_back_from_json() -> None:
    scores = {"a": [0.0] * 6, "b": [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]}
    found = score_elo(scores, [0, 0, 1, 1, 2, 2], anchor="a")[1]
    assert found.score.clusters == 3
    low, high = (elo.ELO_PER_LOGIT * end + 1000 for end in (found.score.low, found.score.high))  # type: ignore[operator]
    assert (found.from_gap.low, found.from_gap.high) == pytest.approx((low, high))
    assert ScoreElo.from_json(found.to_json()) == found


def test_over_estimate_by_hand() -> None:
    """1100 (1060 to 1130) less 1050 (1020 to 1090): 50, down √(40² + 40²), up √(30² + 30²)."""
    predicted = Estimate(value=1100.0, low=1060.0, high=1130.0, n=9, clusters=9)
    measured = Estimate(value=1050.0, low=1020.0, high=1090.0, n=80, clusters=20)
    found = over_estimate(predicted, measured)
    assert found.value == 50.0
    assert found.low == pytest.approx(50 - math.hypot(40, 40))
    assert found.high == pytest.approx(50 + math.hypot(30, 30))
    assert found.clusters == 9
    alone = Estimate(value=1050.0, low=None, high=None, n=80, clusters=1, state="one cluster")
    assert over_estimate(predicted, alone).state == "one cluster"
    assert over_estimate(predicted, alone).value == 50.0
    missing = Estimate(value=None, low=None, high=None, n=0, clusters=0, state="no observations")
    assert over_estimate(predicted, missing).value is None


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(HarkError, match="1 of 2 scores of 'b' are not finite"):
        score_elo({"a": [0.0, 0.0], "b": [0.0, math.nan]}, [0, 1], anchor="a")
