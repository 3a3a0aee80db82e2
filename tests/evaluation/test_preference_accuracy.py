import json
import math

import numpy as np
import pytest
import torch

from hark.data.records import Comparison, Message, ask, chosen_and_rejected
from hark.errors import DataError, HarkError
from hark.evaluation.preference_accuracy import (
    PreferenceAccuracy,
    accuracy_when_both_exceed,
    preference_accuracy,
    score_pairs,
)


def by_length(dialogues):
    return torch.tensor([float(len(d[-1].content)) for d in dialogues], dtype=torch.bfloat16)


def pairs(right: int, wrong: int, labeler: str | None = None) -> list[Comparison]:
    return [
        Comparison(
            prompt=ask(f"{labeler} {n}"),
            responses=("aaa", "a"),
            ranks=(1, 2) if n < right else (2, 1),
            labeler=labeler,
        )
        for n in range(right + wrong)
    ]


def test_accuracy_is_the_share_of_pairs_in_the_right_order():
    result = preference_accuracy(by_length, pairs(right=15, wrong=5))
    assert result.estimate.value == 0.75
    assert (result.estimate.n, result.estimate.clusters) == (20, 20)
    assert result.estimate.low < 0.75 < result.estimate.high


def test_a_ranking_gives_all_its_ordered_pairs_and_leaves_label_ties_out():
    # Ranks 1, 2, 2, 3 with lengths 3, 2, 2, 4: ordered pairs are
    # (0,1) right, (0,2) right, (0,3) wrong, (1,3) wrong, (2,3) wrong; (1,2) is a label tie.
    ranking = Comparison(prompt=ask("q"), responses=("aaa", "aa", "bb", "aaaa"), ranks=(1, 2, 2, 3))
    result = preference_accuracy(by_length, [ranking])
    assert result.estimate.value == pytest.approx(2 / 5)
    assert (result.estimate.n, result.label_ties, result.score_ties) == (5, 1, 0)
    assert result.estimate.state == "one cluster"
    assert list(result.by_choices) == [4]


def test_equal_scores_count_one_half_and_are_counted():
    result = preference_accuracy(by_length, [chosen_and_rejected(ask("q"), "ab", "cd")])
    assert (result.estimate.value, result.score_ties) == (0.5, 1)


def test_accuracy_by_number_of_choices():
    three = Comparison(prompt=ask("k"), responses=("aaa", "aa", "a"), ranks=(3, 2, 1))
    result = preference_accuracy(by_length, [*pairs(right=2, wrong=0), three])
    assert result.by_choices[2].value == 1.0
    assert result.by_choices[3].value == 0.0


def test_soft_labels_are_right_for_their_majority_and_calibrate_by_their_probability():
    soft = Comparison(prompt=ask("q"), responses=("a", "aaa"), probability=0.2)
    [pair] = score_pairs(by_length, [soft])
    assert (pair.better, pair.worse, pair.probability) == (3.0, 1.0, 0.8)
    calibrated = preference_accuracy(by_length, [soft]).calibration
    # sigma(3 - 1) = 0.880797; |0.8 - 0.880797|
    assert calibrated.error.value == pytest.approx(0.080797, abs=1e-6)


def test_labelers_are_clusters_where_they_are_known():
    named = pairs(9, 1, "a") + pairs(5, 5, "b") + pairs(2, 8, "c")
    assert preference_accuracy(by_length, named).estimate.clusters == 3
    unnamed = pairs(9, 1)
    assert preference_accuracy(by_length, unnamed).estimate.clusters == 10


def test_accuracy_falls_among_pairs_that_both_score_well():
    data = [
        chosen_and_rejected(ask("1"), "aaaa", "a"),
        chosen_and_rejected(ask("2"), "aaaa", "aaaaa"),
    ]
    everything, good = accuracy_when_both_exceed(score_pairs(by_length, data), [0.0, 2.0])
    assert (everything.value, everything.n) == (0.5, 2)
    assert (good.value, good.n) == (0.0, 1)
    assert accuracy_when_both_exceed([], [0.0])[0].state == "no observations"


def test_what_cannot_be_measured_is_refused():
    unjudged = Comparison(prompt=ask("q"), responses=("a", "b"))
    with pytest.raises(DataError, match="1 of 3 comparisons have no judgement, the first is numb"):
        preference_accuracy(by_length, [*pairs(2, 0), unjudged])
    tied = Comparison(prompt=ask("q"), responses=("a", "b"), ranks=(1, 1))
    with pytest.raises(DataError, match="none of the 1 comparisons puts one reply before another"):
        preference_accuracy(by_length, [tied])
    with pytest.raises(HarkError, match="4 of 4 scores are not finite, the first at index 0"):
        preference_accuracy(lambda d: np.full(len(d), math.nan), pairs(2, 0))
    with pytest.raises(HarkError, match="the scorer gave 1 scores for 4 dialogues"):
        preference_accuracy(lambda d: [1.0], pairs(2, 0))


def test_accuracy_survives_json():
    result = preference_accuracy(by_length, pairs(6, 2))
    assert PreferenceAccuracy.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_slices_by_turn_file_and_labelers():
    first = pairs(right=3, wrong=1, labeler="ann")
    second = [
        Comparison(
            prompt=(*ask(f"{n}"), Message("assistant", "yes"), Message("user", "and?")),
            responses=("aaa", "a"),
            ranks=(2, 1),
            labeler="bob",
        )
        for n in range(2)
    ]
    result = preference_accuracy(
        by_length,
        [*first, *second],
        files=["x"] * 4 + ["y"] * 2,
        held_out_labelers=frozenset({"bob", "eve"}),
    )
    assert {turn: each.value for turn, each in result.by_turn.items()} == {1: 0.75, 2: 0.0}
    assert {file: each.value for file, each in result.by_file.items()} == {"x": 0.75, "y": 0.0}
    assert {who: each.value for who, each in result.by_labelers.items()} == {
        "learned from": 0.75,
        "held out": 0.0,
    }
    told = json.loads(json.dumps(result.to_json()))
    assert PreferenceAccuracy.from_json(told) == result
    plain = preference_accuracy(by_length, first)
    assert (plain.by_file, plain.by_labelers) == ({}, {})


def test_slices_where_both_are_good_begin_with_all_pairs_and_shrink():
    # Scores 1 to 20: the k-th pair has 2k − 1 and 2k, and the lower five are in the right order.
    comparisons = [
        chosen_and_rejected(
            ask(str(k)), *(("a" * (2 * k), "a" * (2 * k - 1))[:: 1 if k < 6 else -1])
        )
        for k in range(1, 11)
    ]
    found = preference_accuracy(by_length, comparisons).both_good
    assert [each.estimate.n for each in found] == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert found[0].estimate.value == 0.5
    assert [each.estimate.value for each in found[5:]] == [0.0] * 5
