"""Strengths with their uncertainty: a fit, how sure of it one is, and any gap read from it.

Two ways to an interval. The jackknife (`bradley_terry.clustered_covariance`) takes Student's t of
G − 1 degrees of freedom around the estimate, where G is the number of labelers, or fewer where some
gave most votes. The bootstrap (Bai et al. 2204.05862 leave the choice open; clusters as in
`hark.evaluation.intervals`) draws whole labelers with replacement, fits every draw, and takes
percentiles at levels that make up for few clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hark.evaluation import bradley_terry
from hark.evaluation.bradley_terry import Codes, Fit
from hark.evaluation.intervals import (
    NOTHING,
    Array,
    Estimate,
    State,
    percentile_interval,
)
from hark.evaluation.refitting import refits

Intervals = Literal["jackknife", "bootstrap"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strengths:
    """A fit with its uncertainty, from which any gap is read."""

    index: dict[str, int]
    """Model → its parameter."""
    fit: Fit
    ways: tuple[Codes, ...]
    """The cluster of each vote, by each way of clustering."""
    covariances: tuple[Array, ...]
    """Of all parameters; the largest variance counts."""
    parts: NDArray[np.int32]
    """Which models a single cluster holds together: `bradley_terry.parts_without_one`."""
    clusters: int
    level: float
    replicates: Array | None
    """[B, p]: β of each resample; None where the jackknife gives the intervals."""

    @classmethod
    def of(
        cls,
        fitted: Fit,
        ways: Sequence[Codes],
        *,
        models: Sequence[str],
        intervals: Intervals = "jackknife",
        resamples: int = 1000,
        level: float = 0.95,
        seed: int = 0,
    ) -> Strengths:
        """Of a fit and the cluster of each game by each way of clustering: [n]."""
        drawn = None
        if intervals == "bootstrap":
            drawn = refits(fitted, ways, resamples=resamples, seed=seed)
        return cls(
            index={name: number for number, name in enumerate(models)},
            fit=fitted,
            ways=tuple(ways),
            covariances=tuple(bradley_terry.clustered_covariance(fitted, ways)),
            parts=bradley_terry.parts_without_one(fitted, ways[0]),
            clusters=min(int(codes.max()) + 1 for codes in ways),
            level=level,
            replicates=drawn,
        )

    def gap(self, model: str, other: str, shown_as: Callable[[float], float]) -> Estimate:
        """The gap between two models, its value and ends shown on another, increasing scale."""
        if not {model, other} <= set(self.index):
            return NOTHING
        contrast = np.zeros(len(self.fit.beta))
        contrast[self.index[model]] += 1
        contrast[self.index[other]] -= 1
        if model == other:
            value = shown_as(0.0)
            votes = len(self.fit.games.kind)
            return Estimate(value=value, low=None, high=None, n=votes, clusters=0, state="exact")
        one, two = self.parts[:, self.index[model]], self.parts[:, self.index[other]]
        return self.read(contrast, shown_as, alone=bool((one != two).any()))

    def read(
        self, contrast: Array, shown_as: Callable[[float], float], *, alone: bool = False
    ) -> Estimate:
        """The value of `contrast` @ β with its interval.

        alone: a single cluster tells of it, so that nothing is known of how clusters differ.
        """
        value = float(contrast @ self.fit.beta)
        state: State = self.fit.state_of(contrast)
        if state == "defined" and (self.clusters < 2 or alone):
            state = "one cluster"
        low = high = None
        if state == "defined":
            low, high = self._ends(contrast, value)
            state = "defined" if high - low > 2e-9 else "no variation"
        known = state == "defined"
        return Estimate(
            value=shown_as(value),
            low=shown_as(low) if known and low is not None else None,
            high=shown_as(high) if known and high is not None else None,
            n=len(self.fit.games.kind),
            clusters=self.clusters,
            level=self.level,
            state=state,
        )

    def _ends(self, contrast: Array, value: float) -> tuple[float, float]:
        even = min(
            bradley_terry.effective_clusters(self.fit, codes, contrast) for codes in self.ways
        )
        even = max(2.0, even)
        if self.replicates is not None:
            return percentile_interval(self.replicates @ contrast, clusters=even, level=self.level)
        variance = max(float(contrast @ one @ contrast) for one in self.covariances)
        half = float(special.stdtrit(even - 1, 0.5 + self.level / 2)) * math.sqrt(variance)
        return value - half, value + half
