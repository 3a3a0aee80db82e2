"""One number a seed, and what it says about other seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from hark.evaluation.intervals import NOTHING, Estimate, require_finite

SHARED_START = (
    "seeds vary sampled replies, labelers, heads, the order of data and sampling; world, base and "
    "SFT model are one"
)
"""What an interval over seeds speaks of where all of them start from one SFT model."""


def mean_over_seeds(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """Mean of independent trainings' numbers with Student's interval; none of a single one.

    Raises: HarkError if a number is not finite.
    """
    observed = require_finite(values, what="numbers of seeds")
    n = observed.size
    if n == 0:
        return NOTHING
    mean = float(observed.mean())
    if n == 1:
        return Estimate(value=mean, low=None, high=None, n=1, clusters=1, state="one cluster")
    half = float(special.stdtrit(n - 1, 0.5 + level / 2) * observed.std(ddof=1) / math.sqrt(n))
    if half <= 1e-12 * float(np.abs(observed).max()):
        return Estimate(
            value=mean, low=None, high=None, n=n, clusters=n, level=level, state="no variation"
        )
    return Estimate(value=mean, low=mean - half, high=mean + half, n=n, clusters=n, level=level)
