"""What the best of n replies is worth, for every n from one set of draws.

Stiennon et al. (2009.01325, appendix G.3) and Bai et al. (2204.05862) choose the best
of n samples by a preference model, at KL = ln n − (n − 1)/n from the policy. Nakano et al.
(2112.09332, appendix I) estimate its value without bias from N ≥ n draws: the mean over all subsets
of n of what the preference model would choose, of which sorting the draws makes a weighted sum.

    E = Σ_i C(i − 1, n − 1) / C(N, n) · v_(i),   v_(i) the value of the draw of i-th lowest score

1. Draws of equal score rank in the order drawn: which one is taken says nothing of its value.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hark.errors import DataError
from hark.evaluation.divergence import best_of_n_divergence
from hark.evaluation.intervals import Array, Estimate, clustered_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """The best of n, as the preference model sees it and as another judge does."""

    n: int
    divergence: float
    """ln n − (n − 1)/n, nats."""
    preference: Estimate
    """Mean score by the preference model that chooses."""
    judge: Estimate
    """Mean score of what it chooses by a judge who does not."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        of = Estimate.from_json
        return cls(
            n=values["n"], divergence=values["divergence"],
            preference=of(values["preference"]), judge=of(values["judge"]),
        )  # fmt: skip


def best_of_n_values(scores: ArrayLike, values: ArrayLike, n: int) -> Array:
    """Expected value of the best by score of n of N draws. [P, N], [P, N] -> [P].

    Raises: DataError if n is not between 1 and N.
    """
    by, of = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
    draws = by.shape[-1]
    if not 1 <= n <= draws:
        raise DataError(f"the best of {n} cannot be told from {draws} draws; draw {n} or more")
    order = np.argsort(by, axis=-1, kind="stable")
    below = np.arange(draws)
    # Of the subsets of n, the share in which the draw with so many below it comes out best.
    log_share = _log_binomial(below, n - 1) - _log_binomial(np.array([draws]), n)
    result: Array = np.take_along_axis(of, order, axis=-1) @ np.exp(log_share)
    return result


def best_of_curve(
    scores: ArrayLike,
    values: ArrayLike,
    ns: Sequence[int],
    *,
    prompts: Sequence[Hashable],
    seed: int = 0,
) -> list[BestOf]:
    """One point for each n; intervals are clustered by prompt. scores, values: [P, N]."""
    ways = [list(prompts)]
    return [
        BestOf(
            n=n,
            divergence=best_of_n_divergence(n),
            preference=clustered_mean(
                best_of_n_values(scores, scores, n), clusters=ways, seed=seed
            ),
            judge=clustered_mean(best_of_n_values(scores, values, n), clusters=ways, seed=seed),
        )
        for n in ns
    ]


def _log_binomial(of: Array | np.ndarray[Any, Any], take: int) -> Array:
    """ln C(of, take); −∞ where there are too few."""
    large = np.maximum(of, take)
    logs = special.gammaln(large + 1) - special.gammaln(take + 1)
    logs = logs - special.gammaln(large - take + 1)
    result: Array = np.where(of >= take, logs, -np.inf)
    return result
