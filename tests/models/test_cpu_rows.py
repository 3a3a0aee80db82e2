"""Norms and gates as compiled for a CPU, against the same written out in float64."""

from __future__ import annotations

import pytest
import torch
from tests.models.written_out import assert_near, exact, of, on_any_number_of_threads
from torch import Tensor
from torch.nn import functional as F

from hark.models.cpu_rows import BLOCK, ROWS, AddedNorm, GatedSilu

EPSILON = 1e-5

DTYPES = pytest.mark.parametrize(
    ("stream", "dtype", "tolerance"),
    [
        (torch.float32, torch.float32, 1e-6),
        (torch.float32, torch.bfloat16, 4e-3),
        (torch.bfloat16, torch.bfloat16, 6e-3),
    ],
    ids=["float32", "autocast", "bf16"],
)


def norm_inputs(rows: int, width: int, stream: torch.dtype, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    x, branch = torch.randn(rows, width).to(stream), torch.randn(rows, width).to(dtype)
    weight = torch.randn(width).to(stream)
    return [each.requires_grad_() for each in (x, branch, weight)]


@DTYPES
@pytest.mark.parametrize(
    ("rows", "width"), [(1, 1), (0, 8), (ROWS, 16), (3 * ROWS + 5, 50), (3, 64), (7, 200)]
)
def test_it_equals_a_norm_written_out(
    rows: int, width: int, stream: torch.dtype, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = norm_inputs(rows, width, stream, dtype)
    outputs = AddedNorm.apply(*inputs, EPSILON, dtype)
    assert [each.dtype for each in outputs] == [stream, dtype]
    received = [torch.randn(rows, width).to(each.dtype) for each in outputs]
    torch.autograd.backward(outputs, received)

    x, branch, weight = right = exact(*inputs)
    total = x + branch
    expected = total, weight * total / (total.square().mean(-1, keepdim=True) + EPSILON).sqrt()
    torch.autograd.backward(expected, [each.double() for each in received])
    assert_near(outputs, expected, tolerance)
    if width > 1:  # of one number the norm is its sign, whose slope is rounding
        assert_near(of(inputs), of(right), tolerance)


@pytest.mark.parametrize("used", [0, 1], ids=["the sum", "the norm"])
def test_of_two_outputs_one_may_be_used(used: int) -> None:
    inputs = norm_inputs(40, 8, torch.float32, torch.bfloat16)
    output = AddedNorm.apply(*inputs, EPSILON, torch.bfloat16)[used]
    output.sum().backward()
    x, branch, weight = right = exact(*inputs)
    total = x + branch
    normal = weight * total / (total.square().mean(-1, keepdim=True) + EPSILON).sqrt()
    (total, normal)[used].sum().backward()
    assert_near(of(inputs), of(right), 1e-2)
    assert (inputs[2].grad is None) == (used == 0)


def test_without_a_branch_the_sum_is_what_was_given() -> None:
    x, _, weight = norm_inputs(5, 8, torch.float32, torch.float32)
    total, normal = AddedNorm.apply(x, None, weight, EPSILON, torch.float32)
    assert total.data_ptr() == x.data_ptr()
    torch.testing.assert_close(normal, F.rms_norm(x, (8,), weight, EPSILON))
    (total.sum() + normal.sum()).backward()
    assert x.grad is not None
    assert weight.grad is not None
    found = x.grad.clone(), weight.grad.clone()
    x.grad = weight.grad = None
    (x.sum() + F.rms_norm(x, (8,), weight, EPSILON).sum()).backward()
    torch.testing.assert_close(found, (x.grad, weight.grad))


def test_what_is_not_contiguous_is_read_right() -> None:
    x, branch = torch.randn(6, 40).t(), torch.randn(6, 40).t()
    _, normal = AddedNorm.apply(x, branch, torch.ones(6), EPSILON, torch.float32)
    torch.testing.assert_close(normal, F.rms_norm(x + branch, (6,), eps=EPSILON))
    torch.testing.assert_close(GatedSilu.apply(x, branch), F.silu(x) * branch)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)], ids=["float32", "bf16"]
)
@pytest.mark.parametrize("shape", [(1, 1), (0, 3), (3, 7), (5, BLOCK // 4 + 3)])
def test_it_equals_a_gate_written_out(
    shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    inputs = [(4 * torch.randn(shape)).to(dtype).requires_grad_() for _ in range(2)]
    output = GatedSilu.apply(*inputs)
    received = torch.randn(shape).to(dtype)
    output.backward(received)
    gate, up = right = exact(*inputs)
    expected = F.silu(gate) * up
    expected.backward(received.double())
    assert output.dtype == dtype
    assert_near([output, *of(inputs)], [expected, *of(right)], tolerance)


def test_gates_far_from_zero_and_numbers_that_are_none() -> None:
    inf, nan = float("inf"), float("nan")
    gate = torch.tensor([0.0, 200.0, -200.0, inf, nan, 1.0], requires_grad=True)
    up = torch.tensor([3.0, 3.0, 3.0, 3.0, 3.0, nan], requires_grad=True)
    output = GatedSilu.apply(gate, up)
    output.backward(torch.ones(6))
    assert gate.grad is not None
    assert up.grad is not None
    assert output[:4].tolist() == [0.0, 600.0, 0.0, inf]
    assert gate.grad[:3].tolist() == [1.5, 3.0, 0.0]
    assert up.grad[:4].tolist() == [0.0, 200.0, 0.0, inf]
    assert output[4:].isnan().all()
    assert gate.grad[4:].isnan().all()


def test_a_number_that_is_none_stays_in_its_row() -> None:
    x = torch.randn(2 * ROWS, 8)
    x[3, 2] = float("nan")
    total, normal = AddedNorm.apply(x, torch.zeros_like(x), torch.ones(8), EPSILON, torch.float32)
    assert total.isnan().sum() == 1
    assert normal.isnan().any(1).nonzero().flatten().tolist() == [3]
    assert normal[3].isnan().all()


def test_a_norm_of_nothing_is_no_number() -> None:
    x = torch.ones(2 * ROWS, 8)
    x[3] = 0.0
    total, normal = AddedNorm.apply(x, torch.zeros_like(x), torch.ones(8), 0.0, torch.float32)
    assert normal.isnan().any(1).nonzero().flatten().tolist() == [3]
    assert normal[3].isnan().all()
    assert (normal[4:] == 1).all()
    assert torch.equal(total, x)


def test_gradients_of_other_layouts_and_dtypes() -> None:
    torch.manual_seed(0)
    x, branch, weight = norm_inputs(6, 40, torch.float32, torch.float32)
    outputs = AddedNorm.apply(x, branch, weight, EPSILON, torch.bfloat16)
    received = torch.randn(40, 6).t(), torch.randn(40, 6).t().to(torch.bfloat16)
    torch.autograd.backward(outputs, received)
    assert [each.dtype for each in of([x, branch, weight])] == [torch.float32] * 3
    right = exact(x, branch, weight)
    total = right[0] + right[1]
    normal = F.rms_norm(total, (40,), right[2], EPSILON)
    torch.autograd.backward((total, normal), [each.double() for each in received])
    assert_near(of([x, branch, weight]), of(right), 1e-2)
    inputs = [torch.randn(6, 40, requires_grad=True) for _ in range(2)]
    GatedSilu.apply(*inputs).backward(received[0])
    gate, up = right = exact(*inputs)
    (F.silu(gate) * up).backward(received[0].double())
    assert_near(of(inputs), of(right), 1e-6)


def test_threads_do_not_change_a_bit() -> None:
    def outcome() -> list[Tensor]:
        inputs = norm_inputs(70_000, 16, torch.float32, torch.bfloat16)
        total, normal = AddedNorm.apply(*inputs, EPSILON, torch.bfloat16)
        gated = GatedSilu.apply(normal, total.to(torch.bfloat16))
        gated.square().sum().backward()
        return [normal, *of(inputs)]

    on_any_number_of_threads(outcome)
