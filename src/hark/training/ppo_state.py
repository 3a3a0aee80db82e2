"""Everything a PPO run changes, and how it is started, saved and taken up again.

A checkpoint holds the policy (top level), the critic (`value/`), the moving average (`ema/`), both
optimizers, β and the step. The reference is always read from the SFT model, never from a
checkpoint: a resumed run is held to the same policy as before.

With LoRA the policy is the SFT model with an adapter, and the reference is the same model with the
adapter switched off: the SFT model to the bit, because only adapters are trained. The moving
average is one of adapters. There is one copy of the frozen weights (a critic of its own has
another, of the preference model), and checkpoints hold adapters alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
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
from hark.models.lora import (
    adapter_off,
    adapter_set_to,
    add_adapter,
    has_adapter,
    restore_adapter,
    trained_weights,
)
from hark.models.scalar_head import load_scalar_model, scalar_head_on
from hark.models.tokenizer import load_tokenizer
from hark.runs.run import Run, resolve_model
from hark.training.kl import AdaptiveKL
from hark.training.optimizer import build_optimizer
from hark.training.ppo_settings import PPOSettings
from hark.training.stopwatch import Stopwatch
from hark.training.trainer import leave_model

POLICY, VALUE, EMA = "policy", "value", "ema"


@dataclass(kw_only=True)
class PPOState:
    """The models of a run and how far it is."""

    tokenizer: PreTrainedTokenizerBase
    policy: PreTrainedModel
    """π, being trained; samples every rollout."""
    reference: PreTrainedModel | None
    """π_SFT, frozen; None where it is the policy with its adapter off."""
    critic: PreTrainedModel
    """V, a scalar model; its trunk is the policy's own where `shares_trunk`."""
    shares_trunk: bool
    average: PreTrainedModel | None
    """Moving average of the policy's weights, never sampled from."""
    average_adapter: dict[str, Tensor] | None
    """The same, where only the policy's adapter is trained; by names in peft's files."""
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

    @contextlib.contextmanager
    def as_reference(self) -> Iterator[PreTrainedModel]:
        """π_SFT, which may be the policy: not to be used otherwise within the block."""
        if self.reference is not None:
            yield self.reference
        else:
            with adapter_off(self.policy):
                yield self.policy

    @contextlib.contextmanager
    def as_product(self) -> Iterator[PreTrainedModel]:
        """The model the run leaves behind: the moving average, or the policy without one.

        Within the block the policy may be what the product is.
        """
        if self.average_adapter is None:
            yield self.policy if self.average is None else self.average
        else:
            with adapter_set_to(self.policy, self.average_adapter):
                yield self.policy


def start(settings: PPOSettings, run: Run) -> PPOState:
    """Load the models, from the run's newest checkpoint where there is one.

    Raises: ModelError for models that cannot be used together; SettingsError if no critic is named.
    """
    device = choose_device(settings.device)
    source, checkpoint = str(resolve_model(settings.model)), run.latest_checkpoint()
    tokenizer = load_tokenizer(source)
    # With LoRA a model is its base until it gets its adapter.
    whole_models = checkpoint if settings.lora is None else None
    shares_trunk = settings.critic == "shared"
    # Each model is cut before the next one is read: a device never holds two of them whole.
    reference = None
    if settings.lora is None:
        reference = load_language_model(source, device=device).requires_grad_(False)
        _shard(reference, settings)
    average = _average(settings, source, checkpoint, device)
    policy = load_language_model(whole_models or source, device=device)
    check_match(policy, tokenizer)
    critic = _shared_critic(policy, whole_models) if shares_trunk else None
    if settings.lora is not None:
        add_adapter(policy, settings.lora, base=source, seed=settings.seed, checkpoint=checkpoint)
    if critic is not None:
        _share_adapter(critic, policy, checkpoint)
    _shard(policy, settings, recomputed=True)
    if critic is None:
        critic = _critic(settings, policy, checkpoint, device)
        _shard(critic, settings, recomputed=True)
    else:
        _shard(critic.score, settings)
    trained = [*policy.parameters(), *(critic.score.parameters() if shares_trunk else ())]
    state = PPOState(
        tokenizer=tokenizer,
        policy=policy,
        reference=reference,
        critic=critic,
        shares_trunk=shares_trunk,
        average=average,
        average_adapter=_average_adapter(settings, policy),
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


def _shard(model: nn.Module, settings: PPOSettings, *, recomputed: bool = False) -> None:
    """recomputed: where the settings ask for activation checkpointing, this model has it."""
    if recomputed and settings.activation_checkpointing:
        parallel.recompute_blocks(model)
    parallel.shard(model, bfloat16=settings.dtype == "bfloat16")


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
    for name, tensor in (state.average_adapter or {}).items():
        tensors[f"{EMA}.{name}"] = tensor
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
    with state.as_product() as product:
        leave_model(run, product, state.tokenizer)
    save_model(run.path / VALUE, state.critic, state.tokenizer)


@torch.no_grad()
def update_average(average: PreTrainedModel, policy: PreTrainedModel, *, decay: float) -> None:
    """θ̄ ← decay · θ̄ + (1 − decay) · θ."""
    for mean, parameter in zip(average.parameters(), policy.parameters(), strict=True):
        mean.lerp_(parameter, 1.0 - decay)


def move_average(state: PPOState, *, decay: float) -> None:
    """Let the moving average, where there is one, follow the policy."""
    if state.average is not None:
        update_average(state.average, state.policy, decay=decay)
    if state.average_adapter is not None:
        for name, weight in trained_weights(state.policy).items():
            state.average_adapter[name].lerp_(weight, 1.0 - decay)


def values_of_hidden(critic: PreTrainedModel, hidden: Tensor) -> Tensor:
    """[M, D] states of a shared trunk to [M] values."""
    values: Tensor = critic.score(hidden).squeeze(-1).float()
    return values


def _shared_critic(policy: PreTrainedModel, checkpoint: Path | None) -> PreTrainedModel:
    """A head on the policy's trunk.

    Where there is a checkpoint its own copy of the trunk is read too, and never leaves the host.
    """
    if checkpoint is None:
        return scalar_head_on(policy, initial_std=0.0)
    critic = load_scalar_model(checkpoint / VALUE)
    # Registered under the same name, so that the critic is saved and loaded like any other.
    setattr(critic, critic.base_model_prefix, backbone(policy))
    critic.score.to(policy.device)
    return critic


def _share_adapter(
    critic: PreTrainedModel, policy: PreTrainedModel, checkpoint: Path | None
) -> None:
    """With LoRA, the adapter of a shared trunk is the policy's, and the head is saved beside it."""
    if not has_adapter(policy):
        return
    critic.peft_config = policy.peft_config
    if checkpoint is not None:
        restore_adapter(critic, checkpoint / VALUE)


def _critic(
    settings: PPOSettings,
    policy: PreTrainedModel,
    checkpoint: Path | None,
    device: torch.device,
) -> PreTrainedModel:
    """A network of its own; with LoRA frozen but for an adapter and the head."""
    saved = None if checkpoint is None else checkpoint / VALUE
    origin = _critic_origin(settings)
    whole = saved if settings.lora is None else None
    critic = _load_critic(settings, whole or resolve_model(origin), device)
    _require_same_vocabulary(critic, policy, origin)
    if settings.lora is not None:
        base = str(resolve_model(origin))
        add_adapter(critic, settings.lora, base=base, seed=settings.seed, checkpoint=saved)
    return critic


def _critic_origin(settings: PPOSettings) -> str:
    origin = settings.value_model or next(iter(settings.preference_model), None)
    if origin is None:
        raise SettingsError(
            "critic 'preference_model' has nothing to start from: give preference_model or "
            "value_model, or set critic to 'shared'"
        )
    return origin


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
    settings: PPOSettings, source: str, checkpoint: Path | None, device: torch.device
) -> PreTrainedModel | None:
    """It starts as the policy does."""
    if settings.ema_decay is None or settings.lora is not None:
        return None
    read = source if checkpoint is None else checkpoint / EMA
    average = load_language_model(read, device=device).requires_grad_(False)
    _shard(average, settings)
    return average


def _average_adapter(settings: PPOSettings, policy: PreTrainedModel) -> dict[str, Tensor] | None:
    if settings.ema_decay is None or settings.lora is None:
        return None
    return {name: weight.clone() for name, weight in trained_weights(policy).items()}


def _restore(state: PPOState, saved: TrainingState, run: Run) -> None:
    for prefix, optimizer in _optimizers(state).items():
        restore_optimizer(optimizer, saved.tensors, prefix=prefix)
    for name, tensor in (state.average_adapter or {}).items():
        tensor.copy_(
            parallel.laid_out_like(tensor, saved.tensors[f"{EMA}.{name}"].to(tensor.device))
        )
    state.controller = replace(state.controller, coefficient=saved.scalars["kl_coefficient"])
    state.step = saved.step
    state.metrics = saved.scalars["metrics"]
    state.evaluation = saved.scalars["evaluation"]
    state.history = saved.scalars["history"]
    state.signs = saved.scalars["signs"]
    run.rewind(saved.step)
