"""Ratings against values worked out by hand, and intervals against what they promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from hark.errors import HarkError
from hark.evaluation import bradley_terry, elo
from hark.evaluation.elo import Outcome, Ratings, Vote, rate

BOTH_PLACES = [("A", "B"), ("B", "A")]


def votes(first: str, second: str, outcome: Outcome, count: int, **said: str) -> list[Vote]:
    return [Vote(first=first, second=second, outcome=outcome, **said) for _ in range(count)]


def gap(ratings: Ratings, model: str, other: str) -> float:
    """In logits."""
    ours, theirs = ratings.of(model).elo.value, ratings.of(other).elo.value
    assert ours is not None
    assert theirs is not None
    return elo.score_difference_of_elo(ours - theirs)


def test_three_wins_to_one_are_odds_of_three() -> None:
    given = votes("A", "B", "first", 3) + votes("A", "B", "second", 1)
    ratings = rate(given, order_effect=False, ridge=1e-8)
    assert gap(ratings, "A", "B") == pytest.approx(math.log(3), abs=1e-6)
    assert ratings.of("A").elo.value == elo.ANCHOR_ELO
    assert ratings.win_probability("A", "B").value == pytest.approx(0.75, abs=1e-6)


def test_davidson_by_hand() -> None:
    """Shares 9/16, 1/16, 6/16 are odds of 3 : 1/3 : ν, so that the gap is ln 9 and ν is 2."""
    given = [
        *votes("A", "B", "first", 9), *votes("A", "B", "second", 1), *votes("A", "B", "tie", 6),
    ]  # fmt: skip
    ratings = rate(given, order_effect=False, ridge=1e-8)
    assert gap(ratings, "A", "B") == pytest.approx(math.log(9), abs=1e-6)
    assert ratings.tie_odds is not None
    assert ratings.tie_odds.value == pytest.approx(2.0, abs=1e-6)


def test_ties_as_halves() -> None:
    given = votes("A", "B", "first", 5) + votes("A", "B", "tie", 2)
    ratings = rate(given, ties="half", order_effect=False, ridge=1e-8)
    assert gap(ratings, "A", "B") == pytest.approx(math.log(6), abs=1e-6)
    assert ratings.tie_odds is None


def test_the_advantage_of_the_first_place_is_no_strength() -> None:
    """First in 3 of 4, whoever it is: equal strengths, and an advantage of ln 3."""
    given = [
        vote
        for first, second in BOTH_PLACES
        for vote in votes(first, second, "first", 3) + votes(first, second, "second", 1)
    ]
    ratings = rate(given, ridge=1e-8)
    assert gap(ratings, "A", "B") == pytest.approx(0.0, abs=1e-6)
    assert ratings.first_advantage is not None
    assert ratings.first_advantage.value == pytest.approx(math.log(3), abs=1e-6)


def test_an_order_that_never_changes_cannot_be_told_from_strength() -> None:
    given = votes("A", "B", "first", 3) + votes("A", "B", "second", 1)
    assert rate(given).of("B").elo.state == "not identified"
    assert rate(given, order_effect=False).of("B").elo.state == "defined"


def test_a_model_against_itself_tells_of_the_order_alone() -> None:
    given = [
        *votes("A", "A", "first", 3), *votes("A", "A", "second", 1),
        *votes("A", "B", "first", 3), *votes("A", "B", "second", 1),
    ]  # fmt: skip
    ratings = rate(given, ridge=1e-8)
    assert ratings.first_advantage is not None
    assert ratings.first_advantage.value == pytest.approx(math.log(3), abs=1e-6)
    assert gap(ratings, "A", "B") == pytest.approx(0.0, abs=1e-6)
    assert (ratings.of("A").wins, ratings.of("A").losses) == (3, 1)


def test_who_wins_every_vote_is_finite_and_said_to_be_unbounded() -> None:
    ratings = rate(votes("A", "B", "first", 10), order_effect=False)
    best = ratings.of("B").elo
    assert best.value is not None
    assert -3000 < best.value < 1000
    assert (best.low, best.high, best.state) == (None, None, "unbounded")


def test_ties_do_not_bound_who_never_loses() -> None:
    """In Davidson's model, that is; as halves they do."""
    given = votes("A", "B", "first", 3) + votes("A", "B", "tie", 3)
    assert rate(given, order_effect=False).of("B").elo.state == "unbounded"
    assert rate(given, order_effect=False, ties="half").of("B").elo.state == "defined"


def test_a_circle_of_wins_is_bounded() -> None:
    given = [
        *votes("A", "B", "first", 2), *votes("B", "C", "first", 2), *votes("C", "A", "first", 2),
    ]  # fmt: skip
    ratings = rate(given, order_effect=False)
    assert {one.elo.state for one in ratings.ratings} == {"exact", "defined"}
    assert gap(ratings, "A", "C") == pytest.approx(0.0, abs=1e-6)


def test_islands_are_not_compared() -> None:
    given = [
        vote
        for one, other in (("A", "B"), ("C", "D"))
        for outcome in ("first", "second")
        for vote in votes(one, other, outcome, 2)  # type: ignore[arg-type]
    ]
    ratings = rate(given, order_effect=False)
    assert ratings.of("B").elo.state == "defined"
    assert ratings.of("C").elo.state == "not identified"
    assert ratings.win_probability("C", "D").state == "defined"


def test_a_model_without_votes_has_no_value() -> None:
    given = votes("A", "B", "first", 1) + votes("A", "B", "second", 1)
    ratings = rate(given, models=["Z"], order_effect=False)
    assert ratings.ratings[-1].model == "Z"
    assert ratings.of("Z").elo.value is None
    assert ratings.of("Z").elo.state == "no observations"
    assert ratings.win_probability("A", "Z").state == "no observations"
    assert rate([], models=["A"]).of("A").elo.state == "no observations"


def test_what_one_labeler_says_has_no_interval() -> None:
    """Neither with one labeler in all, nor with one who alone has seen a model."""
    crowd = [
        vote
        for labeler in ("x", "y", "z")
        for outcome, count in (("first", 3), ("second", 2 + (labeler == "x")))
        for vote in votes("A", "B", outcome, count, labeler=labeler)  # type: ignore[arg-type]
    ]
    alone = votes("A", "C", "first", 3, labeler="x") + votes("A", "C", "second", 2, labeler="x")
    ratings = rate(crowd + alone, order_effect=False)
    assert ratings.of("B").elo.state == "defined"
    assert ratings.of("C").elo.state == "one cluster"
    assert rate(alone, order_effect=False).of("C").elo.state == "one cluster"


def test_labelers_who_all_say_the_same_show_no_variation() -> None:
    given = [
        vote
        for labeler in "abc"
        for vote in votes("A", "B", "first", 3, labeler=labeler)
        + votes("A", "B", "second", 1, labeler=labeler)
    ]
    assert rate(given, order_effect=False).of("B").elo.state == "no variation"


def test_the_anchor_moves_ratings_together() -> None:
    given = simulated(np.random.default_rng(0), labelers=8, each=40, strengths=(0.0, 0.5, 1.0))
    ours, theirs = rate(given, anchor="0"), rate(given, anchor="2")
    assert theirs.of("2").elo.value == elo.ANCHOR_ELO
    assert gap(ours, "0", "1") == pytest.approx(gap(theirs, "0", "1"))
    with pytest.raises(HarkError, match="the anchor 'x' is none of the models"):
        rate(given, anchor="x")


def test_win_probability_is_the_scale_turned_round() -> None:
    given = simulated(np.random.default_rng(1), labelers=8, each=40, strengths=(0.0, 0.5, 1.0))
    ratings = rate(given)
    rating, chance = ratings.of("2").elo, ratings.win_probability("2", "0")
    for end in ("value", "low", "high"):
        expected = elo.win_probability_of_elo(getattr(rating, end) - 1000)
        assert getattr(chance, end) == pytest.approx(expected)
    turned = ratings.win_probability("0", "2")
    assert turned.low == pytest.approx(1 - (chance.high or 0.0))


def test_numbers_of_the_paper() -> None:
    """A gap of 1 in score is 174 Elo; 0.69 is 120 Elo, and 66.6 % wins."""
    assert elo.elo_of_score_difference(1.0) == pytest.approx(173.7, abs=0.05)
    assert elo.elo_of_score_difference(0.69) == pytest.approx(120, abs=0.2)
    assert elo.win_probability_of_elo(120) == pytest.approx(0.666, abs=5e-4)
    assert elo.score_difference_of_elo(elo.elo_of_score_difference(0.3)) == pytest.approx(0.3)


def test_ratings_are_json() -> None:
    given = simulated(np.random.default_rng(2), labelers=6, each=30, strengths=(0.0, 2.0))
    values = json.loads(json.dumps(rate(given).to_json()))
    assert [one["model"] for one in values["ratings"]] == ["1", "0"]
    assert values["votes"] == 180


def simulated(
    generator: np.random.Generator,
    *,
    labelers: int,
    each: int,
    strengths: tuple[float, ...],
    spread: float = 0.8,
    prompts: int = 0,
) -> list[Vote]:
    """Votes whose labelers, and prompts, differ in what they prefer by `spread` logits a gap."""
    count, games = len(strengths), labelers * each
    scale = spread / math.sqrt(2)
    labeler = np.repeat(np.arange(labelers), each)
    prompt = generator.integers(max(prompts, 1), size=games)
    felt = np.asarray(strengths) + generator.normal(0, scale, (labelers, count))[labeler]
    felt += generator.normal(0, scale, (max(prompts, 1), count))[prompt] * (prompts > 0)
    one = generator.integers(count, size=games)
    other = (one + generator.integers(1, count, size=games)) % count
    gaps = np.take_along_axis(felt, np.stack([one, other], axis=1), axis=1)
    wins = generator.random(games) < 1 / (1 + np.exp(gaps[:, 1] - gaps[:, 0]))
    return [
        Vote(
            first=str(one[n]), second=str(other[n]), outcome="first" if wins[n] else "second",
            labeler=f"labeler {labeler[n]}", prompt=int(prompt[n]) if prompts else None,
        )
        for n in range(games)
    ]  # fmt: skip


def marginal(gap: float, spread: float) -> float:
    """The gap, in logits, of the win rate among all labelers together."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    share = float((weights / weights.sum()) @ (1 / (1 + np.exp(-(gap + spread * nodes)))))
    return math.log(share / (1 - share))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Twenty labelers of fifty votes who differ by 0.8 logits: a naive interval holds 88 %."""
    generator = np.random.default_rng(7)
    truth, repeats, held = marginal(0.7, 0.8), 300, 0
    for _ in range(repeats):
        given = simulated(generator, labelers=20, each=50, strengths=(0.0, 0.7))
        found = rate(given).of("1").elo
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1000 + elo.elo_of_score_difference(truth) <= found.high
    error = math.sqrt(0.95 * 0.05 / repeats)
    assert held / repeats == pytest.approx(0.95, abs=2.5 * error)


def test_prompts_that_differ_widen_the_interval() -> None:
    generator = np.random.default_rng(3)
    given = simulated(generator, labelers=40, each=25, strengths=(0.0, 0.5), spread=1.5, prompts=10)
    by_labeler, by_both = (
        rate(given, clusters=clusters).of("1").elo for clusters in ("labeler", "labeler and prompt")
    )
    assert (by_labeler.clusters, by_both.clusters) == (40, 10)
    assert by_both.high - by_both.low > 1.5 * (by_labeler.high - by_labeler.low)  # type: ignore[operator]


def test_a_labeler_with_most_votes_counts_for_fewer_clusters() -> None:
    """Sizes 3, 1, 1 and the same shares: (3 + 1 + 1)² / (9 + 1 + 1) clusters of equal size."""
    given = [
        vote
        for labeler, times in (("x", 3), ("y", 1), ("z", 1))
        for vote in votes("A", "B", "first", 2 * times, labeler=labeler)
        + votes("A", "B", "second", times, labeler=labeler)
    ]
    strengths = rate(given, order_effect=False).strengths
    assert strengths is not None
    contrast = np.array([1.0, -1.0])
    even = bradley_terry.effective_clusters(strengths.fit, strengths.ways[0], contrast)
    assert even == pytest.approx(25 / 11)
