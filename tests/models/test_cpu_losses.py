"""Losses of tokens as compiled for a CPU, against the same written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from tests.models.written_out import assert_near, exact, of, on_any_number_of_threads
from torch import Tensor
from torch.nn import functional as F

from hark.models.cpu_losses import LOSSES, TokenLosses


def test_losses_worked_by_hand() -> None:
    # Probabilities 1/4 and 3/4; at temperature 1/2 they are 1/10 and 9/10.
    logits = torch.tensor([[0.0, math.log(3)]] * 2, requires_grad=True)
    targets = torch.tensor([0, 1])
    losses = TokenLosses.apply(logits, targets, 1.0)
    assert losses.tolist() == pytest.approx([math.log(4), math.log(4 / 3)])
    losses.backward(torch.tensor([1.0, 2.0]))
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-3 / 4, 3 / 4, 2 / 4, -2 / 4])
    sharper = TokenLosses.apply(logits, targets, 0.5)
    assert sharper.tolist() == pytest.approx([math.log(10), math.log(10 / 9)])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)], ids=["float32", "bf16"]
)
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (LOSSES + 3, 61), (5, 5000)])
def test_they_equal_losses_written_out(
    shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    logits = (5 * torch.randn(shape)).to(dtype).requires_grad_()
    targets = torch.randint(shape[1], shape[:1])
    losses = TokenLosses.apply(logits, targets, 0.7)
    received = torch.randn(shape[0])
    losses.backward(received)
    (right,) = exact(logits)
    expected = F.cross_entropy(right / 0.7, targets, reduction="none")
    expected.backward(received.double())
    assert losses.dtype == torch.float32
    assert logits.grad is not None
    if logits.numel() > 1:  # what is certain has neither loss nor gradient
        assert_near([losses], [expected], 1e-6)
        assert_near(of([logits]), of([right]), tolerance)
    else:
        assert losses.tolist() == [0.0] * shape[0]
        assert not logits.grad.any()


def test_losses_of_logits_far_apart_and_of_none() -> None:
    inf, nan = float("inf"), float("nan")
    logits = torch.tensor(
        [[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-inf, 0.0, 0.0], [0.0, nan, 0.0], [3.0, 3.0, 3.0]],
        requires_grad=True,
    )
    losses = TokenLosses.apply(logits, torch.tensor([0, 1, 2, 0, 1]), 1.0)
    losses.sum().backward()
    expected = logits.detach().requires_grad_()
    plain = F.cross_entropy(expected, torch.tensor([0, 1, 2, 0, 1]), reduction="none")
    plain.sum().backward()
    torch.testing.assert_close(losses, plain, equal_nan=True)
    torch.testing.assert_close(logits.grad, expected.grad, equal_nan=True)


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_that_is_no_token_is_refused(target: int) -> None:
    with pytest.raises(IndexError, match="not one of the 3 tokens"):
        TokenLosses.apply(torch.zeros(1, 3), torch.tensor([target]), 1.0)


def test_threads_do_not_change_a_bit_nor_do_layouts() -> None:
    torch.manual_seed(0)
    logits, received = torch.randn(64, 500).t(), torch.randn(1000)[::2]

    def outcome() -> list[Tensor]:
        given = logits.detach().requires_grad_()
        losses = TokenLosses.apply(given, torch.arange(500) % 64, 1.0)
        losses.backward(received)
        assert given.grad is not None
        return [losses, given.grad]

    _, of_logits = on_any_number_of_threads(outcome)
    (right,) = exact(logits)
    F.cross_entropy(right, torch.arange(500) % 64, reduction="none").backward(received.double())
    assert_near([of_logits], of([right]), 1e-6)
