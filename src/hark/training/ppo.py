"""Reinforcement learning from a preference model with PPO, and PPO-ptx.

Follows InstructGPT (2203.02155, section 3.5 and appendix C.4), Stiennon et al. (2009.01325, section
3.4) and Ziegler et al. (1909.08593): every prompt is an episode of one response, the
reward is −β(log π − log π_SFT) at each token and the score at the last, advantages come from GAE
with γ = 1, and the policy follows PPO's clipped objective. Losses and mixing: see `ppo_update`;
rewards and responses without an end: `rewards`; tokens around the end: `rollout`.

Departures and choices
1. The papers do not give all of the settings; `ppo_settings` says which defaults are whose.
2. Advantages are whitened over a step's whole batch. Ziegler whitens each minibatch, of which the
   published runs have one an epoch: there the two are the same.
3. A shared critic sends its gradient through the policy's trunk, as Ziegler's does.
4. The KL penalty uses k1, signed, as the papers do; its mean over samples may dip below zero.
5. Old log-probabilities come from sampling (`recompute_behaviour_logprobs` takes a second look).
6. Dropout is off in every pass, and the temperature divides the logits of sampling, policy and
   reference alike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hark.data.records import Prompt
from hark.errors import SettingsError
from hark.models import flops
from hark.models.parallel import whole
from hark.models.processes import is_first
from hark.runs.metrics import MetricsWriter
from hark.runs.progress import progress
from hark.runs.run import Run
from hark.training.advantages import generalised_advantages, whiten
from hark.training.collapse import WATCHED, Limits, signs_of_collapse
from hark.training.ppo_arithmetic import StepArithmetic
from hark.training.ppo_episodes import (
    EncodedPrompt,
    encode_prompts,
    judge,
    prompts_of_step,
    sample,
)
from hark.training.ppo_metrics import require_finite_metrics, rollout_metrics, write_samples
from hark.training.ppo_passes import (
    behaviour_logprobs,
    minibatches,
    reference_logprobs,
    token_values_of,
)
from hark.training.ppo_pretraining import PretrainingRows, open_pretraining_rows
from hark.training.ppo_settings import PPOSettings
from hark.training.ppo_state import PPOState, save, save_product, start
from hark.training.ppo_update import update_from
from hark.training.rewards import Scorer, token_rewards
from hark.training.rollout import Rollout
from hark.training.stopwatch import steps_watched

Evaluate = Callable[[PreTrainedModel, int], dict[str, float]]
"""The model a run would leave behind, and the step, to metrics by name."""


WARNINGS = "warnings.jsonl"
"""The file of a run directory that keeps the signs of collapse."""


def train(
    settings: PPOSettings,
    run: Run,
    *,
    prompts: Sequence[Prompt],
    score: Scorer,
    scorers: Sequence[flops.Shape] = (),
    evaluate: Evaluate | None = None,
) -> dict[str, Any]:
    """Improve the SFT model by `score`; leave it in `run.model_path`, the critic in `value/`.

    Args:
        prompts: what to answer, in any order: each pass over them has its own.
        score: judges answered dialogues, one finite number for each, higher is better.
        scorers: of the models that `score` asks, for counting useful arithmetic.
        evaluate: measures the model the run would leave behind (the moving average, where there is
            one) before the first step, every `evaluation_every` and after the last.

    Returns the last step's metrics, the last evaluation, the warnings, and what was cut.
    Raises: HarkError for data, models or settings that cannot be used, and when training diverges.
    """
    if evaluate is None and settings.evaluation_every is not None:
        raise SettingsError("evaluation_every would be ignored: this run has nothing to evaluate")
    state = start(settings, run)
    encoded = encode_prompts(prompts, state.tokenizer, settings, context=state.context)
    rows = open_pretraining_rows(settings, run, state.tokenizer, context=state.context)
    warnings = run.writer(WARNINGS)
    warnings.rewind(state.step if state.step else -1)
    every = settings.evaluation_every or settings.steps
    arithmetic = StepArithmetic.of(state, scorers)
    with (
        steps_watched(
            run, state.policy.device, profile_steps=settings.profile_steps
        ) as state.watch,
        progress(total=settings.steps, label=run.stage, start=state.step) as bar,
    ):
        if state.step == 0:
            _evaluate(state, run, evaluate)
        while state.step < settings.steps:
            with state.watch.phase("data"):
                step_prompts = prompts_of_step(encoded.prompts, settings, state.step)
            rollout, state.metrics = ppo_step(state, step_prompts, score, settings, rows)
            _record(state, rollout, settings, run)
            _warn(state, settings, warnings)
            if state.step == settings.steps or state.step % every == 0:
                _evaluate(state, run, evaluate)
            if state.step % settings.checkpoint_every == 0:
                with state.watch.phase("checkpoint"):
                    save(state, run, keep=settings.keep_checkpoints)
            _log_timing(state, rollout, arithmetic, settings, run)
            bar.advance(score=state.metrics["score"], kl=state.metrics["kl"])
    save_product(state, run)
    return {
        "steps": state.step,
        "episodes": state.step * settings.batch_episodes,
        **state.metrics,
        **state.evaluation,
        "warnings": list(state.signs.values()),
        "prompts": len(encoded.prompts),
        "prompts_skipped": encoded.skipped,
        "prompts_cut": encoded.cut,
    }


def ppo_step(
    state: PPOState,
    prompts: Sequence[EncodedPrompt],
    score: Scorer,
    settings: PPOSettings,
    pretraining: PretrainingRows | None = None,
) -> tuple[Rollout, dict[str, float]]:
    """One step: sample, score, reward, estimate advantages, learn. Returns rollout and metrics."""
    beta = state.controller.coefficient
    episodes = sample(state, prompts, settings)
    raw_scores, scores = judge(state, episodes, score, settings)
    with state.watch.phase("data"):
        epoch = minibatches(episodes, state.readers, settings, step=state.step, epoch=0)
    old = behaviour_logprobs(state, episodes, epoch, settings)
    reference = reference_logprobs(state, epoch, settings)
    values = token_values_of(state, epoch, settings)
    rewards = token_rewards(scores, old, reference, episodes.lengths, kl_coefficient=beta)
    advantages, returns = advantages_and_returns(rewards, values, episodes.lengths, settings)
    rollout = Rollout(
        episodes=episodes,
        raw_scores=raw_scores,
        scores=scores,
        behaviour_logprobs=old,
        reference_logprobs=reference,
        values=values,
        rewards=rewards,
        advantages=advantages,
        returns=returns,
    )
    report = update_from(state, rollout, epoch, settings, pretraining)
    metrics = rollout_metrics(rollout) | report.means() | {"kl_coefficient": beta}
    state.controller = state.controller.after(metrics["kl"], episodes=len(episodes.responses))
    state.step += 1
    return rollout, metrics


def advantages_and_returns(
    rewards: Tensor, values: Tensor, lengths: Tensor, settings: PPOSettings
) -> tuple[Tensor, Tensor]:
    """GAE of a step; returns are taken before the advantages are whitened. [M], [M]."""
    if settings.whiten_rewards:
        rewards = whiten(rewards, shift_mean=False)
    advantages, returns = generalised_advantages(
        rewards, values, lengths, discount=settings.discount, gae_lambda=settings.gae_lambda
    )
    return whiten(advantages) if settings.whiten_advantages else advantages, returns


def _record(state: PPOState, rollout: Rollout, settings: PPOSettings, run: Run) -> None:
    """Write the step's metrics and, now and then, its first episodes."""
    if settings.samples and (state.step % settings.samples_every == 0 or state.step == 1):
        write_samples(run.samples_path(state.step), rollout, settings.samples)
    require_finite_metrics(state.metrics, state.step)
    run.metrics.log(step=state.step, **state.metrics)
    state.history.append({name: state.metrics[name] for name in WATCHED if name in state.metrics})


def _warn(state: PPOState, settings: PPOSettings, warnings: MetricsWriter) -> None:
    """Show each new sign of collapse, once a run."""
    found = signs_of_collapse(
        state.history,
        max_response_tokens=settings.max_response_tokens,
        kl_target=settings.kl_target,
        limits=Limits(kl=settings.kl_warning),
    )
    for sign in found:
        if sign.sign not in state.signs:
            state.signs[sign.sign] = sign.message
            warnings.log(step=state.step, sign=sign.sign, message=sign.message)
            if is_first():
                print(f"warning (step {state.step}): {sign.message}", file=sys.stderr, flush=True)


def _evaluate(state: PPOState, run: Run, evaluate: Evaluate | None) -> None:
    if evaluate is None:
        return
    with (
        state.watch.phase("evaluation"),
        torch.no_grad(),
        state.as_product() as product,
        whole(product),
    ):
        state.evaluation = evaluate(product, state.step)
    run.metrics.log(step=state.step, **state.evaluation)


def _log_timing(
    state: PPOState,
    rollout: Rollout,
    arithmetic: StepArithmetic,
    settings: PPOSettings,
    run: Run,
) -> None:
    """Write where the time of the step went."""
    tokens = int(rollout.lengths.sum())
    state.watch.count(
        tokens=tokens * settings.inner_epochs,
        useful_flops=arithmetic.of_step(rollout.episodes, settings),
    )
    times = state.watch.take()
    run.timing.log(
        step=state.step, **times, generated_tokens_per_second=tokens / times["generate_seconds"]
    )
