"""What is done to one token after the other, compiled for a CPU: norms and gates.

A norm of root mean square adds a branch to the residual stream and normalises the sum in one pass
over memory; its gradients are another. So is a gated activation. The stream and the branches may
have different dtypes, as under autocast; all is computed in float32 and rounded to what it is kept
in.

Sums are taken in one order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor
from torch.autograd.function import once_differentiable

from hark.models.cpu_numbers import exp, multiply_add, narrowed, widened
from hark.models.cpu_tasks import FIRST_ARGUMENT, Loop, compiled, next_task, pointer
from hark.models.cpu_tiles import LANES

ROWS = 32
"""Rows of a task of a norm."""
BLOCK = 8192
"""Numbers of a task of a gate."""

_PARTS = 4 * LANES
"""Partial sums of a row: so many that vectors of them need not wait for one another."""


class AddedNorm(torch.autograd.Function):
    """t = x + branch, and w · t / √(mean t² + ε) over the last dimension in `dtype`.

    x: [n, D]; branch: [n, D], taken in `dtype`, or None for none; weight: [D]. With
    r = 1/√(mean t² + ε), n = t·r and the gradient g of the norm: dw = Σ g·n,
    dt = r·(g·w − n·⟨g·w, n⟩/D).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor | None,
        weight: Tensor,
        epsilon: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        total = x if branch is None else torch.empty_like(x)
        added = 0 if branch is None else branch.to(dtype).contiguous()
        normal = torch.empty_like(x, dtype=dtype)
        scale = x.new_empty(len(x), dtype=torch.float32)
        factors = weight.float().contiguous()
        _norm.run(
            -(-len(x) // ROWS),
            [x.dtype, dtype],
            [*x.shape, x, added, total, normal, scale, factors, epsilon],
        )
        ctx.save_for_backward(total, weight, scale)
        ctx.dtypes = x.dtype, dtype, None if branch is None else branch.dtype
        ctx.set_materialize_grads(False)
        return total, normal

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_total: Tensor | None, of_normal: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        total, weight, scale = ctx.saved_tensors
        stream, dtype, branch_dtype = ctx.dtypes
        has_branch = branch_dtype is not None
        if of_normal is None:
            through = of_total.to(branch_dtype) if has_branch and of_total is not None else None
            return of_total, through, None, None, None
        tasks = -(-len(total) // ROWS)
        of_x = torch.empty_like(total)
        of_branch = torch.empty_like(total, dtype=dtype) if has_branch else 0
        of_weight = weight.new_empty(tasks, total.shape[1], dtype=torch.float32)
        received = 0 if of_total is None else of_total.to(stream).contiguous()
        factors = weight.float().contiguous()
        _norm_gradients.run(
            tasks,
            [stream, dtype],
            [
                *total.shape, total, scale, factors, of_normal.to(dtype).contiguous(), received,
                of_x, of_branch, of_weight,
            ],
        )  # fmt: skip
        through = of_branch.to(branch_dtype) if isinstance(of_branch, Tensor) else None
        return of_x, through, of_weight.sum(0).to(weight.dtype), None, None


class GatedSilu(torch.autograd.Function):
    """silu(gate) · up of the same shape, in the gate's dtype; nothing but the two is kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.to(gate.dtype).contiguous()
        output = torch.empty_like(gate)
        _gate.run(-(-gate.numel() // BLOCK), [gate.dtype], [gate.numel(), gate, up, output])
        ctx.save_for_backward(gate, up)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_gate, of_up = torch.empty_like(gate), torch.empty_like(up)
        _gate_gradients.run(
            -(-gate.numel() // BLOCK),
            [gate.dtype],
            [gate.numel(), gate, up, gradient.contiguous(), of_gate, of_up],
        )
        return of_gate, of_up


def _norm_body(stream: Any, numbers: Any) -> Any:
    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + 9)
        shape = given[FIRST_ARGUMENT], given[FIRST_ARGUMENT + 1]
        at = given[FIRST_ARGUMENT + 2 :]
        x = carray(pointer(at[0]), shape, stream)
        branch = carray(pointer(at[1]), (shape[0] if at[1] else 0, shape[1]), numbers)
        total = carray(pointer(at[2]), shape, stream)
        normal = carray(pointer(at[3]), shape, numbers)
        scale = carray(pointer(at[4]), shape[0], np.float32)
        weight = carray(pointer(at[5]), shape[1], np.float32)
        epsilon = np.float32(at[6:7].view(np.float64)[0])
        some = np.empty(_PARTS, np.float32)
        task = next_task(data)
        while task < given[1]:
            for row in range(ROWS * task, min(ROWS * (task + 1), shape[0])):
                if len(branch):
                    _add(total[row], x[row], branch[row])
                scale[row] = _inverse_root(_mean_square(total[row], some) + epsilon)
                _scale(normal[row], total[row], scale[row], weight)
            task = next_task(data)

    return body


def _norm_gradients_body(stream: Any, numbers: Any) -> Any:
    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + 10)
        shape = given[FIRST_ARGUMENT], given[FIRST_ARGUMENT + 1]
        at = given[FIRST_ARGUMENT + 2 :]
        total = carray(pointer(at[0]), shape, stream)
        scale = carray(pointer(at[1]), shape[0], np.float32)
        weight = carray(pointer(at[2]), shape[1], np.float32)
        of_normal = carray(pointer(at[3]), shape, numbers)
        of_total = carray(pointer(at[4]), (shape[0] if at[4] else 0, shape[1]), stream)
        of_x = carray(pointer(at[5]), shape, stream)
        of_branch = carray(pointer(at[6]), (shape[0] if at[6] else 0, shape[1]), numbers)
        of_weight = carray(pointer(at[7]), (given[1], shape[1]), np.float32)
        weighted = np.empty(shape[1], np.float32)
        some = np.empty(_PARTS, np.float32)
        task = next_task(data)
        while task < given[1]:
            of_weight[task] = 0
            for row in range(ROWS * task, min(ROWS * (task + 1), shape[0])):
                _add_products(of_weight[task], of_normal[row], total[row], scale[row])
                along = _weigh(weighted, of_normal[row], weight, total[row], some)
                along *= scale[row] * scale[row] / np.float32(shape[1])
                _pull_back(weighted, total[row], along, scale[row])
                if len(of_total):
                    _add(of_x[row], weighted, of_total[row])
                else:
                    _convert(of_x[row], weighted)
                if len(of_branch):
                    _convert(of_branch[row], of_x[row])
            task = next_task(data)

    return body


def _gate_body(numbers: Any) -> Any:
    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + 4)
        count, at = given[FIRST_ARGUMENT], given[FIRST_ARGUMENT + 1 :]
        gate = carray(pointer(at[0]), count, numbers)
        up = carray(pointer(at[1]), count, numbers)
        output = carray(pointer(at[2]), count, numbers)
        task = next_task(data)
        while task < given[1]:
            part = slice(BLOCK * task, min(BLOCK * (task + 1), count))
            _gated(output[part], gate[part], up[part])
            task = next_task(data)

    return body


def _gate_gradients_body(numbers: Any) -> Any:
    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + 6)
        count, at = given[FIRST_ARGUMENT], given[FIRST_ARGUMENT + 1 :]
        gate = carray(pointer(at[0]), count, numbers)
        up = carray(pointer(at[1]), count, numbers)
        gradient = carray(pointer(at[2]), count, numbers)
        of_gate = carray(pointer(at[3]), count, numbers)
        of_up = carray(pointer(at[4]), count, numbers)
        task = next_task(data)
        while task < given[1]:
            part = slice(BLOCK * task, min(BLOCK * (task + 1), count))
            _differentiate_gate(of_gate[part], of_up[part], gate[part], up[part], gradient[part])
            task = next_task(data)

    return body


_norm, _norm_gradients = Loop(_norm_body), Loop(_norm_gradients_body)
_gate, _gate_gradients = Loop(_gate_body), Loop(_gate_gradients_body)

# Steps of a row [D], in loops as in `cpu_losses`; some: [_PARTS] float32.


@compiled
def _add(out: Any, left: Any, right: Any) -> None:
    for i in range(len(out)):
        out[i] = narrowed(widened(left[i]) + widened(right[i]), out)


@compiled
def _mean_square(row: Any, some: Any) -> Any:
    some[:] = 0
    whole = len(row) // _PARTS * _PARTS
    for start in range(0, whole, _PARTS):
        for part in range(_PARTS):
            number = widened(row[start + part])
            some[part] = multiply_add(number, number, some[part])
    for i in range(whole, len(row)):
        some[i - whole] = multiply_add(widened(row[i]), widened(row[i]), some[i - whole])
    return some.sum() / np.float32(len(row))


@compiled
def _inverse_root(number: Any) -> Any:
    """1/√x; of 0 infinity, which the body itself, not being `compiled`, would stop at."""
    return np.float32(1) / np.sqrt(number)


@compiled
def _scale(out: Any, row: Any, scale: Any, weight: Any) -> None:
    for i in range(len(out)):
        out[i] = narrowed(widened(row[i]) * scale * weight[i], out)


@compiled
def _add_products(out: Any, left: Any, right: Any, scale: Any) -> None:
    for i in range(len(out)):
        out[i] = multiply_add(widened(left[i]), widened(right[i]) * scale, out[i])


@compiled
def _weigh(out: Any, row: Any, weight: Any, other: Any, some: Any) -> Any:
    """out = row · weight, and its inner product with `other`."""
    for i in range(len(out)):
        out[i] = widened(row[i]) * weight[i]
    some[:] = 0
    whole = len(out) // _PARTS * _PARTS
    for start in range(0, whole, _PARTS):
        for part in range(_PARTS):
            some[part] = multiply_add(out[start + part], widened(other[start + part]), some[part])
    for i in range(whole, len(out)):
        some[i - whole] = multiply_add(out[i], widened(other[i]), some[i - whole])
    return some.sum()


@compiled
def _pull_back(weighted: Any, row: Any, along: Any, scale: Any) -> None:
    for i in range(len(weighted)):
        weighted[i] = scale * multiply_add(widened(row[i]), -along, weighted[i])


@compiled
def _convert(out: Any, row: Any) -> None:
    for i in range(len(out)):
        out[i] = narrowed(widened(row[i]), out)


@compiled
def _gated(out: Any, gate: Any, up: Any) -> None:
    for i in range(len(out)):
        number = widened(gate[i])
        out[i] = narrowed(number * _sigmoid(number) * widened(up[i]), out)


@compiled
def _differentiate_gate(of_gate: Any, of_up: Any, gate: Any, up: Any, gradient: Any) -> None:
    one = np.float32(1)
    for i in range(len(gate)):
        number, received = widened(gate[i]), widened(gradient[i])
        share = _sigmoid(number)
        slope = share * multiply_add(number, one - share, one)
        of_up[i] = narrowed(received * number * share, of_up)
        of_gate[i] = narrowed(received * widened(up[i]) * slope, of_gate)


@compiled
def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(−x)), where nothing overflows."""
    one = np.float32(1)
    power = exp(-abs(x))
    return (one if x >= np.float32(0) else power) / (one + power)
