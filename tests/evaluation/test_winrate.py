import json
import math

import numpy as np
import pytest

from hark.data.records import ask
from hark.errors import HarkError
from hark.evaluation.winrate import (
    Judgement,
    WinRate,
    judge_by_scorer,
    judge_by_scores,
    policy_comes_first,
    rate_of_outcomes,
    win_rate,
)

PROMPTS = [ask(f"question {n}") for n in range(200)]


def test_ties_count_one_half_and_are_reported():
    outcomes = [1.0, 1.0, 0.5, 0.0]
    result = win_rate([Judgement(outcome=o, prompt=n) for n, o in enumerate(outcomes)])
    assert (result.wins, result.ties, result.losses) == (2, 1, 1)
    assert result.estimate.value == pytest.approx(2.5 / 4)
    assert result.estimate.low < 2.5 / 4 < result.estimate.high


def test_the_coin_that_says_who_comes_first_is_fair_and_the_seeds() -> None:
    first = [policy_comes_first(prompt, seed=1) for prompt in PROMPTS]
    assert 80 < sum(first) < 120
    assert first == [policy_comes_first(prompt, seed=1) for prompt in PROMPTS]
    assert first != [policy_comes_first(prompt, seed=2) for prompt in PROMPTS]


def test_a_scorer_compares_scores_with_a_tolerance_for_ties():
    def by_length(dialogues):
        return np.array([float(len(dialogue[-1].content)) for dialogue in dialogues])

    replies, baseline = ["aaaa", "aa", "a"], ["aa", "aa", "aa"]
    strict = judge_by_scorer(by_length, PROMPTS[:3], replies, baseline)
    assert [j.outcome for j in strict] == [1.0, 0.5, 0.0]
    loose = judge_by_scorer(by_length, PROMPTS[:3], replies, baseline, tie_tolerance=1.0)
    assert [j.outcome for j in loose] == [1.0, 0.5, 0.5]


def test_a_scorer_is_asked_once_with_the_replies_to_a_prompt_side_by_side():
    asked = []

    def by_length(dialogues):
        asked.append([(dialogue[:-1], dialogue[-1].content) for dialogue in dialogues])
        return [float(len(dialogue[-1].content)) for dialogue in dialogues]

    judge_by_scorer(by_length, PROMPTS[:2], ["a", "bb"], ["cc", "d"])
    first, second = PROMPTS[:2]
    assert asked == [[(first, "a"), (first, "cc"), (second, "bb"), (second, "d")]]


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(HarkError, match="1 of 2 scores are not finite, the first at index 1"):
        judge_by_scores(PROMPTS[:2], [1.0, math.nan], [0.0, 0.0])


def test_lists_of_different_length_are_refused():
    with pytest.raises(HarkError, match="3 prompts, 2 responses and 3 baseline"):
        judge_by_scorer(len, PROMPTS[:3], ["a", "b"], ["a", "b", "c"])


def test_repeated_judgements_of_a_prompt_do_not_shorten_the_interval():
    once = [Judgement(outcome=float(n % 3 > 0), prompt=n) for n in range(60)]
    assert win_rate(once * 5).estimate.clusters == 60
    low, high = win_rate(once).estimate.low, win_rate(once).estimate.high
    again = win_rate(once * 5).estimate
    assert again.high - again.low == pytest.approx(high - low)


def test_labelers_widen_the_interval_when_they_disagree():
    votes = [
        (float(n % 10 < lean), (n, labeler), labeler)
        for labeler, lean in (("a", 9), ("b", 7), ("c", 4), ("d", 2))
        for n in range(50)
    ]
    outcomes, prompts, labelers = map(list, zip(*votes, strict=True))
    named, unnamed = (
        rate_of_outcomes(np.array(outcomes), ways, level=0.95, resamples=2000, seed=0).estimate
        for ways in ([prompts, labelers], [prompts])
    )
    assert (named.clusters, unnamed.clusters) == (4, 200)
    assert named.high - named.low > 3 * (unnamed.high - unnamed.low)


def test_a_win_rate_survives_json():
    result = win_rate(judge_by_scores(PROMPTS[:4], [1, 2, 3, 0], [1, 1, 1, 1]))
    assert WinRate.from_json(json.loads(json.dumps(result.to_json()))) == result
