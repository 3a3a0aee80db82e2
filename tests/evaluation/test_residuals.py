"""Residuals of pairs: little where strengths explain all, much where wins go in a circle."""

from __future__ import annotations

import numpy as np
import pytest

from hark.evaluation.elo import Ratings, Vote, rate
from hark.evaluation.matchups import Matchup, matchups
from hark.evaluation.rehearsal import PlantedStudy
from hark.evaluation.residuals import PairFit, pair_fits


def fits(ratings: Ratings) -> dict[tuple[str, str], PairFit]:
    assert ratings.strengths is not None
    return pair_fits(ratings.strengths)


def circle(wins: int, losses: int) -> list[Vote]:
    """Rock beats scissors, scissors paper, paper rock; four labelers who lean alike."""
    beats = (("rock", "scissors"), ("scissors", "paper"), ("paper", "rock"))
    return [
        Vote(first=first, second=second, outcome=outcome, labeler=str(labeler))  # type: ignore[arg-type]
        for labeler in range(12)
        for one, other in beats
        for first, second, won, lost in ((one, other, "first", "second"),
                                         (other, one, "second", "first"))
        for outcome in [won] * (wins + labeler % 2) + [lost] * losses
    ]  # fmt: skip


def test_a_circle_is_predicted_to_be_even_and_is_far_off() -> None:
    found = fits(rate(circle(3, 1), ties="half"))
    pair = found["rock", "scissors"]
    assert pair.predicted == pytest.approx(0.5, abs=1e-6)
    assert pair.residual is not None
    assert pair.residual > 5
    turned = found["scissors", "rock"]
    assert turned.predicted == pytest.approx(1 - pair.predicted)
    assert turned.residual == pytest.approx(-pair.residual)


def test_two_models_cannot_deviate() -> None:
    votes = [vote for vote in circle(3, 1) if {vote.first, vote.second} == {"rock", "paper"}]
    pair = fits(rate(votes, ties="half"))["paper", "rock"]
    assert pair.predicted == pytest.approx(0.78, abs=0.01)  # 3 or 4 wins to 1 loss: 7 of 9
    assert pair.residual is None


def test_residuals_of_planted_ratings_are_of_size_one() -> None:
    """Over 40 studies of four models whose labelers differ: mean square near 1."""
    study = PlantedStudy(
        ratings={"A": 1000.0, "B": 1080.0, "C": 1160.0, "D": 1240.0}, labelers=100,
        votes_per_labeler=20, labeler_spread=0.6, tie_odds=0.4, first_advantage=0.2,
    )  # fmt: skip
    squares = [
        pair.residual**2
        for seed in range(40)
        for pair in fits(rate(study.draw(np.random.default_rng(seed)))).values()
        if pair.residual is not None
    ]
    assert len(squares) == 40 * 12
    assert np.mean(squares) == pytest.approx(1.0, abs=0.3)


def test_a_labeler_who_says_everything_ten_times_makes_nothing_surer() -> None:
    votes = circle(2, 1)
    once = fits(rate(votes, ties="half"))["rock", "paper"].residual
    often = fits(rate(votes * 10, ties="half"))["rock", "paper"].residual
    assert often == pytest.approx(once, rel=1e-2)


def test_matchups_carry_the_fit_and_come_back_from_json() -> None:
    votes = circle(3, 1)
    table = matchups(votes, ratings=rate(votes, ties="half"), resamples=50)
    assert all(one.fit is not None for one in table)
    assert [Matchup.from_json(one.to_json()) for one in table] == table
    plain = matchups(votes, resamples=50)
    assert [Matchup.from_json(one.to_json()) for one in plain] == plain
    assert plain[0].fit is None
