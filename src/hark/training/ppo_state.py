"""Everything a PPO run changes, and how it is started, saved and taken up again.

A checkpoint holds the policy (top level), the critic (`value/`), the moving average (`ema/`), both
optimizers, β and the step. The reference is always read from the SFT model, never from a
checkpoint: a resumed run is held to the same policy as before.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.errors import ModelError, SettingsError
from hark.models import parallel
from hark.models.checkpoint import (
    TrainingState,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    save_model,
)
from hark.models.language_model import (
    backbone,
    check_match,
    choose_device,
    context_length,
    load_language_model,
)
from hark.models.scalar_head import load_scalar_model, new_scalar_model
from hark.models.tokenizer import load_tokenizer
from hark.runs.run import Run, resolve_model
from hark.training.kl import AdaptiveKL
from hark.training.optimizer import build_optimizer
from hark.training.ppo_settings import PPOSettings
from hark.training.stopwatch import Stopwatch

POLICY, VALUE, EMA = "policy", "value", "ema"


@dataclass(kw_only=True)
class PPOState:
    """The models of a run and how far it is."""

    tokenizer: PreTrainedTokenizerBase
    policy: PreTrainedModel
    """π, being trained; samples every rollout."""
    reference: PreTrainedModel
    """π_SFT, frozen."""
    critic: PreTrainedModel
    """V, a scalar model; its trunk is the policy's own where `shares_trunk`."""
    shares_trunk: bool
    average: PreTrainedModel | None
    """Moving average of the policy's weights, never sampled from."""
    policy_optimizer: torch.optim.Optimizer
    """Of the policy, and of a shared critic's head."""
    value_optimizer: torch.optim.Optimizer | None
    """Of a critic of its own."""
    controller: AdaptiveKL
    """β."""
    step: int = 0
    """PPO steps done."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last step."""
    evaluation: dict[str, float] = field(default_factory=dict)
    """The newest."""
    history: list[dict[str, float]] = field(default_factory=list)
    """The watched metrics of every step done."""
    signs: dict[str, str] = field(default_factory=dict)
    """Signs of collapse shown so far, by name."""
    watch: Stopwatch = field(default_factory=Stopwatch)

    @property
    def context(self) -> int:
        """The longest prompt with response, in tokens, that policy and critic can read."""
        return min(context_length(self.policy), context_length(self.critic))

    @property
    def readers(self) -> tuple[PreTrainedModel, PreTrainedModel]:
        """Policy and critic, which read the same packed batches."""
        return self.policy, self.critic

    @contextlib.contextmanager
    def whole_critic(self) -> Iterator[None]:
        """Within the block every process has all weights of the critic, the trunk's included."""
        trunk, head = self.critic, self.critic.score
        with parallel.whole(self.policy if self.shares_trunk else trunk), parallel.whole(head):
            yield

    @property
    def product(self) -> PreTrainedModel:
        """The model the run leaves behind: the moving average, or the policy without one."""
        return self.policy if self.average is None else self.average


def start(settings: PPOSettings, run: Run) -> PPOState:
    """Load the models, from the run's newest checkpoint where there is one.

    Raises: ModelError for models that cannot be used together; SettingsError if no critic is named.
    """
    device = choose_device(settings.device)
    source, checkpoint = resolve_model(settings.model), run.latest_checkpoint()
    tokenizer = load_tokenizer(str(source))
    reference = load_language_model(str(source), device=device).requires_grad_(False)
    check_match(reference, tokenizer)
    policy = load_language_model(checkpoint or str(source), device=device)
    shares_trunk = settings.critic == "shared"
    critic = _critic(settings, policy, checkpoint)
    average = _average(settings, policy, checkpoint)
    _prepare(settings, policy, critic)
    for model in (policy, critic.score if shares_trunk else critic, reference, average):
        if model is not None:
            parallel.shard(model, bfloat16=settings.dtype == "bfloat16")
    trained = [*policy.parameters(), *(critic.score.parameters() if shares_trunk else ())]
    state = PPOState(
        tokenizer=tokenizer,
        policy=policy,
        reference=reference,
        critic=critic,
        shares_trunk=shares_trunk,
        average=average,
        policy_optimizer=build_optimizer(trained, settings.optimizer),
        value_optimizer=None
        if shares_trunk
        else build_optimizer(critic.parameters(), settings.value_optimizer),
        controller=AdaptiveKL(
            coefficient=settings.kl_coefficient,
            target=settings.kl_target,
            horizon=settings.kl_horizon,
        ),
    )
    if checkpoint is None:
        run.rewind(-1)
    else:
        _restore(state, load_state(checkpoint, _optimizers(state)), run)
    return state


def _prepare(settings: PPOSettings, policy: PreTrainedModel, critic: PreTrainedModel) -> None:
    if settings.activation_checkpointing:
        parallel.recompute_blocks(policy)
        if settings.critic != "shared":
            parallel.recompute_blocks(critic)


def _optimizers(state: PPOState) -> dict[str, torch.optim.Optimizer]:
    """By the prefix of their tensors in a checkpoint."""
    optimizers = {POLICY: state.policy_optimizer}
    return (
        optimizers if state.value_optimizer is None else optimizers | {VALUE: state.value_optimizer}
    )


def save(state: PPOState, run: Run, *, keep: int) -> None:
    """Write a checkpoint of the step just done and delete all but the newest `keep`."""
    models = {"": state.policy, VALUE: state.critic}
    if state.average is not None:
        models[EMA] = state.average
    tensors: dict[str, Tensor] = {}
    for prefix, optimizer in _optimizers(state).items():
        tensors |= optimizer_tensors(optimizer, prefix=prefix)
    save_checkpoint(
        run.checkpoint_path(state.step),
        models=models,
        tokenizer=state.tokenizer,
        state=TrainingState(
            step=state.step,
            tensors=tensors,
            scalars={
                "kl_coefficient": state.controller.coefficient,
                "metrics": state.metrics,
                "evaluation": state.evaluation,
                "history": state.history,
                "signs": state.signs,
            },
        ),
    )
    run.keep_checkpoints(keep)


def save_product(state: PPOState, run: Run) -> None:
    """Leave the final model in `run.model_path` and the critic beside it in `value/`."""
    save_model(run.model_path, state.product, state.tokenizer)
    save_model(run.path / VALUE, state.critic, state.tokenizer)


@torch.no_grad()
def update_average(average: PreTrainedModel, policy: PreTrainedModel, *, decay: float) -> None:
    """θ̄ ← decay · θ̄ + (1 − decay) · θ."""
    for mean, parameter in zip(average.parameters(), policy.parameters(), strict=True):
        mean.lerp_(parameter, 1.0 - decay)


def values_of_hidden(critic: PreTrainedModel, hidden: Tensor) -> Tensor:
    """[M, D] states of a shared trunk to [M] values."""
    values: Tensor = critic.score(hidden).squeeze(-1).float()
    return values


def _critic(
    settings: PPOSettings, policy: PreTrainedModel, checkpoint: Path | None
) -> PreTrainedModel:
    saved = None if checkpoint is None else checkpoint / VALUE
    if settings.critic == "shared":
        critic = (
            new_scalar_model(policy, initial_std=0.0)
            if saved is None
            else load_scalar_model(saved, device=policy.device)
        )
        # Registered under the same name, so that the critic is saved and loaded like any other.
        setattr(critic, critic.base_model_prefix, backbone(policy))
        return critic
    origin = settings.value_model or next(iter(settings.preference_model), None)
    if origin is None:
        raise SettingsError(
            "critic 'preference_model' has nothing to start from: give preference_model or "
            "value_model, or set critic to 'shared'"
        )
    critic = _load_critic(settings, saved or resolve_model(origin), policy.device)
    _require_same_vocabulary(critic, policy, origin)
    return critic


def _load_critic(settings: PPOSettings, path: Path, device: torch.device) -> PreTrainedModel:
    try:
        return load_scalar_model(path, device=device)
    except ModelError as error:
        if settings.value_model is not None:
            raise
        raise ModelError(
            f"the critic cannot start from the first preference_model: {error}; "
            "or give a value_model, or set critic to 'shared'"
        ) from None


def _require_same_vocabulary(critic: PreTrainedModel, policy: PreTrainedModel, origin: str) -> None:
    sizes = [model.get_input_embeddings().weight.shape[0] for model in (critic, policy)]
    if sizes[0] < sizes[1]:
        raise SettingsError(
            f"the critic '{origin}' knows {sizes[0]} tokens and the policy {sizes[1]}: they need "
            "the same tokenizer; give a value_model made from the policy's model, or set critic "
            "to 'shared'"
        )


def _average(
    settings: PPOSettings, policy: PreTrainedModel, checkpoint: Path | None
) -> PreTrainedModel | None:
    if settings.ema_decay is None:
        return None
    if checkpoint is None:
        average = copy.deepcopy(policy)
    else:
        average = load_language_model(checkpoint / EMA, device=policy.device)
    return average.requires_grad_(False)


def _restore(state: PPOState, saved: TrainingState, run: Run) -> None:
    for prefix, optimizer in _optimizers(state).items():
        restore_optimizer(optimizer, saved.tensors, prefix=prefix)
    state.controller = replace(state.controller, coefficient=saved.scalars["kl_coefficient"])
    state.step = saved.step
    state.metrics = saved.scalars["metrics"]
    state.evaluation = saved.scalars["evaluation"]
    state.history = saved.scalars["history"]
    state.signs = saved.scalars["signs"]
    run.rewind(saved.step)
