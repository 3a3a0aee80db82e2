"""The order in which records are visited, as a pure function of (seed, position).

A loader's whole state is one integer: how many records it has handed out. A checkpoint keeps that
integer, and a resumed run visits the same records in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hark.errors import SettingsError

PATTERN_LENGTH = 10_000
"""Proportions are kept to one in this many."""


class EpochOrder:
    """Visits 0 … n−1 once an epoch, in a new order each epoch."""

    def __init__(self, count: int, *, seed: int, shuffle: bool = True) -> None:
        """Raises: SettingsError if there is nothing to visit."""
        if count < 1:
            raise SettingsError("there are no records to visit; check the data path")
        self.count = count
        self.seed = seed
        self.shuffle = shuffle
        self._epoch = -1
        self._permutation: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def index(self, position: int) -> int:
        """Which record comes at `position` ≥ 0."""
        epoch, place = divmod(position, self.count)
        if not self.shuffle:
            return place
        if epoch != self._epoch:
            self._permutation = permutation(self.count, seed=self.seed, stream=epoch)
            self._epoch = epoch
        return int(self._permutation[place])

    def indices(self, start: int, count: int) -> list[int]:
        """Which records come at `start`, `start + 1`, …; epochs follow one another."""
        return [self.index(position) for position in range(start, start + count)]


def permutation(count: int, *, seed: int, stream: int) -> NDArray[np.int64]:
    """A permutation of 0 … count−1 for each (seed, stream), the same with every version of numpy.

    Items are sorted by SplitMix64 of their number: numpy promises no stable stream for its own.
    """
    with np.errstate(over="ignore"):
        key = _splitmix64(np.array([seed % 2**64], dtype=np.uint64))
        key = _splitmix64(key ^ np.uint64(stream % 2**64))
        draws = _splitmix64(np.arange(count, dtype=np.uint64) ^ key)
    return np.argsort(draws, kind="stable")


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


class Mixture:
    """Interleaves several sources in given proportions, each in its own `EpochOrder`.

    The sources follow a fixed pattern in which any beginning has close to the asked proportions:
    at each place comes the source furthest behind its share. Small sources are repeated, large ones
    may not be finished; `counts` says how often each was visited. To visit all records of several
    sources equally often, put them in one list and take an `EpochOrder`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        *,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        """`weights` are proportions of the records visited and need not add up to 1.

        Raises: SettingsError if one is not positive, or so small that it would be visited less than
        once in 10,000 records.
        """
        if len(sizes) != len(weights):
            raise SettingsError(
                f"{len(weights)} weights for {len(sizes)} sources; give one for each"
            )
        shares = _shares(weights)
        self._pattern = _pattern(shares)
        # before[t, s]: how often source s comes in the first t places of the pattern.
        one_hot = np.eye(len(shares), dtype=np.int64)[self._pattern]
        self._before = np.vstack([np.zeros(len(shares), np.int64), one_hot.cumsum(axis=0)])
        self.orders = [
            EpochOrder(size, seed=seed + 1_000_003 * number, shuffle=shuffle)
            for number, size in enumerate(sizes)
        ]

    def locate(self, position: int) -> tuple[int, int]:
        """The (source, record of that source) that comes at `position` ≥ 0."""
        source = int(self._pattern[position % len(self._pattern)])
        return source, self.orders[source].index(self.counts(position)[source])

    def counts(self, position: int) -> list[int]:
        """How many records of each source come before `position`."""
        rounds, place = divmod(position, len(self._pattern))
        counts = rounds * self._before[-1] + self._before[place]
        return [int(count) for count in counts]


def _shares(weights: Sequence[float]) -> NDArray[np.float64]:
    values = np.array(weights, dtype=np.float64)
    if not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise SettingsError(f"weights {list(weights)} must be positive numbers")
    return values / values.sum()


def _pattern(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """The shortest pattern that has the shares, if one within `PATTERN_LENGTH` does."""
    whole = np.rint(shares * PATTERN_LENGTH).astype(np.int64)
    if np.any(whole == 0):
        raise SettingsError(
            f"a source has {shares.min():.2g} of the weight and would never be visited; give it at "
            f"least 1 in {PATTERN_LENGTH:,}"
        )
    whole //= math.gcd(*(int(count) for count in whole))
    length = int(whole.sum())
    taken = np.zeros(len(whole))
    pattern = np.empty(length, dtype=np.int64)
    for place in range(length):
        source = int(np.argmax(whole * (place + 1) - taken * length))
        pattern[place] = source
        taken[source] += 1
    return pattern


def share_counts(total: int, shares: Sequence[float], *, parts: int) -> list[int]:
    """`total` parted by `shares` into whole numbers that add up to it (largest remainders).

    Where there is one share fewer than `parts`, the last part is what the others leave.
    """
    given = [*shares, 1 - math.fsum(shares)] if len(shares) == parts - 1 else list(shares)
    exact = [total * share for share in given]
    counts = [math.floor(round(each, 9)) for each in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: counts[place] - exact[place])
    for place in by_remainder[: total - sum(counts)]:
        counts[place] += 1
    return counts


@dataclass(frozen=True)
class WeightedPath:
    """One value of `--data`: a path (or `hub:` name) and its weight in the mixture, if given."""

    path: str
    weight: float | None = None


def parse_weighted_path(value: str) -> WeightedPath:
    """Read `path` or `path=weight`. A file whose name ends like a weight is taken as a path.

    Raises: SettingsError if the weight is not a positive number.
    """
    path, separator, number = value.rpartition("=")
    if not separator or Path(value).exists():
        return WeightedPath(value)
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not path or not math.isfinite(weight) or weight <= 0:
        raise SettingsError(
            f"'{value}' has weight '{number}'; write path=weight with a positive number, such as "
            "train.jsonl=0.5"
        )
    return WeightedPath(path, weight)


def mixture_weights(paths: Sequence[WeightedPath]) -> list[float] | None:
    """The weights of all paths, or None if none has any.

    Raises: SettingsError if some have a weight and some have none.
    """
    weights = [path.weight for path in paths if path.weight is not None]
    if weights and len(weights) != len(paths):
        lacking = next(path.path for path in paths if path.weight is None)
        raise SettingsError(
            f"'{lacking}' has no weight while others have; weigh all paths (path=weight) or none"
        )
    return weights or None
