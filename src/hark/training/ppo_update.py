"""One PPO step's updates: packed passes over minibatches, losses, gradients (Ziegler et al.).

1. The mean of a loss is over the response tokens of a minibatch, not over responses: a long
   response weighs by its tokens, as in the code of Ziegler and of Stiennon.
2. Passes are packed rows of at most `micro_batch_tokens`; gradients add up to those of one pass
   over the whole minibatch.
3. PPO-ptx (InstructGPT, 3.5 and C.4): gradients of the policy loss and of γ times the pretraining
   loss are accumulated in consecutive backward passes, then one update is taken. The paper does
   not say how the two losses are averaged: here both are means over tokens.
4. The moving average follows every update, the paper not saying whether it follows updates or
   steps.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hark.errors import RunError
from hark.models.logprobs import hidden_states, logprobs_of_hidden, token_losses
from hark.models.packing import rows_per_pass
from hark.models.parallel import compute
from hark.models.processes import gather, world_size
from hark.models.scalar_head import token_values
from hark.training.kl import k2
from hark.training.optimizer import update
from hark.training.policy_objectives import (
    is_clipped,
    policy_losses,
    probability_ratio,
    value_losses,
)
from hark.training.ppo_passes import Minibatch, Pass, minibatches
from hark.training.ppo_pretraining import PretrainingRows
from hark.training.ppo_settings import PPOSettings
from hark.training.ppo_state import PPOState, move_average, values_of_hidden
from hark.training.rollout import Rollout
from hark.training.trainer import autocast, own_turns


@dataclass(slots=True, kw_only=True)
class UpdateReport:
    """Sums over the updates of a step, for their means."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By name; each mean that was added, times its weight."""
    weights: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By name; what the sum is to be divided by."""
    updates: int = 0
    """Updates taken."""
    first_ratio_error: float = 0.0
    """Largest |π/π_old − 1| before the first update, where it should be 0."""

    def add(self, weight: float, **means: float | Tensor) -> None:
        """Count `means` over `weight` tokens or updates."""
        for name, mean in means.items():
            self.sums[name] += weight * float(mean)
            self.weights[name] += weight

    def means(self) -> dict[str, float]:
        """The weighted mean of everything added, in all processes of the run."""
        sums: dict[str, float] = defaultdict(float)
        weights: dict[str, float] = defaultdict(float)
        reports = gather((dict(self.sums), dict(self.weights), self.first_ratio_error))
        for added, weight, _ in reports:
            for name in added:
                sums[name] += added[name]
                weights[name] += weight[name]
        means = {name: total / weights[name] for name, total in sums.items()}
        return means | {"first_ratio_error": max(error for _, _, error in reports)}


def update_from(
    state: PPOState,
    rollout: Rollout,
    first_epoch: Sequence[Minibatch],
    settings: PPOSettings,
    pretraining: PretrainingRows | None,
) -> UpdateReport:
    """Take all updates of one step: `inner_epochs` passes over the rollout in minibatches.

    Raises: RunError if a gradient stops being finite.
    """
    report = UpdateReport()
    for epoch in range(settings.inner_epochs):
        batches = first_epoch
        if epoch > 0:
            with state.watch.phase("data"):
                batches = minibatches(
                    rollout.episodes, state.readers, settings, step=state.step, epoch=epoch
                )
        for minibatch in batches:
            add_rollout_gradients(state, rollout, minibatch, settings, report)
            if pretraining is not None:
                number = state.step * settings.updates_per_step + report.updates
                with state.watch.phase("data"):
                    text = pretraining.of_update(number)
                add_pretraining_gradients(state, text, settings, report)
            _take_update(state, settings, report)
    return report


def add_rollout_gradients(
    state: PPOState,
    rollout: Rollout,
    minibatch: Minibatch,
    settings: PPOSettings,
    report: UpdateReport,
) -> None:
    """Accumulate the gradients of the policy and value losses of one minibatch."""
    # Two networks with nothing in common need no weights, and one backward pass serves both.
    value_weight = settings.value_coefficient if state.shares_trunk else 1.0
    with state.watch.phase("update"):
        for one in minibatch.passes:
            losses = functools.partial(_losses, state, rollout, one, settings, report)
            with autocast(state.policy, settings):
                policy_loss, value_loss = compute(state.policy, compute, state.critic, losses)
            loss = (policy_loss + value_weight * value_loss) * one.counts
            (loss / minibatch.tokens).backward()


def _losses(
    state: PPOState, rollout: Rollout, one: Pass, settings: PPOSettings, report: UpdateReport
) -> tuple[Tensor, Tensor]:
    """Sums over the tokens of a pass of the policy loss and of the value loss."""
    batch, device = one.batch, state.policy.device
    old_logprobs, advantages, old_values, returns = (
        tensor[one.places].to(device)
        for tensor in (
            rollout.behaviour_logprobs, rollout.advantages, rollout.values, rollout.returns
        )
    )  # fmt: skip
    hidden = hidden_states(state.policy, batch, batch.predictors)
    logprobs, _ = logprobs_of_hidden(
        state.policy, hidden, batch.targets, temperature=settings.temperature
    )
    if state.shares_trunk:
        values = values_of_hidden(state.critic, hidden)
    else:
        values = token_values(state.critic, batch)
    policy_loss = policy_losses(logprobs, old_logprobs, advantages, clip_range=settings.clip_range)
    value_loss = value_losses(values, old_values, returns, clip_range=settings.value_clip_range)
    if one.counts:
        _report_pass(logprobs, old_logprobs, advantages, policy_loss, value_loss, settings, report)
    return policy_loss.sum(), value_loss.sum()


def _report_pass(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    policy_loss: Tensor,
    value_loss: Tensor,
    settings: PPOSettings,
    report: UpdateReport,
) -> None:
    """Count the means over a pass's tokens; every tensor [M_b]."""
    with torch.no_grad():
        ratio = probability_ratio(logprobs, old_logprobs)
        clipped = is_clipped(logprobs, old_logprobs, advantages, clip_range=settings.clip_range)
        report.add(
            len(logprobs),
            policy_loss=policy_loss.mean(),
            value_loss=value_loss.mean(),
            clipped_share=clipped.float().mean(),
            update_kl=k2(logprobs, old_logprobs).mean(),
            ratio=ratio.mean(),
        )
        if report.updates == 0:
            error = float((ratio - 1.0).abs().max())
            report.first_ratio_error = max(report.first_ratio_error, error)


def add_pretraining_gradients(
    state: PPOState, rows: Tensor, settings: PPOSettings, report: UpdateReport
) -> None:
    """Accumulate γ times the gradient of the mean loss per token of pretraining rows [r, T]."""
    tokens = rows.numel() - len(rows)
    count, width = rows.shape
    most = settings.pass_tokens(state.policy.device)
    rows_of_pass = rows_per_pass(count, width, most, shares=world_size())
    with state.watch.phase("pretraining"):
        for part, counts in own_turns(rows.split(rows_of_pass)):
            with autocast(state.policy, settings):
                on_device = part.to(state.policy.device)
                losses = compute(state.policy, token_losses, state.policy, on_device)
            loss: Tensor = settings.pretraining_coefficient * losses.sum() * counts / tokens
            loss.backward()
            if counts:
                report.add(losses.numel(), pretraining_loss=losses.detach().mean())


def _take_update(state: PPOState, settings: PPOSettings, report: UpdateReport) -> None:
    """Clip, step and average; both optimizers' schedules go by the PPO step."""
    with state.watch.phase("update"):
        taken = update(
            state.policy_optimizer,
            step=state.step,
            total_steps=settings.steps,
            settings=settings.optimizer,
        )
        _require_finite("policy's gradient", taken.gradient_norm, state, "optimizer.learning_rate")
        report.add(1, gradient_norm=taken.gradient_norm, learning_rate=taken.learning_rate)
        if state.value_optimizer is not None:
            value_taken = update(
                state.value_optimizer,
                step=state.step,
                total_steps=settings.steps,
                settings=settings.value_optimizer,
            )
            norm = value_taken.gradient_norm
            _require_finite("critic's gradient", norm, state, "value_learning_rate")
            report.add(1, value_gradient_norm=norm)
        if settings.ema_decay is not None:
            move_average(state, decay=settings.ema_decay)
    report.updates += 1


def _require_finite(what: str, norm: float, state: PPOState, setting: str) -> None:
    if not math.isfinite(norm):
        raise RunError(
            f"PPO diverged: the norm of the {what} is {norm} in step {state.step + 1}; lower "
            f"{setting} or raise kl_coefficient, and look at the samples before this step"
        )
