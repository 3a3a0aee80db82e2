"""Linear maps on a CPU by the faster of the two libraries of products that torch brings.

In float32 torch multiplies by MKL, which leaves AVX-512 unused on processors that are not Intel's.
oneDNN, which torch takes for bfloat16, uses it: 2.3 times as fast (decision 0018). Products of
hundreds of rows in float32 go there; fewer, as in drawing a token after the other, and bfloat16
stay where they are. Both libraries give the same to rounding.

oneDNN prepares each new shape for half a millisecond before it multiplies the first time. What
computes thousands of passes of as many lengths fills them up to one of few (`filled_up`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEWEST_ROWS = 256
"""With fewer rows than this products stay with MKL: oneDNN prepares each new shape first."""

LENGTHS_PER_OCTAVE = 32
"""To how many different numbers of rows from n to 2n `filled_up` goes: 1 % is added on average."""

_onednn = torch.ops.mkldnn
HAS_PRODUCT = hasattr(_onednn, "_linear_pointwise")
"""Whether torch was built with oneDNN."""


def filled_up(rows: int) -> int:
    """The next number of rows of those to which products are filled up."""
    step = max(1, (1 << rows.bit_length() >> 1) // LENGTHS_PER_OCTAVE)
    return -(-rows // step) * step


def quicken_linear(module: nn.Module) -> None:
    """Let all of a module's linear maps multiply so, where they can."""
    if not HAS_PRODUCT:
        return
    for each in module.modules():
        if type(each) is nn.Linear:
            each.__class__ = CpuLinear


class CpuLinear(nn.Linear):
    """A linear map whose float32 products of many rows on a CPU are oneDNN's."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        rows = input.numel() // self.in_features
        is_float32 = input.dtype == self.weight.dtype == torch.float32
        if (
            rows < FEWEST_ROWS
            or not is_float32
            or input.device.type != "cpu"
            or torch.is_autocast_enabled("cpu")
        ):
            return super().forward(input)
        flat = input.reshape(rows, self.in_features)
        output: Tensor = _Product.apply(flat, self.weight)
        output = output.view(*input.shape[:-1], self.out_features)
        return output if self.bias is None else output + self.bias


class _Product(torch.autograd.Function):
    """x [n, in] and weight [out, in] -> x weightᵀ [n, out]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = product(gradient, weight.t())
        if ctx.needs_input_grad[1]:
            inputs = (gradient.contiguous().to_mkldnn(), x.contiguous().to_mkldnn())
            of_weight, _ = torch.ops.aten.mkldnn_linear_backward_weights(*inputs, weight, False)
        return of_x, of_weight


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x [n, in] and weight [out, in], float32 -> x weightᵀ [n, out], by oneDNN."""
    output: Tensor = _onednn._linear_pointwise(x, weight, None, "none", [], "")
    return output
