"""Two contenders in turn, and what their rates say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from benchmarks.contender import Repetition

Work = Callable[[], Repetition]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The median of several measurements, and their range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median=statistics.median(values), low=min(values), high=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """hark and the peer, one after the other."""

    ours: Repetition
    theirs: Repetition

    @property
    def ratio(self) -> float:
        """How many times the peer's rate ours is."""
        return self.ours.rate / self.theirs.rate


def alternate(ours: Work, theirs: Work, *, repetitions: int) -> list[Round]:
    """Repeat both in turn; who goes first changes from round to round, as the machine drifts."""
    rounds = []
    for number in range(repetitions):
        if number % 2:
            second = theirs()
            rounds.append(Round(ours=ours(), theirs=second))
        else:
            first = ours()
            rounds.append(Round(ours=first, theirs=theirs()))
    return rounds


class DisagreementError(RuntimeError):
    """The contenders did not compute the same thing, so their times mean nothing."""


def relative_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference between two lists of numbers, relative to the largest number."""
    if len(ours) != len(theirs):
        raise DisagreementError(f"hark gives {len(ours)} numbers and the peer {len(theirs)}")
    if not all(map(math.isfinite, (*ours, *theirs))):
        return math.inf
    scale = max(map(abs, (*ours, *theirs)))
    difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return difference / scale if scale else 0.0


TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
"""The largest relative difference that is rounding."""


def require_agreement(
    what: str, ours: Sequence[float], theirs: Sequence[float], *, tolerance: float
) -> str:
    """Say how far apart both are. Raises: DisagreementError beyond `tolerance`."""
    difference = relative_difference(ours, theirs)
    said = f"{what}: {_few(ours)} and {_few(theirs)}, relative difference {difference:.1e}"
    if difference > tolerance:
        raise DisagreementError(f"{said}, more than {tolerance:g}")
    return said


def _few(values: Sequence[float]) -> str:
    return f"{values[0]:.6g}" + (", …" if len(values) > 1 else "")
