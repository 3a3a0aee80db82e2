"""What compiled code computes of one number, against the same in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hark.models.cpu_numbers import exp, multiply_add
from hark.models.cpu_tasks import compiled


@compiled
def powers(out: Any, numbers: Any) -> None:
    for i in range(len(out)):
        out[i] = exp(numbers[i])


@pytest.mark.parametrize(("lowest", "tolerance"), [(-10, 3e-7), (-87, 1.3e-6)])
def test_powers_are_as_near_as_they_say(lowest: float, tolerance: float) -> None:
    numbers = np.linspace(lowest, 0, 200_001, dtype=np.float32)
    out = np.empty_like(numbers)
    powers(out, numbers)
    assert np.abs(out / np.exp(numbers.astype(np.float64)) - 1).max() < tolerance


def test_powers_at_the_ends() -> None:
    numbers = np.array([0.0, -0.0, -87.5, -1e30, -np.inf, np.nan], np.float32)
    out = np.empty_like(numbers)
    powers(out, numbers)
    assert out[:5].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert np.isnan(out[5])


def test_a_product_and_a_sum_are_rounded_once() -> None:
    @compiled
    def both(x: Any) -> Any:
        return multiply_add(x, x, -x * x)

    # (1 + 2^-12)^2 has a bit that float32 does not keep: 2^-24.
    assert both(np.float32(1 + 2**-12)) == 2.0**-24
