"""The √KL law: reward grows about linearly with the square root of the divergence.

Bai et al. (2022, figure 4): over most of training, reward ≈ a + b·√KL(π ‖ π₀). How
good that description is, is told by the share of variance it explains, beside that of a line in KL.

Intervals: the steps of one training follow one another, and neighbours resemble each other; whole
blocks of consecutive steps are resampled instead of single ones (Künsch 1989). They speak of this
one training; what another seed would give, only more seeds tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from hark.evaluation.intervals import Array, Estimate, percentile_interval, require_finite

BLOCKS = 12
"""Into which a training's steps are parted for the bootstrap, where it has as many."""
LEAST_BLOCKS = 4
"""With fewer there is no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareRootFit:
    """Least-squares line of reward on √KL."""

    slope: float
    """b, reward per square root of a nat."""
    intercept: float
    """a, reward of the reference policy."""
    r_squared: float
    """Share of the variance of reward explained by √KL."""
    r_squared_of_divergence: float
    """The same by KL itself; the law says it is the smaller one."""
    points: int
    slope_of_divergence: float = float("nan")
    """Reward per nat, of the line on KL."""


def fit_square_root(divergence: ArrayLike, reward: ArrayLike) -> SquareRootFit | None:
    """Fit reward against √KL; divergence and reward: [n], nats and reward units.

    None with fewer than three points or where either does not vary. Estimates of a divergence near
    zero may be negative; they count as zero. Raises: HarkError if a number is not finite.
    """
    nats = np.clip(require_finite(divergence, what="divergences"), 0.0, None)
    rewards = require_finite(reward, what="rewards")
    if nats.size < 3 or np.ptp(nats) == 0 or np.ptp(rewards) == 0:
        return None
    roots = np.sqrt(nats)
    slope, intercept = np.polyfit(roots, rewards, 1)
    return SquareRootFit(
        slope=float(slope),
        intercept=float(intercept),
        r_squared=_r_squared(roots, rewards),
        r_squared_of_divergence=_r_squared(nats, rewards),
        points=nats.size,
        slope_of_divergence=float(np.polyfit(nats, rewards, 1)[0]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardCurve:
    """The same with intervals."""

    slope: Estimate
    """Reward per square root of a nat."""
    slope_of_divergence: Estimate
    """Reward per nat."""
    r_squared: Estimate
    """Of √KL."""
    r_squared_of_divergence: Estimate
    """Of KL."""
    advantage: Estimate
    """R² of √KL less that of KL: above 0 where the law describes the training better."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{name: Estimate.from_json(value) for name, value in values.items()})


def reward_curve(
    divergence: ArrayLike,
    reward: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> RewardCurve | None:
    """Fit a training's steps, in their order, with block-bootstrap intervals; None as for
    `fit_square_root`. Raises: HarkError if a number is not finite.
    """
    fit = fit_square_root(divergence, reward)
    if fit is None:
        return None
    nats, rewards = np.asarray(divergence, dtype=float), np.asarray(reward, dtype=float)
    blocks = np.array_split(np.arange(nats.size), min(BLOCKS, nats.size // 2))
    draw = np.random.default_rng(seed)
    drawn = (
        np.concatenate([blocks[i] for i in draw.integers(len(blocks), size=len(blocks))])
        for _ in range(resamples if len(blocks) >= LEAST_BLOCKS else 0)
    )
    fits = [again for rows in drawn if (again := fit_square_root(nats[rows], rewards[rows]))]
    return RewardCurve(
        **{
            name: _estimate(
                of(fit), [of(each) for each in fits], points=nats.size, blocks=len(blocks),
                level=level,
            )
            for name, of in _MEASURES.items()
        }
    )  # fmt: skip


_MEASURES: dict[str, Callable[[SquareRootFit], float]] = {
    "slope": lambda fit: fit.slope,
    "slope_of_divergence": lambda fit: fit.slope_of_divergence,
    "r_squared": lambda fit: fit.r_squared,
    "r_squared_of_divergence": lambda fit: fit.r_squared_of_divergence,
    "advantage": lambda fit: fit.r_squared - fit.r_squared_of_divergence,
}


def _estimate(
    value: float, replicates: list[float], *, points: int, blocks: int, level: float
) -> Estimate:
    plain: dict[str, Any] = {"value": value, "n": points, "clusters": blocks, "level": level}
    if len(replicates) < 2:
        return Estimate(low=None, high=None, state="one cluster", **plain)
    low, high = percentile_interval(np.asarray(replicates), clusters=blocks, level=level)
    return Estimate(low=low, high=high, **plain)


def _r_squared(x: Array, y: Array) -> float:
    return float(np.corrcoef(x, y)[0, 1] ** 2)
