"""Orders are functions of (seed, position); mixtures keep their proportions everywhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hark.data.mixing import (
    EpochOrder,
    Mixture,
    WeightedPath,
    mixture_weights,
    parse_weighted_path,
    permutation,
    share_counts,
)
from hark.errors import SettingsError


def test_each_epoch_visits_all_in_an_order_of_its_own() -> None:
    order = EpochOrder(20, seed=1)
    epochs = [order.indices(20 * epoch, 20) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != EpochOrder(20, seed=2).indices(0, 20)
    assert EpochOrder(3, seed=1, shuffle=False).indices(2, 4) == [2, 0, 1, 2]


def test_any_position_can_be_asked_for_first() -> None:
    forwards = EpochOrder(7, seed=5).indices(0, 40)
    order = EpochOrder(7, seed=5)
    assert [order.index(position) for position in reversed(range(40))] == forwards[::-1]
    assert EpochOrder(7, seed=5).indices(17, 5) == forwards[17:22]


def test_the_order_is_the_published_splitmix64() -> None:
    # Worked by hand from the reference implementation in plain integers.
    def splitmix64(state: int) -> int:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    assert splitmix64(0) == 0xE220A8397B1DCDAF  # the first output for seed 0
    key = splitmix64(splitmix64(9) ^ 4)
    expected = sorted(range(30), key=lambda item: splitmix64(item ^ key))
    assert permutation(30, seed=9, stream=4).tolist() == expected


def test_permutations_have_no_favourite_place() -> None:
    firsts = Counter(int(permutation(10, seed=seed, stream=0)[0]) for seed in range(2000))
    # 200 expected for each, standard deviation 13.4.
    assert all(abs(firsts[item] - 200) < 6 * 13.4 for item in range(10))


def test_nothing_to_visit() -> None:
    with pytest.raises(SettingsError, match="no records to visit"):
        EpochOrder(0, seed=0)


@settings(deadline=None, max_examples=12)
@given(weights=st.lists(st.floats(0.05, 10), min_size=1, max_size=4))
def test_every_beginning_has_the_asked_proportions(weights: list[float]) -> None:
    mixture = Mixture([5] * len(weights), weights, seed=0)
    shares = np.array(weights) / sum(weights)
    for position in (1, 2, 3, 10, 99, 1000, 12_345):
        counts = mixture.counts(position)
        assert sum(counts) == position
        # Within two records of the share, and the rounding of shares to 1 in 10,000.
        slack = 2 + position * len(weights) / 10_000
        assert np.all(np.abs(np.array(counts) - position * shares) < slack)


def test_a_mixture_worked_by_hand() -> None:
    # Shares 2/3 and 1/3. At each place comes the source furthest behind 2(t+1)/3 or (t+1)/3:
    # t=0: 0.67, 0.33 → A; t=1: 1.33−1, 0.67 → B; t=2: 2−1, 1−1 → A; and again.
    mixture = Mixture([2, 2], [2, 1], seed=0, shuffle=False)
    assert [mixture.locate(position) for position in range(6)] == [
        (0, 0),
        (1, 0),
        (0, 1),
        (0, 0),
        (1, 1),
        (0, 1),
    ]
    assert mixture.counts(5) == [3, 2]


def test_a_mixture_visits_each_source_evenly_and_from_any_position() -> None:
    mixture = Mixture([3, 10], [0.5, 0.5], seed=4)
    visited = [mixture.locate(position) for position in range(60)]
    assert Counter(visited) == {(0, i): 10 for i in range(3)} | {(1, i): 3 for i in range(10)}
    again = Mixture([3, 10], [0.5, 0.5], seed=4)
    assert [again.locate(position) for position in range(31, 60)] == visited[31:]
    equal = Mixture([10, 10], [1, 1], seed=4)
    drawn = [equal.locate(position) for position in range(20)]
    assert [i for s, i in drawn if s == 0] != [i for s, i in drawn if s == 1]


def test_bad_weights() -> None:
    with pytest.raises(SettingsError, match="2 weights for 1 sources"):
        Mixture([1], [1, 2], seed=0)
    with pytest.raises(SettingsError, match="must be positive"):
        Mixture([1, 1], [1, 0], seed=0)
    with pytest.raises(SettingsError, match="would never be visited"):
        Mixture([1, 1], [1, 1e-9], seed=0)


def test_weighted_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_weighted_path("a.jsonl") == WeightedPath("a.jsonl")
    assert parse_weighted_path("a=b.jsonl=0.5") == WeightedPath("a=b.jsonl", 0.5)
    assert parse_weighted_path("hub:org/x:test=2") == WeightedPath("hub:org/x:test", 2.0)
    (tmp_path / "step=3").touch()
    assert parse_weighted_path("step=3") == WeightedPath("step=3")
    for wrong in ("a.jsonl=half", "a.jsonl=0", "a.jsonl=-1", "a.jsonl=nan", "=2"):
        with pytest.raises(SettingsError, match="write path=weight"):
            parse_weighted_path(wrong)
    assert mixture_weights([WeightedPath("a"), WeightedPath("b")]) is None
    assert mixture_weights([WeightedPath("a", 2), WeightedPath("b", 1)]) == [2, 1]
    with pytest.raises(SettingsError, match="'b' has no weight while others have"):
        mixture_weights([WeightedPath("a", 2), WeightedPath("b")])


@pytest.mark.parametrize(
    ("total", "shares", "parts", "counts"),
    [
        (10, [0.3], 2, [3, 7]),
        (10, [0.3, 0.7], 2, [3, 7]),
        (1000, [0.1], 2, [100, 900]),
        (10, [0.0], 2, [0, 10]),
        (10, [1.0], 2, [10, 0]),
        (10, [1 / 3, 1 / 3, 1 / 3], 3, [4, 3, 3]),
        (7, [], 1, [7]),
    ],
)
def test_shares_become_whole_numbers_that_add_up(
    total: int, shares: list[float], parts: int, counts: list[int]
) -> None:
    assert share_counts(total, shares, parts=parts) == counts
