"""The bootstrap beside the jackknife: the same centre, about as wide, and as good a cover."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hark.evaluation import bradley_terry
from hark.evaluation.bradley_terry import Design, maximise
from hark.evaluation.elo import Vote, VoteColumns, rate
from hark.evaluation.refitting import refits
from hark.evaluation.rehearsal import PlantedStudy, rehearse

STUDY = PlantedStudy(
    ratings={"A": 1000.0, "B": 1100.0, "C": 1250.0}, labelers=20, votes_per_labeler=40,
    labeler_spread=0.8, first_advantage=0.3, tie_odds=0.5,
)  # fmt: skip


def votes(seed: int = 0) -> list[Vote]:
    return STUDY.draw(np.random.default_rng(seed))


def test_many_maxima_at_once_are_those_found_one_by_one() -> None:
    given = votes()
    games = VoteColumns.of(given).games()
    design = Design.of(games, ties="davidson", order_effect=True)
    counts = np.random.default_rng(1).poisson(games.counts, size=(5, len(games.counts))) * 1.0
    start = np.zeros(design.gap.shape[1])
    together = maximise(design, counts, ridge=1e-3, start=start)
    alone = [maximise(design, row[None], ridge=1e-3, start=start)[0] for row in counts]
    assert together == pytest.approx(np.stack(alone), abs=1e-6)
    for beta, row in zip(together, counts, strict=True):
        slope = design.gradient(beta, row) - 1e-3 * beta
        assert slope == pytest.approx(np.zeros(len(beta)), abs=1e-5)


def test_a_refit_is_the_fit_to_the_votes_that_were_drawn() -> None:
    """Two labelers, of whom one says A and one B three times in four: what is drawn shows which."""
    said = {"x": ("first", "second"), "y": ("second", "first")}
    given = [
        Vote(first="A", second="B", outcome=outcome, labeler=who)  # type: ignore[arg-type]
        for who, (most, least) in said.items()
        for outcome in (most, most, most, least)
    ]
    games = VoteColumns.of(given).games()
    fitted = bradley_terry.fit(games, ties="half", order_effect=False, ridge=1e-8)
    found = refits(fitted, VoteColumns.of(given).clusters("labeler"), resamples=200, seed=0)
    gaps = found[:, 0] - found[:, 1]
    expected = {0.0, math.log(3), -math.log(3)}
    assert {min(expected, key=lambda one: abs(one - gap)) for gap in gaps} == expected
    assert max(min(abs(gap - one) for one in expected) for gap in gaps) < 1e-3


def test_bootstrap_and_jackknife_agree_on_an_ordinary_study() -> None:
    jackknife, bootstrap = (
        rate(votes(), intervals=way, resamples=800).of("C").elo  # type: ignore[arg-type]
        for way in ("jackknife", "bootstrap")
    )
    assert bootstrap.value == jackknife.value
    ours = (bootstrap.high or 0.0) - (bootstrap.low or 0.0)
    theirs = (jackknife.high or 0.0) - (jackknife.low or 0.0)
    assert ours == pytest.approx(theirs, rel=0.2)
    assert ours != theirs


def test_the_same_seed_draws_the_same_interval() -> None:
    def drawn(seed: int) -> float | None:
        return rate(votes(), intervals="bootstrap", resamples=100, seed=seed).of("B").elo.low

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_states_do_not_depend_on_the_way_to_intervals() -> None:
    one = [
        Vote(first="A", second="B", outcome=outcome, labeler="x")  # type: ignore[arg-type]
        for outcome in ("first", "second")
    ]
    assert rate(one, order_effect=False, intervals="bootstrap").of("B").elo.state == "one cluster"
    alike = [
        Vote(first="A", second="B", outcome=outcome, labeler=who)  # type: ignore[arg-type]
        for who in "abc"
        for outcome in ("first", "second", "first")
    ]
    found = rate(alike, order_effect=False, intervals="bootstrap").of("B").elo
    assert (found.state, found.low) == ("no variation", None)


def test_bootstrap_intervals_hold_planted_ratings_as_often_as_they_say() -> None:
    """80 studies: within two and a half standard errors of 95 %."""
    found = rehearse(
        STUDY,
        lambda given: rate(given, intervals="bootstrap", resamples=200),
        ties="davidson", order_effect=True, studies=80, seed=5,
    )  # fmt: skip
    assert found.held.value == pytest.approx(0.95, abs=2.5 * math.sqrt(0.95 * 0.05 / 80))
    assert found.undefined == 0
    assert abs(found.error.value or 0.0) < 10
