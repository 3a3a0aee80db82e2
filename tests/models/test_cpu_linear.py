from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hark.models import cpu_linear
from hark.models.cpu_linear import (
    FEWEST_ROWS,
    LENGTHS_PER_OCTAVE,
    CpuLinear,
    filled_up,
    quicken_linear,
)
from hark.models.language_model import backbone
from hark.models.tree_layers import quicken


def assert_near(got: Tensor, exact: Tensor) -> None:
    """Within 1e-6 of the largest of the exact numbers, which are float64."""
    assert float((got - exact).abs().max()) <= 1e-6 * float(exact.abs().max())


def outcome(linear: nn.Module, x: Tensor, gradient: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    linear.zero_grad()
    output = linear(x)
    output.backward(gradient)
    assert x.grad is not None
    return [output.detach(), x.grad, *(each.grad.clone() for each in linear.parameters())]


def test_rows_are_filled_up_to_few_numbers() -> None:
    assert [filled_up(rows) for rows in (0, 1, 63, 64, 65, 129, 2048, 2049)] == [
        0, 1, 63, 64, 66, 132, 2048, 2112,
    ]  # fmt: skip
    for rows in range(2000):
        assert rows <= filled_up(rows) <= rows * (1 + 1 / LENGTHS_PER_OCTAVE)
        assert filled_up(filled_up(rows)) == filled_up(rows)
    assert len({filled_up(rows) for rows in range(1025, 2049)}) == LENGTHS_PER_OCTAVE


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(FEWEST_ROWS, 24), (3, 200, 24)])
def test_it_equals_torchs_linear_map(
    shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(24, 40, bias=bias)
    x, gradient = torch.randn(shape), torch.randn(*shape[:-1], 40)
    expected = outcome(copy.deepcopy(linear).double(), x.double(), gradient.double())
    called = []
    product = cpu_linear.product
    monkeypatch.setattr(
        cpu_linear, "product", lambda *given: called.append(None) or product(*given)
    )
    quicken_linear(linear)
    assert isinstance(linear, CpuLinear)
    for got, right in zip(outcome(linear, x, gradient), expected, strict=True):
        assert_near(got, right)
    assert len(called) == 2  # forward, and the gradient of x


def test_gradients_that_are_not_contiguous_and_those_nobody_wants() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(16, 16, bias=False)
    x = torch.randn(16, FEWEST_ROWS).t()
    gradient = torch.randn(16, FEWEST_ROWS).t()
    expected = outcome(copy.deepcopy(linear).double(), x.double(), gradient.double())
    quicken_linear(linear)
    for got, right in zip(outcome(linear, x, gradient), expected, strict=True):
        assert_near(got, right)
    linear.zero_grad()
    linear.requires_grad_(False)
    wanted = x.clone().requires_grad_()
    linear(wanted).backward(gradient)
    assert wanted.grad is not None
    assert_near(wanted.grad, expected[1])
    assert linear.weight.grad is None


def test_few_rows_bfloat16_and_autocast_stay_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = nn.Linear(8, 8)
    x = torch.randn(FEWEST_ROWS, 8)
    plain = linear(x[:10])
    quicken_linear(linear)
    monkeypatch.setattr(cpu_linear, "product", None)
    assert torch.equal(linear(x[:10]), plain)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x).dtype == torch.bfloat16
    assert copy.deepcopy(linear).bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_quickened_models_are_saved_as_before(make_family: Callable[..., PreTrainedModel]) -> None:
    model = make_family("llama-tied")
    names = list(model.state_dict())
    quicken(backbone(model))
    assert list(model.state_dict()) == names
    assert {type(each) for each in model.modules() if isinstance(each, nn.Linear)} == {
        CpuLinear, nn.Linear,  # the head, which is not part of the trunk
    }  # fmt: skip
