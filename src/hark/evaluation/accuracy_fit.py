"""Accuracy against model size and amount of data: accuracy = a + b·ln P + c·ln D.

Bai et al. (2204.05862), section 3.2, for helpfulness, P parameters and D comparisons:
0.72 + 0.007·ln(P/10¹¹) + 0.015·ln(D/(8·10⁴)) (natural logarithms, as the range of the figure has
it); Stiennon et al. (2009.01325), section 4.3: +1.1 points for each doubling of the data, +1.8 for
each doubling of the model.

1. Ordinary least squares with Student's t: trainings are independent, their errors taken as normal
   and of one size. That holds between chance and the ceiling of the labels, not near either.
2. A variable with one value has no slope: it is "not identified" and left to the constant.
3. P and D are counted from their geometric means, where the constant is known best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hark.errors import HarkError
from hark.evaluation.intervals import Array, Estimate, require_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyFit:
    """The plane, and how well it is known."""

    accuracy: Estimate
    """a: at the reference size and amount."""
    per_size: Estimate
    """b: for each e-fold of parameters."""
    per_data: Estimate
    """c: for each e-fold of comparisons."""
    parameters: float
    """Reference P."""
    comparisons: float
    """Reference D."""
    residual_deviation: float
    """Standard deviation of a training about the plane."""

    def at(self, parameters: float, comparisons: float) -> float:
        """The accuracy that the plane says."""
        slopes = (self.per_size.value or 0.0, self.per_data.value or 0.0)
        assert self.accuracy.value is not None
        return (
            self.accuracy.value
            + slopes[0] * math.log(parameters / self.parameters)
            + slopes[1] * math.log(comparisons / self.comparisons)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)


def fit_accuracy(
    accuracies: ArrayLike,
    parameters: Sequence[float],
    comparisons: Sequence[float],
    *,
    level: float = 0.95,
) -> AccuracyFit:
    """Fit the plane to trainings; accuracies: [n], each with its P and D.

    Raises: HarkError if a number is not finite, a P or D not positive, or too few trainings remain
    to tell noise from slope.
    """
    observed = require_finite(accuracies, what="accuracies")
    sizes, reference_size = _logarithms(parameters, "numbers of parameters")
    amounts, reference_amount = _logarithms(comparisons, "numbers of comparisons")
    varying = [column for column in (sizes, amounts) if np.ptp(column) > 0]
    design = np.stack([np.ones_like(observed), *varying], axis=1)
    freedom = len(observed) - design.shape[1]
    if freedom < 1:
        raise HarkError(
            f"{len(observed)} trainings cannot tell noise from {design.shape[1]} coefficients; "
            "give more sizes, amounts or seeds"
        )
    coefficients, *_ = np.linalg.lstsq(design, observed, rcond=None)
    residuals = observed - design @ coefficients
    variance = float(residuals @ residuals) / freedom
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    reach = float(special.stdtrit(freedom, 0.5 + level / 2))
    estimates = iter(
        Estimate(
            value=float(value), low=float(value - reach * error),
            high=float(value + reach * error), n=len(observed), clusters=len(observed), level=level,
        )
        for value, error in zip(coefficients, errors, strict=True)
    )  # fmt: skip
    unknown = Estimate(
        value=None, low=None, high=None, n=len(observed), clusters=len(observed),
        level=level, state="not identified",
    )  # fmt: skip
    return AccuracyFit(
        accuracy=next(estimates),
        per_size=next(estimates) if np.ptp(sizes) > 0 else unknown,
        per_data=next(estimates) if np.ptp(amounts) > 0 else unknown,
        parameters=reference_size,
        comparisons=reference_amount,
        residual_deviation=math.sqrt(variance),
    )


def _logarithms(values: Sequence[float], what: str) -> tuple[Array, float]:
    """ln of each over the geometric mean, and that mean."""
    numbers = require_finite(values, what=what)
    if np.any(numbers <= 0):
        raise HarkError(f"{what} must be positive, got {float(numbers.min()):g}")
    logarithms = np.log(numbers)
    middle = float(logarithms.mean())
    return logarithms - middle, math.exp(middle)
