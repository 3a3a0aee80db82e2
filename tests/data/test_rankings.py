"""Pairs against a reference become rankings by the stated rule."""

from __future__ import annotations

import random

import pytest

from hark.data.rankings import group_pairs_by_prompt
from hark.data.records import Comparison, ask
from hark.errors import SettingsError


def against(reference: str, other: str, result: str, prompt: str = "Q", **rest: str) -> Comparison:
    """`other` wins, ties or loses; the reference comes first, as in AlpacaEval."""
    ranks = {"wins": (2, 1), "ties": (1, 1), "loses": (1, 2)}[result]
    return Comparison(prompt=ask(prompt), responses=(reference, other), ranks=ranks, **rest)


def ranked(comparison: Comparison) -> dict[str, int]:
    assert comparison.ranks is not None
    return dict(zip(comparison.responses, comparison.ranks, strict=True))


def test_win_tie_loss_against_one_reference() -> None:
    pairs = [
        against("ref", "a", "wins", labeler="gpt", source="x"),
        against("ref", "b", "loses", labeler="gpt", source="y"),
        against("ref", "c", "ties", labeler="gpt", source="x"),
        # The reference may stand second.
        Comparison(prompt=ask("Q"), responses=("d", "ref"), ranks=(1, 2), labeler="gpt"),
    ]
    (ranking,) = group_pairs_by_prompt(pairs)
    assert ranked(ranking) == {"a": 1, "d": 1, "ref": 2, "c": 2, "b": 3}
    assert (ranking.labeler, ranking.source) == ("gpt", None)


def test_soft_labels_and_several_judgements_give_finer_ranks() -> None:
    soft = [
        Comparison(prompt=ask("Q"), responses=("ref", name), probability=probability)
        for name, probability in (("a", 0.1), ("b", 0.3), ("c", 0.8))
    ]
    # Their own chances are 0.9, 0.7 and 0.2, the reference's 0.5.
    assert ranked(group_pairs_by_prompt(soft)[0]) == {"a": 1, "b": 2, "ref": 3, "c": 4}
    several = [
        against("ref", "a", "wins"),
        against("ref", "a", "wins"),
        against("ref", "a", "loses"),
        against("ref", "b", "wins"),
        against("ref", "c", "wins"),
        against("ref", "c", "loses"),
    ]
    # Means: a ⅔, b 1, c ½ (with the reference).
    assert ranked(group_pairs_by_prompt(several)[0]) == {"b": 1, "a": 2, "ref": 3, "c": 3}


def test_another_reference_makes_another_group() -> None:
    pairs = [
        against("ref", "a", "wins"),
        against("old", "b", "wins"),
        against("ref", "c", "loses"),
        against("ref", "a", "wins", prompt="R"),
    ]
    assert [ranked(one) for one in group_pairs_by_prompt(pairs)] == [
        {"a": 1, "ref": 2, "c": 3},
        {"b": 1, "old": 2},
        {"a": 1, "ref": 2},
    ]


def test_what_ties_throughout_says_nothing() -> None:
    assert group_pairs_by_prompt([against("ref", "a", "ties"), against("ref", "ref", "ties")]) == []


def many(wins: int, losses: int, prompt: str = "Q") -> list[Comparison]:
    pairs = [against("ref", f"win{i}", "wins", prompt) for i in range(wins)]
    return pairs + [against("ref", f"loss{i}", "loses", prompt) for i in range(losses)]


def test_hands_are_disjoint_and_draw_from_all_ranks() -> None:
    rankings = group_pairs_by_prompt(many(30, 9), responses_per_comparison=4, seed=1)
    # 40 responses are 10 hands of 4. In the deck sorted by rank, each hand takes every tenth: 30
    # winners give 3, and one of the reference and the 9 losers.
    assert len(rankings) == 10
    assert all(sorted(one.ranks or ()) == [1, 1, 1, 2] for one in rankings)
    dealt = [response for one in rankings for response in one.responses]
    assert len(dealt) == len(set(dealt)) == 40


def test_the_seed_decides_who_meets_and_in_which_order() -> None:
    def deal(seed: int, pairs: list[Comparison]) -> list[Comparison]:
        return group_pairs_by_prompt(
            pairs, responses_per_comparison=3, comparisons_per_prompt=2, seed=seed
        )

    pairs = many(10, 10)
    assert len(deal(0, pairs)) == 2
    assert deal(0, pairs) == deal(0, pairs) != deal(1, pairs)
    # What else is in the list, and its order, changes nothing.
    shuffled = many(3, 3, prompt="other") + random.Random(0).sample(pairs, len(pairs))
    assert deal(0, shuffled)[2:] == deal(0, pairs)
    # The place in a hand does not give the rank away.
    firsts = [
        one.ranks[0]
        for one in deal(3, [p for i in range(40) for p in many(4, 4, f"p{i}")])
        if one.ranks
    ]
    assert 0.3 < sum(rank == 1 for rank in firsts) / len(firsts) < 0.7


def test_hands_in_which_all_tie_are_left_out() -> None:
    rankings = group_pairs_by_prompt(many(11, 0), responses_per_comparison=3, seed=0)
    # 12 responses are 4 hands; only the one with the reference has two ranks.
    assert [sorted(one.ranks or ()) for one in rankings] == [[1, 1, 2]]
    assert "ref" in rankings[0].responses


def test_too_few_responses_for_a_hand() -> None:
    assert group_pairs_by_prompt(many(1, 1), responses_per_comparison=4) == []


def test_only_judged_pairs_can_be_grouped() -> None:
    unjudged = Comparison(prompt=ask("Q"), responses=("a", "b"))
    with pytest.raises(SettingsError, match="comparison 1 has 2 responses and is unjudged"):
        group_pairs_by_prompt([unjudged])
    with pytest.raises(SettingsError, match="responses_per_comparison is 1"):
        group_pairs_by_prompt([], responses_per_comparison=1)
