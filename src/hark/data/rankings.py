"""Many pairs of one prompt as K-wise rankings.

When many responses were each compared with the same reference, the pairs of a prompt say more
together than one by one: whatever beat the reference is better than whatever lost to it. And one
prompt as one batch element keeps a preference model from over-fitting on a response that it would
otherwise see in many pairs (InstructGPT, 2203.02155, section 3.5).

The rule:

1. Pairs with the same prompt form a group. The response in most of them is the reference (of equals
   the first seen); pairs without it form further groups in the same way.
2. A response's grade is its mean result against the reference: 1 for a win, ½ for a tie, 0 for a
   loss, the probability for a soft label. The reference has grade ½.
3. Higher grades rank better and equal grades tie. With one hard judgement for each response there
   are thus at most three ranks: winners, the reference with what tied it, losers. That a winner is
   better than a loser is inferred by transitivity; two winners tie because nothing is known.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from hark.data.records import Comparison, Dialogue
from hark.data.splits import dialogue_key
from hark.errors import SettingsError


def group_pairs_by_prompt(
    pairs: Iterable[Comparison],
    *,
    responses_per_comparison: int | None = None,
    comparisons_per_prompt: int | None = None,
    seed: int = 0,
) -> list[Comparison]:
    """Turn judged pairs into K-wise comparisons with ranks; see the module for the rule.

    `responses_per_comparison` (K) deals the responses of a group, the reference among them, into
    disjoint hands of K. Each hand draws evenly from all ranks; which responses meet, and their
    order, is decided by the seed. Responses left over, and hands in which all tie, are left out.
    Without it a group is one comparison. `comparisons_per_prompt` keeps at most so many of a group.
    Labeler, user, source and id are kept where all pairs of the group agree; strengths and weights
    are not.
    Raises: SettingsError if K is below 2 or a comparison is not a judged pair.
    """
    if responses_per_comparison is not None and responses_per_comparison < 2:
        raise SettingsError(
            f"responses_per_comparison is {responses_per_comparison}; a comparison needs 2 or more"
        )
    by_prompt: dict[Dialogue, list[Comparison]] = defaultdict(list)
    for number, pair in enumerate(pairs, start=1):
        if len(pair.responses) != 2 or not pair.judged:
            raise SettingsError(
                f"comparison {number} has {len(pair.responses)} responses and is "
                f"{'judged' if pair.judged else 'unjudged'}; only judged pairs can be grouped"
            )
        by_prompt[pair.prompt].append(pair)
    rankings: list[Comparison] = []
    for group in _groups(by_prompt.values()):
        ranks = _ranks(group)
        draw = random.Random(f"{seed}\0{group[0]}\0{dialogue_key(group[1][0].prompt)}")
        hands = _deal(ranks, responses_per_comparison, draw)
        rankings += [_comparison(group, hand) for hand in hands[:comparisons_per_prompt]]
    return rankings


def _groups(by_prompt: Iterable[list[Comparison]]) -> Iterable[tuple[str, list[Comparison]]]:
    """The reference and the pairs of each group."""
    for pairs in by_prompt:
        left = pairs
        while left:
            # A response compared with itself counts once.
            seen = Counter(response for pair in left for response in dict.fromkeys(pair.responses))
            reference = max(seen, key=lambda response: seen[response])
            yield reference, [pair for pair in left if reference in pair.responses]
            left = [pair for pair in left if reference not in pair.responses]


def _ranks(group: tuple[str, list[Comparison]]) -> dict[str, int]:
    """The rank of each response text: 1 is best."""
    reference, pairs = group
    results: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        first, second = pair.responses
        if first != second:
            won = _result(pair)
            results[second if first == reference else first].append(
                1 - won if first == reference else won
            )
    grades = {response: sum(won) / len(won) for response, won in results.items()}
    grades[reference] = 0.5
    order = sorted(set(grades.values()), reverse=True)
    return {response: order.index(grade) + 1 for response, grade in grades.items()}


def _result(pair: Comparison) -> float:
    """How far the first response won, from 0 to 1."""
    if pair.probability is not None:
        return pair.probability
    assert pair.ranks is not None
    first, second = pair.ranks
    return 0.5 if first == second else float(first < second)


def _deal(ranks: dict[str, int], size: int | None, draw: random.Random) -> list[dict[str, int]]:
    """Disjoint hands of `size` responses; none in which all tie."""
    responses = sorted(ranks)
    draw.shuffle(responses)
    if size is None:
        hands = [responses]
    else:
        # Dealt from a deck sorted by rank, each hand gets its share of every rank.
        deck = sorted(responses, key=lambda response: ranks[response])
        count = len(deck) // size
        surplus = set(draw.sample(range(len(deck)), len(deck) - count * size))
        deck = [response for place, response in enumerate(deck) if place not in surplus]
        hands = [deck[start::count] for start in range(count)]
        draw.shuffle(hands)
        for hand in hands:
            draw.shuffle(hand)
    ranked = [{response: ranks[response] for response in hand} for hand in hands]
    return [hand for hand in ranked if len(set(hand.values())) > 1]


def _comparison(group: tuple[str, Sequence[Comparison]], hand: dict[str, int]) -> Comparison:
    pairs = group[1]
    order = sorted(set(hand.values()))
    return Comparison(
        prompt=pairs[0].prompt,
        responses=tuple(hand),
        ranks=tuple(order.index(rank) + 1 for rank in hand.values()),
        labeler=_agreed(pair.labeler for pair in pairs),
        user=_agreed(pair.user for pair in pairs),
        source=_agreed(pair.source for pair in pairs),
        id=_agreed(pair.id for pair in pairs),
    )


def _agreed(values: Iterable[str | None]) -> str | None:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
