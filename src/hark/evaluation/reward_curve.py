"""The √KL law: reward grows about linearly with the square root of the divergence.

Bai et al. (2022, section 4.3 and figure 4): over most of training, reward ≈ a + b·√KL(π ‖ π₀). How
good that description is, is told by the share of variance it explains, beside that of a line in KL.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hark.evaluation.intervals import Array, require_finite


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
    )


def _r_squared(x: Array, y: Array) -> float:
    return float(np.corrcoef(x, y)[0, 1] ** 2)
