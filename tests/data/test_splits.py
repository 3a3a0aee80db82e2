"""No user on two sides, at most 200 of each, and nothing moves when records are added."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hark.data.records import Demonstration, Prompt, ask
from hark.data.splits import labeler_groups, over_the_cap, split_by_user, uniform
from hark.errors import SettingsError


def prompt(user: str | None, number: int) -> Prompt:
    return Prompt(prompt=ask(f"Question {number}"), user=user)


@settings(deadline=None, max_examples=30)
@given(
    users=st.lists(st.none() | st.sampled_from("abcdefghij"), max_size=60),
    seed=st.integers(0, 1000),
    validation=st.floats(0, 0.5),
    test=st.floats(0, 0.49),
)
def test_no_user_is_in_two_splits(
    users: list[str | None], seed: int, validation: float, test: float
) -> None:
    records = [prompt(user, number) for number, user in enumerate(users)]
    splits = split_by_user(records, validation=validation, test=test, seed=seed)
    sides = [splits.train, splits.validation, splits.test]
    named = [{record.user for record in side} - {None} for side in sides]
    for a, b in itertools.combinations(named, 2):
        assert not a & b
    assert sorted(map(id, records)) == sorted(id(one) for side in sides for one in side)


def test_shares_are_of_users() -> None:
    records = [prompt(f"u{number}", number) for number in range(2000)]
    splits = split_by_user(records, validation=0.2, test=0.1, seed=1)
    # Binomial standard deviations are 18 and 13: six of them would be a defect.
    assert abs(len(splits.validation) - 400) < 6 * 18
    assert abs(len(splits.test) - 200) < 6 * 13
    other = split_by_user(records, validation=0.2, test=0.1, seed=2)
    assert other.validation != splits.validation


def test_splits_stay_when_records_are_added_and_reordered() -> None:
    records = [prompt(f"u{number % 50}" if number % 3 else None, number) for number in range(300)]
    before = split_by_user(records[:100], validation=0.3)
    shuffled = records.copy()
    random.Random(0).shuffle(shuffled)
    after = split_by_user(shuffled, validation=0.3)
    assert set(before.validation) <= set(after.validation)
    assert set(before.train) <= set(after.train)


def test_records_without_a_user_go_by_their_prompt() -> None:
    same = [Demonstration(prompt=ask("Q"), response=f"A{number}") for number in range(50)]
    splits = split_by_user(same, validation=0.5)
    assert sorted(map(len, (splits.train, splits.validation))) == [0, 50]
    different = [prompt(None, number) for number in range(50)]
    assert 5 < len(split_by_user(different, validation=0.5).validation) < 45


def test_by_prompt_halves_are_of_like_size_whoever_wrote_them() -> None:
    records = [
        Prompt(prompt=ask(f"question {number // 2}"), user="one" if number < 900 else str(number))
        for number in range(1000)
    ]
    splits = split_by_user(records, validation=0.3, test=0.3, seed=2, by="prompt")
    assert 240 < len(splits.validation) < 360
    assert 240 < len(splits.test) < 360
    sides = [{each.prompt for each in side} for side in (splits.validation, splits.test)]
    assert not sides[0] & sides[1]


def test_shares_must_leave_something_to_train_on() -> None:
    with pytest.raises(SettingsError, match=r"validation 0\.6 and test 0\.4"):
        split_by_user([prompt("u", 1)], validation=0.6, test=0.4)


def test_the_cap_holds_for_each_user() -> None:
    records = [prompt("many", number) for number in range(500)]
    records += [prompt("few", number) for number in range(200)]
    records += [prompt(None, number) for number in range(300)]
    gone = set(over_the_cap(records, seed=3))
    kept = [record for index, record in enumerate(records) if index not in gone]
    assert Counter(record.user for record in kept) == {"many": 200, "few": 200, None: 300}
    # A choice by seed, not the first 200.
    assert gone != set(range(200, 500))
    assert gone != set(over_the_cap(records, seed=4))
    assert gone == set(over_the_cap(records, seed=3))


def test_under_the_cap_repeated_prompts_are_separate_records() -> None:
    records = [dataclasses.replace(prompt("u", 1)) for _ in range(10)]
    assert len(over_the_cap(records, limit=4)) == 6


def test_draws_are_uniform_and_below_one() -> None:
    draws = [uniform(0, "test", str(number)) for number in range(4000)]
    assert min(draws) >= 0
    assert max(draws) < 1
    # The mean of 4000 uniform draws has standard deviation 0.0046.
    assert abs(sum(draws) / len(draws) - 0.5) < 0.025


def test_labelers_are_parted_evenly_and_by_name_alone():
    names = [f"labeler {n}" for n in range(11)]
    groups = labeler_groups(names, 3)
    assert sorted(Counter(groups.values()).values()) == [3, 4, 4]
    assert labeler_groups([*reversed(names), *names], 3) == groups
    with pytest.raises(SettingsError, match="2 labelers cannot be parted into 3 groups"):
        labeler_groups(["a", "b", "a"], 3)
