"""The losses of tokens, compiled for a CPU: cross-entropy without a copy of logits in float32.

Sums are taken in one order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from hark.models.cpu_numbers import exp, narrowed, widened
from hark.models.cpu_tasks import FIRST_ARGUMENT, Loop, compiled, next_task, pointer
from hark.models.cpu_tiles import LANES

LOSSES = 8
"""Rows of a task of the losses."""

_SHARED = 7
"""Arguments that `_read` reads."""


class TokenLosses(torch.autograd.Function):
    """−log softmax(logits / temperature) at `targets`: [n] float32 from [n, V] and [n] long.

    With p the probabilities and g the gradient: d logits = g/temperature · (p − 1 at the target).
    Raises: IndexError for a target that is no token.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
        rows, vocabulary = logits.shape
        if rows and not (int(targets.min()) >= 0 and int(targets.max()) < vocabulary):
            raise IndexError(f"a target is not one of the {vocabulary} tokens")
        logits, targets = logits.contiguous(), targets.contiguous()
        losses, highest, spread = (logits.new_empty(rows, dtype=torch.float32) for _ in range(3))
        _losses.run(
            -(-rows // LOSSES),
            [logits.dtype],
            [rows, vocabulary, logits, targets, highest, spread, 1 / temperature, losses],
        )
        ctx.save_for_backward(logits, targets, highest, spread)
        ctx.temperature = temperature
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, targets, highest, spread = ctx.saved_tensors
        of_logits = torch.empty_like(logits)
        _loss_gradients.run(
            -(-len(logits) // LOSSES),
            [logits.dtype],
            [
                *logits.shape, logits, targets, highest, spread, 1 / ctx.temperature,
                gradient.float().contiguous(), of_logits,
            ],
        )  # fmt: skip
        return of_logits, None, None


def _losses_body(numbers: Any) -> Any:
    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + _SHARED + 1)
        logits, targets, highest, spread, factor = _read(given, numbers)
        losses = carray(pointer(given[FIRST_ARGUMENT + _SHARED]), len(logits), np.float32)
        some = np.empty(LANES, np.float32)
        task = next_task(data)
        while task < given[1]:
            for row in range(LOSSES * task, min(LOSSES * (task + 1), len(logits))):
                highest[row] = _highest(logits[row], some)
                spread[row] = np.log(_sum_of_powers(logits[row], highest[row], factor, some))
                below = widened(logits[row, targets[row]]) - highest[row]
                losses[row] = spread[row] - below * factor
            task = next_task(data)

    return body


def _loss_gradients_body(numbers: Any) -> Any:
    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + _SHARED + 2)
        logits, targets, highest, spread, factor = _read(given, numbers)
        own = given[FIRST_ARGUMENT + _SHARED :]
        gradient = carray(pointer(own[0]), len(logits), np.float32)
        of_logits = carray(pointer(own[1]), logits.shape, numbers)
        one = np.float32(1)
        task = next_task(data)
        while task < given[1]:
            for row in range(LOSSES * task, min(LOSSES * (task + 1), len(logits))):
                scale, target = gradient[row] * factor, targets[row]
                _powers(of_logits[row], logits[row], highest[row], factor, spread[row], scale)
                power = exp((widened(logits[row, target]) - highest[row]) * factor - spread[row])
                of_logits[row, target] = narrowed(scale * (power - one), of_logits)
            task = next_task(data)

    return body


@compiled
def _read(given: Any, numbers: Any) -> Any:
    """What both bodies get first: logits, targets, each row's highest logit and the logarithm of
    its sum of powers, and 1/temperature."""
    shape = given[FIRST_ARGUMENT], given[FIRST_ARGUMENT + 1]
    at = given[FIRST_ARGUMENT + 2 :]
    return (
        carray(pointer(at[0]), shape, numbers),
        carray(pointer(at[1]), shape[0], np.int64),
        carray(pointer(at[2]), shape[0], np.float32),
        carray(pointer(at[3]), shape[0], np.float32),
        np.float32(at[4:5].view(np.float64)[0]),
    )


_losses, _loss_gradients = Loop(_losses_body), Loop(_loss_gradients_body)

# One loop over few arrays each: LLVM makes vectors of those alone. A row stays in the first cache.
# What is gathered over a row is gathered in the lanes of a vector, `some` [LANES] float32: LLVM
# must not change the order of sums, and does not see that the order of maxima is of no matter.


@compiled
def _highest(row: Any, some: Any) -> Any:
    some[:] = -np.inf
    whole = len(row) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            some[lane] = max(some[lane], widened(row[start + lane]))
    for i in range(whole, len(row)):
        some[0] = max(some[0], widened(row[i]))
    return some.max()


@compiled
def _sum_of_powers(row: Any, highest: Any, factor: Any, some: Any) -> Any:
    some[:] = 0
    whole = len(row) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            some[lane] += exp((widened(row[start + lane]) - highest) * factor)
    for i in range(whole, len(row)):
        some[i - whole] += exp((widened(row[i]) - highest) * factor)
    return some.sum()


@compiled
def _powers(out: Any, row: Any, highest: Any, factor: Any, spread: Any, scale: Any) -> None:
    for i in range(len(out)):
        out[i] = narrowed(scale * exp((widened(row[i]) - highest) * factor - spread), out)
