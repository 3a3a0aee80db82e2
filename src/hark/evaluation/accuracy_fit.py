"""Accuracy against model size and amount of data: accuracy = a + b·ln P + c·ln D.

Bai et al. (2204.05862), for helpfulness, P parameters and D comparisons:
0.72 + 0.007·ln(P/10¹¹) + 0.015·ln(D/(8·10⁴)) (natural logarithms, as the range of the figure has
it); Stiennon et al. (2009.01325), section 4.3: +1.1 points for each doubling of the data, +1.8 for
each doubling of the model.

1. Ordinary least squares without an interval: trainings of one seed share their data, so that only
   seeds are independent. Fit each seed alone, and take the interval over seeds.
2. A variable with one value has no slope; it is left to the constant.
3. P and D are counted from their geometric means, where the constant is known best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hark.errors import HarkError
from hark.evaluation.intervals import Array, require_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyFit:
    """The plane through the trainings of one seed."""

    accuracy: float
    """a: at the reference size and amount."""
    per_size: float | None
    """b: for each e-fold of parameters; None where they do not vary."""
    per_data: float | None
    """c: for each e-fold of comparisons; None where they do not vary."""
    parameters: float
    """Reference P."""
    comparisons: float
    """Reference D."""

    def at(self, parameters: float, comparisons: float) -> float:
        """The accuracy that the plane says."""
        return (
            self.accuracy
            + (self.per_size or 0.0) * math.log(parameters / self.parameters)
            + (self.per_data or 0.0) * math.log(comparisons / self.comparisons)
        )


def fit_accuracy(
    accuracies: ArrayLike, parameters: Sequence[float], comparisons: Sequence[float]
) -> AccuracyFit:
    """Fit the plane to trainings; accuracies: [n], each with its P and D.

    Raises: HarkError if a number is not finite, a P or D not positive, or the trainings do not
    tell the coefficients apart.
    """
    observed = require_finite(accuracies, what="accuracies")
    sizes, reference_size = _logarithms(parameters, "numbers of parameters")
    amounts, reference_amount = _logarithms(comparisons, "numbers of comparisons")
    varying = [column for column in (sizes, amounts) if np.ptp(column) > 0]
    design = np.stack([np.ones_like(observed), *varying], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise HarkError(
            f"{len(observed)} trainings do not tell {design.shape[1]} coefficients apart; give "
            "more sizes or amounts to each seed"
        )
    found, *_ = np.linalg.lstsq(design, observed, rcond=None)
    coefficients = iter(found.tolist())
    return AccuracyFit(
        accuracy=next(coefficients),
        per_size=next(coefficients) if np.ptp(sizes) > 0 else None,
        per_data=next(coefficients) if np.ptp(amounts) > 0 else None,
        parameters=reference_size,
        comparisons=reference_amount,
    )


def _logarithms(values: Sequence[float], what: str) -> tuple[Array, float]:
    """ln of each over the geometric mean, and that mean."""
    numbers = require_finite(values, what=what)
    if np.any(numbers <= 0):
        raise HarkError(f"{what} must be positive, got {float(numbers.min()):g}")
    logarithms = np.log(numbers)
    middle = float(logarithms.mean())
    return logarithms - middle, math.exp(middle)
