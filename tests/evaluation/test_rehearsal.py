"""Planted studies: votes as planted, the truth as all labelers have it, intervals held to it."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

from hark.evaluation.elo import Ratings, Vote, rate, score_difference_of_elo
from hark.evaluation.rehearsal import PlantedStudy, rehearse

ALIKE = PlantedStudy(
    ratings={"A": 1000.0, "B": 1120.0}, labelers=50, votes_per_labeler=200, labeler_spread=0.0,
    first_advantage=0.4, tie_odds=0.5,
)  # fmt: skip


def test_chances_by_hand() -> None:
    """A gap of ln 9 and ν = 2 are odds of 3 : 1/3 : 2, as in the test of the fit."""
    study = PlantedStudy(
        ratings={"A": 1000.0, "B": 1000.0}, labelers=1, votes_per_labeler=1, labeler_spread=0.0,
        tie_odds=2.0,
    )  # fmt: skip
    assert study.chances(np.array(math.log(9))) == pytest.approx([9 / 16, 1 / 16, 6 / 16])


def test_votes_come_as_planted() -> None:
    votes = ALIKE.draw(np.random.default_rng(0))
    assert len(votes) == 10_000
    assert {(vote.first, vote.second) for vote in votes} == {("A", "B"), ("B", "A")}
    assert len({vote.labeler for vote in votes}) == 50
    gap = score_difference_of_elo(120.0)
    shown_first = [vote.outcome for vote in votes if vote.first == "B"]
    shares = collections.Counter(shown_first)
    expected = ALIKE.chances(np.array(gap))
    for outcome, chance in zip(("first", "second", "tie"), expected, strict=True):
        assert shares[outcome] / len(shown_first) == pytest.approx(chance, abs=0.025)


def test_where_labelers_are_alike_the_truth_is_what_was_planted() -> None:
    """β: two strengths with mean 0, the first place, ln ν."""
    half = score_difference_of_elo(120.0) / 2
    expected = [-half, half, 0.4, math.log(0.5)]
    assert ALIKE.truth(ties="davidson", order_effect=True) == pytest.approx(expected, abs=1e-5)


def test_where_labelers_differ_the_truth_is_nearer_to_even() -> None:
    study = PlantedStudy(
        ratings={"A": 1000.0, "B": 1200.0}, labelers=9, votes_per_labeler=9, labeler_spread=0.8
    )
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    planted = score_difference_of_elo(200.0)
    share = float((weights / weights.sum()) @ (1 / (1 + np.exp(-(planted + 0.8 * nodes)))))
    low, high = study.truth(ties="half", order_effect=False)
    assert high - low == pytest.approx(math.log(share / (1 - share)), abs=1e-5)
    assert high - low < planted


def test_intervals_too_short_are_found_out() -> None:
    """Votes taken for independent, where labelers differ, hold the truth far too seldom."""
    study = PlantedStudy(
        ratings={"A": 1000.0, "B": 1100.0}, labelers=10, votes_per_labeler=60, labeler_spread=1.0
    )

    def naive(votes: list[Vote]) -> Ratings:
        nobody = [Vote(first=v.first, second=v.second, outcome=v.outcome) for v in votes]
        return rate(nobody, ties="half", order_effect=False)

    found = rehearse(
        study,
        naive,
        ties="half",
        order_effect=False,
        studies=30,
        seed=0,  # type: ignore[arg-type]
    )
    assert found.held.high is not None
    assert found.held.high < 0.9


def test_intervals_that_are_not_there_are_counted() -> None:
    study = PlantedStudy(
        ratings={"A": 1000.0, "B": 3000.0}, labelers=3, votes_per_labeler=3, labeler_spread=0.0
    )
    found = rehearse(
        study, lambda votes: rate(votes, order_effect=False), ties="davidson", order_effect=False,
        studies=5, seed=0,
    )  # fmt: skip
    assert found.undefined == 5
    assert found.held.state == "no observations"
