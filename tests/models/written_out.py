"""What a compiled step is compared with: the same in float64, and on other numbers of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def exact(*tensors: Tensor) -> list[Tensor]:
    """Copies in float64 that take gradients."""
    return [each.detach().double().requires_grad_() for each in tensors]


def assert_near(got: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Each differs by no more than this share of the norm of what was expected."""
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        error = (one.detach().double() - other.detach()).norm()
        assert float(error) <= tolerance * float(other.detach().norm())


def of(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Their gradients."""
    return [each.grad for each in inputs if each.grad is not None]


def on_any_number_of_threads(outcome: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
    """What it gives on one thread, bit for bit the same as on three."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        on_three = outcome()
        torch.set_num_threads(1)
        on_one = outcome()
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(on_three, on_one, strict=True):
        assert torch.equal(one, other)
    return on_one
