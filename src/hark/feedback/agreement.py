"""How far labelers agree: percent agreement, and Krippendorff's alpha, which corrects for chance.

Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), with values of any number
of observers, missing ones included. Pure: values in, numbers out.

1. Alpha is undefined without two values of one unit, and where all values that can be paired are
   the same: no disagreement could have been observed. Both are named states, never 0 or 1.
2. Units with a single value are left out, of the marginal counts too, as in the source.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["nominal", "ordinal", "interval"]
State = Literal["defined", "nothing to compare", "no variation"]

Units = Sequence[Sequence[float]]
"""For each item the values that its labelers gave, in any order; any number of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A coefficient, or the reason why there is none."""

    value: float | None
    """None unless `state` is "defined"."""
    state: State
    units: int
    """Items with two or more values."""
    values: int
    """Their values."""


def percent_agreement(units: Units) -> Agreement:
    """Share of the pairs of labelers of one item that gave the same value; 1 is perfect.

    Every item weighs the same, however many labelers it has.
    """
    paired = [unit for unit in units if len(unit) > 1]
    shares = [_agreeing_pairs(unit) / (len(unit) * (len(unit) - 1) / 2) for unit in paired]
    return Agreement(
        value=sum(shares) / len(shares) if shares else None,
        state="defined" if shares else "nothing to compare",
        units=len(paired),
        values=sum(map(len, paired)),
    )


def _agreeing_pairs(unit: Sequence[float]) -> float:
    counts = collections.Counter(unit).values()
    return sum(count * (count - 1) / 2 for count in counts)


def krippendorff_alpha(units: Units, level: Level) -> Agreement:
    """α = 1 − D_o / D_e: 1 is perfect, 0 is chance, below 0 is worse than chance.

    level: how far apart two values are: the same or not ("nominal"), by the ranks between them
    ("ordinal"), or by their squared difference ("interval").
    """
    paired = [unit for unit in units if len(unit) > 1]
    totals = collections.Counter(itertools.chain.from_iterable(paired))
    n = sum(totals.values())
    distance = _DISTANCES[level](totals)
    observed = sum(_unit_disagreement(unit, distance) for unit in paired)
    expected = 0.0
    for (one, many), (other, more) in itertools.combinations(totals.items(), 2):
        expected += 2 * many * more * distance(one, other)
    state: State = "defined"
    if not paired:
        state = "nothing to compare"
    elif len(totals) == 1:
        state = "no variation"
    # (n − 1) Σ o δ² / Σ n_c n_k δ²: both disagreements share the factor 1/n.
    alpha = 1 - (n - 1) * observed / expected if state == "defined" else None
    return Agreement(value=alpha, state=state, units=len(paired), values=n)


def _unit_disagreement(unit: Sequence[float], distance: Callable[[float, float], float]) -> float:
    """Σ over ordered pairs of the unit's values of δ², divided by its values less one."""
    counts = collections.Counter(unit)
    pairs = itertools.combinations(counts.items(), 2)
    total = sum(2 * many * more * distance(one, other) for (one, many), (other, more) in pairs)
    return total / (len(unit) - 1)


Distance = Callable[[float, float], float]
"""δ² between two values."""


def _nominal(totals: Mapping[float, int]) -> Distance:
    return lambda one, other: float(one != other)


def _interval(totals: Mapping[float, int]) -> Distance:
    return lambda one, other: float(one - other) ** 2


def _ordinal(totals: Mapping[float, int]) -> Distance:
    """The values counted between two, each of the two by one half."""
    below: dict[float, float] = {}
    counted = 0.0
    for value in sorted(totals):
        below[value] = counted + totals[value] / 2
        counted += totals[value]
    return lambda one, other: (below[one] - below[other]) ** 2


_DISTANCES: dict[Level, Callable[[Mapping[float, int]], Distance]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
}


def agreement_of_counts(
    counts: NDArray[Any], values: NDArray[Any], level: Level
) -> tuple[Agreement, Agreement]:
    """`percent_agreement` and `krippendorff_alpha` of many units at once.

    counts: [units, values], how often each value was given; values: [values], ascending.
    """
    given = counts.sum(axis=1)
    paired, sizes = counts[given > 1].astype(float), given[given > 1].astype(float)
    shares = (paired * (paired - 1)).sum(axis=1) / (sizes * (sizes - 1))
    percent = Agreement(
        value=float(shares.mean()) if len(sizes) else None,
        state="defined" if len(sizes) else "nothing to compare",
        units=len(sizes),
        values=int(sizes.sum()),
    )
    # Off the diagonal, Krippendorff's matrix of observed coincidences.
    coincidences = paired.T @ (paired / (sizes - 1)[:, None])
    alpha = alpha_of_coincidences(coincidences, paired.sum(axis=0), values, level, len(sizes))
    return percent, alpha


def agreement_of_pairs(
    pairs: NDArray[Any], values: NDArray[Any], level: Level
) -> tuple[Agreement, Agreement]:
    """The same where each unit is a pair of values.

    pairs: [values, values], how often the row's came with the column's.
    """
    units = int(pairs.sum())
    percent = Agreement(
        value=float(np.trace(pairs)) / units if units else None,
        state="defined" if units else "nothing to compare",
        units=units,
        values=2 * units,
    )
    both = (pairs + pairs.T).astype(float)
    return percent, alpha_of_coincidences(both, both.sum(axis=1), values, level, units)


def alpha_of_coincidences(
    coincidences: NDArray[Any],
    totals: NDArray[Any],
    values: NDArray[Any],
    level: Level,
    units: int,
) -> Agreement:
    """α = 1 − (n − 1) Σ o_vw δ²_vw / Σ n_v n_w δ²_vw.

    coincidences: [values, values], o off the diagonal; totals: [values], n; values: ascending.
    """
    n = float(totals.sum())
    scale = {
        "nominal": np.arange(len(values)),
        "ordinal": np.cumsum(totals) - totals / 2,
        "interval": values,
    }[level]
    apart = scale[:, None] - scale
    squared = (apart != 0).astype(float) if level == "nominal" else apart**2
    varied = np.count_nonzero(totals) > 1
    state: State = "defined" if varied else "no variation" if units else "nothing to compare"
    alpha = None
    if varied:
        expected = float(totals @ squared @ totals)
        alpha = 1 - (n - 1) * float((coincidences * squared).sum()) / expected
    return Agreement(value=alpha, state=state, units=units, values=int(n))
