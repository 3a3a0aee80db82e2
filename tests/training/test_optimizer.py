from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hark.errors import SettingsError
from hark.training.optimizer import (
    OptimizerSettings,
    TensorFlowAdam,
    build_optimizer,
    clip,
    learning_rate_at,
    update,
)


def rates(total_steps: int, **values: object) -> list[float]:
    settings = OptimizerSettings.parse({"learning_rate": 1.0, **values})
    return [
        learning_rate_at(step, total_steps=total_steps, settings=settings)
        for step in range(total_steps + 1)
    ]


def test_linear_to_zero_over_four_steps() -> None:
    got = rates(4, schedule="linear", final_learning_rate_fraction=0.0)
    assert got == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])


def test_cosine_to_a_tenth() -> None:
    # 0.1 + 0.9·(1 + cos(πp))/2 at p = 0, 1/4, 1/2, 3/4, 1, where cos(π/4) = 0.70711.
    got = rates(4, schedule="cosine", final_learning_rate_fraction=0.1)
    assert got == pytest.approx([1.0, 0.8681981, 0.55, 0.2318019, 0.1])


def test_warm_up_of_instructgpt_starts_at_a_tenth_and_then_stays() -> None:
    got = rates(12, schedule="constant", warmup_steps=10, initial_learning_rate_fraction=0.1)
    assert got[:3] == pytest.approx([0.1, 0.19, 0.28])
    assert got[9:] == pytest.approx([0.91, 1.0, 1.0, 1.0])


def test_the_fall_begins_where_the_warm_up_ends() -> None:
    got = rates(
        6,
        schedule="linear",
        warmup_steps=2,
        initial_learning_rate_fraction=0.0,
        final_learning_rate_fraction=0.0,
    )
    assert got == pytest.approx([0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_halved_after_every_so_many_steps_from_the_first() -> None:
    got = rates(9, schedule="halving", halving_steps=3, warmup_steps=1)
    assert got == pytest.approx([0.1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"schedule": "constant", "final_learning_rate_fraction": 0.0}, "final_learning_rate"),
        ({"initial_learning_rate_fraction": 0.5}, "warmup_steps"),
        ({"schedule": "halving"}, "belong together"),
        ({"halving_steps": 5}, "belong together"),
        ({"tensorflow_adam": True, "weight_decay": 0.1}, "weight_decay"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(values: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        OptimizerSettings.parse(values)


def one_parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value], dtype=torch.float64))


def test_tensorflow_adam_by_hand() -> None:
    # lr 0.1, β = (0.9, 0.999), ε = 0.1, gradients 0.5 then −0.25, θ₀ = 1.
    # t=1: m = .05, v = .00025, √v = .0158114; rate = .1·√.001/.1 = .0316228
    #      θ = 1 − .0316228·.05/.1158114 = .98634728
    # t=2: m = .9·.05 − .025 = .02, v = .00024975 + .0000625 = .00031225, √v = .0176706
    #      rate = .1·√(1−.998001)/(1−.81) = .1·.0447102/.19 = .0235317
    #      θ = .98634728 − .0235317·.02/.1176706 = .98234771
    parameter = one_parameter(1.0)
    optimizer = TensorFlowAdam([parameter], lr=0.1, betas=(0.9, 0.999), epsilon=0.1)
    expected = [0.98634728, 0.98234771]
    for gradient, value in zip([0.5, -0.25], expected, strict=True):
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert parameter.item() == pytest.approx(value, abs=1e-7)


def test_the_tensorflow_form_takes_a_smaller_first_step_than_torch() -> None:
    # torch divides √v by √(1−β₂) first: step = lr·g/(|g| + ε) = 0.1·0.5/0.6 = 0.0833.
    steps = {}
    for form in (False, True):
        parameter = one_parameter(1.0)
        settings = OptimizerSettings(
            learning_rate=0.1, beta2=0.999, epsilon=0.1, tensorflow_adam=form
        )
        optimizer = build_optimizer([parameter], settings)
        parameter.grad = torch.tensor([0.5], dtype=torch.float64)
        optimizer.step()
        steps[form] = 1.0 - parameter.item()
    assert steps[False] == pytest.approx(0.083333, abs=1e-6)
    assert steps[True] == pytest.approx(0.013653, abs=1e-6)


def test_only_matrices_decay() -> None:
    matrix = nn.Parameter(torch.ones(2, 2))
    bias = nn.Parameter(torch.ones(2))
    head = nn.Parameter(torch.ones(1, 2))
    settings = OptimizerSettings(learning_rate=0.1, weight_decay=0.5, schedule="constant")
    optimizer = build_optimizer([matrix, bias, head], settings)
    for parameter in (matrix, bias, head):
        parameter.grad = torch.zeros_like(parameter)
    update(optimizer, step=0, total_steps=1, settings=settings)
    assert matrix.detach() == pytest.approx(torch.full((2, 2), 0.95))  # 1 − 0.1·0.5
    assert torch.equal(bias.detach(), torch.ones(2))
    assert torch.equal(head.detach(), torch.ones(1, 2))


@pytest.mark.parametrize(("devices", "fused"), [(["cpu"], True), (["cpu", "meta"], None)])
def test_one_kernel_where_all_parameters_are_together(
    devices: list[str], fused: bool | None
) -> None:
    parameters = [torch.nn.Parameter(torch.ones(2, 2, device=device)) for device in devices]
    assert build_optimizer(parameters, OptimizerSettings()).defaults["fused"] is fused


def test_frozen_parameters_are_left_out() -> None:
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer = build_optimizer([frozen, nn.Parameter(torch.ones(2))], OptimizerSettings())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1


def test_clip_scales_the_whole_gradient_and_returns_its_norm() -> None:
    first, second = one_parameter(0.0), one_parameter(0.0)
    first.grad = torch.tensor([3.0], dtype=torch.float64)
    second.grad = torch.tensor([4.0], dtype=torch.float64)
    assert clip([first, second], OptimizerSettings(gradient_clip=1.0)) == pytest.approx(5.0)
    assert [first.grad.item(), second.grad.item()] == pytest.approx([0.6, 0.8], abs=1e-5)
    assert clip([first, second], OptimizerSettings(gradient_clip=None)) == pytest.approx(1.0)
    assert [first.grad.item(), second.grad.item()] == pytest.approx([0.6, 0.8], abs=1e-5)


def test_update_follows_the_schedule_and_leaves_weights_alone_when_not_finite() -> None:
    settings = OptimizerSettings(
        learning_rate=0.5, schedule="linear", final_learning_rate_fraction=0.0
    )
    parameter = one_parameter(1.0)
    optimizer = build_optimizer([parameter], settings)
    parameter.grad = torch.tensor([math.nan], dtype=torch.float64)
    report = update(optimizer, step=1, total_steps=2, settings=settings)
    assert math.isnan(report.gradient_norm)
    assert parameter.item() == 1.0
    assert parameter.grad is None
    parameter.grad = torch.tensor([2.0], dtype=torch.float64)
    report = update(optimizer, step=1, total_steps=2, settings=settings)
    assert report.learning_rate == 0.25
    assert report.gradient_norm == 2.0
    assert parameter.item() == pytest.approx(0.75, abs=1e-6)  # Adam's first step is lr·sign(g)
