"""Estimates with intervals that respect clusters.

Votes of one labeler, or about one prompt, resemble each other. Resampling them as if they were
independent gives intervals that are too short; resampling whole labelers and prompts does not.

Sources: Wilson (1927) for a proportion; Owen (2007), "The pigeonhole bootstrap", for two crossed
ways of clustering; Hesterberg (2015), "What teachers should know about the bootstrap", section 4.3,
for the percentile levels that make up for few clusters.

Departures and choices
1. A way of clustering with a single level (one labeler) says nothing about that population; it is
   left out, and the interval speaks of that one labeler.
2. Where every level of one way lies inside one level of the other (each prompt judged by one
   labeler), the coarser way alone is resampled; the pigeonhole bootstrap would only widen it.
3. With cells seen once or twice the pigeonhole bootstrap is conservative (Owen's theorem 1): it
   covers more than it states, never less.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from hark.errors import HarkError

Array = NDArray[np.float64]
State = Literal[
    "defined",
    "no observations",
    "one cluster",
    "no variation",
    "exact",
    "unbounded",
    "not identified",
]
"""Why an interval is there or not; "exact" is a number from a formula, with nothing to estimate.
"unbounded" is an estimate that the observations only bound from one side (who has won every game),
"not identified" one that they do not tell from others (who has played none of the same)."""

BLOCK = 1 << 22
"""Resampling weights held at once; bounds the memory of a bootstrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval, or the reason why there is none."""

    value: float | None
    """None only where there are no observations."""
    low: float | None
    high: float | None
    """Ends of the interval; None unless `state` is "defined"."""
    n: int
    """Observations."""
    clusters: int
    """Independent clusters behind the interval: the fewest of the ways resampled."""
    level: float = 0.95
    """What share of such intervals is meant to hold the truth."""
    state: State = "defined"

    @property
    def has_interval(self) -> bool:
        """Whether `low` and `high` are there."""
        return self.state == "defined"

    def apart_from(self, other: Estimate) -> bool:
        """Whether both intervals exist and do not touch."""
        if None in (self.low, self.high, other.low, other.high):
            return False
        return bool(self.low > other.high or self.high < other.low)  # type: ignore[operator]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**values)


NOTHING = Estimate(value=None, low=None, high=None, n=0, clusters=0, state="no observations")


def exact(value: float) -> Estimate:
    """A number known without observing anything, such as the divergence of best-of-n."""
    return Estimate(value=value, low=None, high=None, n=0, clusters=0, state="exact")


def require_finite(values: ArrayLike, *, what: str) -> Array:
    """Return `values` as a flat float array.

    Raises: HarkError naming how many are not finite and the first index.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise HarkError(
            f"{bad.size} of {array.size} {what} are not finite, the first at index {bad[0]} "
            f"({array[bad[0]]}): look at that example and at the model's weights before evaluating"
        )
    return array


def proportion(successes: float, n: int, *, level: float = 0.95) -> Estimate:
    """Wilson's score interval for `successes` of `n` independent trials; halves are allowed."""
    if n == 0:
        return NOTHING
    share = successes / n
    z = float(special.ndtri(0.5 + level / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(
        value=share,
        low=0.0 if successes == 0 else centre - half,
        high=1.0 if successes == n else centre + half,
        n=n,
        clusters=n,
        level=level,
    )


def clustered_mean(
    values: ArrayLike,
    *,
    clusters: Sequence[Sequence[Hashable]] = (),
    weights: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean of `values` with a clustered bootstrap interval.

    values: [n]; clusters: for each way of clustering (labeler, prompt; at most two) the cluster of
    every observation, none meaning that observations are independent; weights: [n], for a mean over
    unequal units such as the tokens of a document (None: equal).

    Raises: HarkError if a value or weight is not finite.
    """
    observed = require_finite(values, what="values")
    heavy = np.ones_like(observed) if weights is None else require_finite(weights, what="weights")
    if observed.size == 0 or heavy.sum() == 0:
        return NOTHING
    groups = cluster_codes(clusters, n=observed.size)
    fewest = min(int(codes.max()) + 1 for codes in groups)
    value = float((observed * heavy).sum() / heavy.sum())
    plain: dict[str, Any] = {"value": value, "n": observed.size, "clusters": fewest, "level": level}
    if fewest < 2:
        return Estimate(low=None, high=None, state="one cluster", **plain)
    columns = np.stack([observed * heavy, heavy], axis=1)
    sums = np.concatenate(list(resampled_sums(columns, groups, resamples=resamples, seed=seed)))
    sums = sums[sums[:, 1] > 0]
    means = sums[:, 0] / sums[:, 1]
    if np.ptp(means) <= 1e-12 * np.abs(observed).max():  # clusters that differ only by rounding
        return Estimate(low=None, high=None, state="no variation", **plain)
    low, high = percentile_interval(means, clusters=fewest, level=level)
    return Estimate(low=low, high=high, **plain)


def clustered_rate(
    values: ArrayLike,
    *,
    clusters: Sequence[Sequence[Hashable]] = (),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """As `clustered_mean`, for values within 0 and 1.

    Where all are 0 or all are 1 a bootstrap would claim certainty; Wilson's interval with one
    trial per cluster is given instead.
    """
    estimate = clustered_mean(
        values, clusters=clusters, level=level, resamples=resamples, seed=seed
    )
    if estimate.state != "no variation" or estimate.value not in (0.0, 1.0):
        return estimate
    wilson = proportion(estimate.value * estimate.clusters, estimate.clusters, level=level)
    return Estimate(
        value=estimate.value,
        low=wilson.low,
        high=wilson.high,
        n=estimate.n,
        clusters=estimate.clusters,
        level=level,
    )


def cluster_codes(clusters: Sequence[Sequence[Hashable]], *, n: int) -> list[NDArray[np.intp]]:
    """Number the clusters of each way worth resampling: one array [n] of 0, 1, … for each.

    Ways of one level are left out unless nothing else remains, and so is a way nested in the other.
    """
    if len(clusters) > 2:
        raise ValueError(f"at most two ways of clustering, got {len(clusters)}")
    coded = []
    for way in clusters:
        if len(way) != n:
            raise ValueError(f"{len(way)} cluster names for {n} values: give one for each")
        numbers: dict[Hashable, int] = {}
        coded.append(np.array([numbers.setdefault(name, len(numbers)) for name in way], np.intp))
    if not coded:
        return [np.arange(n)]
    coded = [codes for codes in coded if codes.max() > 0] or coded[:1]
    if len(coded) == 2:
        first, second = coded
        cells = len(np.unique(first * (second.max() + 1) + second))
        if cells == second.max() + 1:
            return [first]
        if cells == first.max() + 1:
            return [second]
    return coded


def resampled_sums(
    columns: Array, groups: Sequence[NDArray[np.intp]], *, resamples: int, seed: int
) -> Iterator[Array]:
    """Yield blocks [b, k] of the sums of `columns` [n, k] over resampled clusters.

    One way: whole clusters are drawn with replacement. Two ways: both are drawn independently and
    an observation counts as often as its two clusters together (Owen's pigeonhole bootstrap).
    """
    counts = [int(codes.max()) + 1 for codes in groups]
    generators = [np.random.default_rng((seed, way)) for way in range(len(groups))]
    tables = _cell_sums(columns, groups, counts)
    block = max(1, min(resamples, BLOCK // max(counts)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = [
            _draw_clusters(generator, count, size)
            for generator, count in zip(generators, counts, strict=True)
        ]
        if len(drawn) == 1:
            yield drawn[0] @ tables
        else:
            crossed = [((drawn[0] @ table) * drawn[1]).sum(axis=1) for table in tables]
            yield np.stack(crossed, axis=1)


def _cell_sums(columns: Array, groups: Sequence[NDArray[np.intp]], counts: list[int]) -> Array:
    """One way: [clusters, k]. Two ways: [k, clusters of the first, clusters of the second]."""
    if len(groups) == 1:
        table = np.zeros((counts[0], columns.shape[1]))
        np.add.at(table, groups[0], columns)
        return table
    crossed = np.zeros((columns.shape[1], *counts))
    for k in range(columns.shape[1]):
        np.add.at(crossed[k], (groups[0], groups[1]), columns[:, k])
    return crossed


def _draw_clusters(generator: np.random.Generator, count: int, size: int) -> Array:
    """How often each of `count` clusters is drawn in each of `size` resamples: [size, count]."""
    drawn = generator.integers(0, count, size=(size, count))
    drawn += np.arange(size)[:, None] * count
    return np.bincount(drawn.reshape(-1), minlength=size * count).reshape(size, count).astype(float)


def percentile_interval(
    replicates: Array, *, clusters: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentiles of `replicates`, widened for few clusters as Student's t widens a normal.

    Plain percentiles of G clusters are short by √((G−1)/G) and know no t quantile; the levels
    Φ(∓√(G/(G−1))·t) put both right and tend to the plain ones as G grows.
    """
    t = special.stdtrit(clusters - 1, 0.5 + level / 2)
    tail = float(special.ndtr(-math.sqrt(clusters / (clusters - 1)) * t))
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)
