"""Adam and its learning rate, as a function of the step alone.

Departures and choices
1. Weight decay is decoupled and touches matrices only (GPT-3, appendix B, decays by 0.1 and does
   not say what is left out); norms, biases and heads of one row are not decayed.
2. `tensorflow_adam` is the Adam of Ziegler et al. (2019) and Stiennon et al. (2020), whose code ran
   on TensorFlow: ε is added to √v before the bias correction, so early steps are smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hark.models.parallel import full_tensor
from hark.settings import Settings

Schedule = Literal["constant", "linear", "cosine", "halving"]


class OptimizerSettings(Settings):
    """Adam, its schedule and gradient clipping."""

    learning_rate: float = Field(default=1e-4, gt=0)
    """The highest learning rate of the schedule."""
    schedule: Schedule = "cosine"
    """How it falls after the warm-up: constant, linear, cosine, or halving (HH online)."""
    halving_steps: int | None = Field(default=None, ge=1)
    """Under halving: steps after which it is half as high, each time (HH online: as many as take
    100 000 samples)."""
    final_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    """Where linear and cosine end, as a fraction of the highest (Ziegler: linear to 0)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up; a shorter run never reaches the highest learning rate."""
    initial_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    """Where the warm-up begins, as a fraction of the highest (InstructGPT's PPO: 0.1)."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's β₁, the decay of the mean of gradients."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Adam's β₂, the decay of the mean of squared gradients."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Adam's ε (Ziegler: 1e-5)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of matrices, multiplied by the learning rate."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Largest L2 norm of the whole gradient; none turns clipping off."""
    tensorflow_adam: bool = False
    """Add ε before the bias correction, as TensorFlow's Adam did."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        given = self.model_fields_set
        if self.schedule in ("constant", "halving") and "final_learning_rate_fraction" in given:
            raise ValueError(
                f"final_learning_rate_fraction would be ignored by schedule '{self.schedule}'; "
                "leave it out or choose 'linear' or 'cosine'"
            )
        if (self.schedule == "halving") != (self.halving_steps is not None):
            raise ValueError("schedule 'halving' and halving_steps belong together; give both")
        if self.warmup_steps == 0 and "initial_learning_rate_fraction" in given:
            raise ValueError(
                "initial_learning_rate_fraction would be ignored without a warm-up; "
                "set warmup_steps"
            )
        if self.tensorflow_adam and self.weight_decay > 0:
            raise ValueError("tensorflow_adam has no weight decay; set weight_decay to 0")
        return self


def learning_rate_at(step: int, *, total_steps: int, settings: OptimizerSettings) -> float:
    """The learning rate of update number `step`, counted from 0.

    The warm-up begins at its initial fraction in step 0 and is complete in step `warmup_steps`. The
    final fraction belongs to step `total_steps`, one after the last: a linear fall to 0 over four
    steps gives 1, 3/4, 1/2, 1/4.
    """
    peak = settings.learning_rate
    if step < settings.warmup_steps:
        start = settings.initial_learning_rate_fraction
        return peak * (start + (1 - start) * step / settings.warmup_steps)
    if settings.schedule == "constant":
        return peak
    if settings.halving_steps is not None:
        return float(peak * 0.5 ** (step // settings.halving_steps))
    done = min(1.0, (step - settings.warmup_steps) / max(1, total_steps - settings.warmup_steps))
    remaining = 1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    final = settings.final_learning_rate_fraction
    return peak * (final + (1 - final) * remaining)


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """Adam over the parameters that ask for a gradient; `update` sets the learning rate."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    decayed = [parameter for parameter in trained if _is_matrix(parameter)]
    others = [parameter for parameter in trained if not _is_matrix(parameter)]
    groups: list[dict[str, Any]] = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((decayed, settings.weight_decay), (others, 0.0))
        if group
    ]
    betas = (settings.beta1, settings.beta2)
    if settings.tensorflow_adam:
        return TensorFlowAdam(
            groups, lr=settings.learning_rate, betas=betas, epsilon=settings.epsilon
        )
    # One kernel for all parameters, where there is one.
    fused = {parameter.device.type for parameter in trained} in ({"cpu"}, {"cuda"})
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=betas, eps=settings.epsilon, fused=fused or None
    )


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.dim() >= 2 and min(parameter.shape) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one update did, for the metrics."""

    learning_rate: float
    gradient_norm: float
    """L2 norm of the whole gradient before clipping."""


def update(
    optimizer: torch.optim.Optimizer, *, step: int, total_steps: int, settings: OptimizerSettings
) -> Update:
    """Clip the accumulated gradients, take update number `step` and clear the gradients.

    With a gradient that is not finite nothing is changed: the caller sees it in `gradient_norm`.
    """
    learning_rate = learning_rate_at(step, total_steps=total_steps, settings=settings)
    norm = clip(
        (parameter for group in optimizer.param_groups for parameter in group["params"]), settings
    )
    if math.isfinite(norm):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Update(learning_rate=learning_rate, gradient_norm=norm)


def clip(parameters: Iterable[nn.Parameter], settings: OptimizerSettings) -> float:
    """Scale the gradients down to `gradient_clip` where set; return their norm before that."""
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in with_gradient if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if settings.gradient_clip is not None:
        nn.utils.clip_grads_with_norm_(with_gradient, settings.gradient_clip, norm)
    return float(full_tensor(norm))


class TensorFlowAdam(torch.optim.Optimizer):
    """Adam with the step lr·√(1−β₂ᵗ)/(1−β₁ᵗ) · m/(√v + ε) (Kingma & Ba, end of section 2)."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        epsilon: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": epsilon})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; closures are not supported."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_parameter(parameter, parameter.grad, group)

    def _step_parameter(
        self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]
    ) -> None:
        state = self.state[parameter]
        if not state:
            # The names of torch's Adam, so that checkpoints of both look alike.
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        t = int(state["step"])
        mean = state["exp_avg"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        rate = group["lr"] * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-rate)
