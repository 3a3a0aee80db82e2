"""Strengths fitted again to resampled clusters: what a clustered bootstrap takes percentiles of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hark.evaluation.bradley_terry import Codes, Fit, maximise
from hark.evaluation.intervals import Array, resampled_sums

NEGLIGIBLE = 1e-6
"""Gain in log-likelihood at which a refit ends; far below what resampling moves."""


def refits(fitted: Fit, ways: Sequence[Codes], *, resamples: int, seed: int) -> Array:
    """[B, p]: β of each resample.

    ways: for one or two ways of clustering the cluster of each game [n]; whole clusters are drawn
    with replacement, of two crossed ways both (`intervals.resampled_sums`).
    """
    games = fitted.games
    kinds = np.zeros((len(games.kind), len(games.first)))
    kinds[np.arange(len(games.kind)), games.kind] = 1.0
    found = [
        maximise(
            fitted.design, counts, ridge=fitted.ridge, start=fitted.beta, negligible=NEGLIGIBLE
        )
        for counts in resampled_sums(kinds, ways, resamples=resamples, seed=seed)
    ]
    return np.concatenate(found)
