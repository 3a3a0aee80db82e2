"""The loop that pretraining, SFT and preference training share.

A step's batch, and everything random about the step, is a function of (seed, step): an interrupted
run that continues from its last checkpoint writes the same metrics and weights as one that was
left alone. Mathematics stays float32; `dtype: bfloat16` runs the forward and backward passes under
autocast over float32 weights.

Averages: a stage's loss is a weighted mean over its units (tokens, or comparisons). Each
micro-batch reports sums; the loop divides by the weight of the whole batch, so that gradient
accumulation equals one large batch.

Several processes (`hark.models.parallel`): the batch is the same, its micro-batches are dealt out,
and gradients and sums add up over processes to those of one. Dropout alone draws differently.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.mixing import permutation
from hark.errors import RunError
from hark.models import flops, parallel
from hark.models.checkpoint import (
    TrainingState,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_adapter,
    save_checkpoint,
    save_model,
)
from hark.models.lora import has_adapter
from hark.models.packing import pass_tokens
from hark.models.processes import gather, own_share, rank, world_size
from hark.runs.progress import progress
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings, StageSettings
from hark.training.optimizer import OptimizerSettings, build_optimizer, update
from hark.training.stopwatch import Stopwatch, steps_watched

ADAPTER = "adapter"
"""The subdirectory of a run for the adapter of its model, in peft's format."""

Batch = TypeVar("Batch")
Item = TypeVar("Item")


class TrainingSettings(DataStageSettings):
    """What every stage that follows gradients can be told."""

    without_effect: ClassVar[frozenset[str]] = DataStageSettings.without_effect | {"profile_steps"}

    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of one forward and backward pass; a batch of more is accumulated. Without it 4096
    on a CPU and 8192 on a GPU."""
    activation_checkpointing: bool = False
    """Keep only the input of each layer for the backward pass and compute the rest again: far less
    memory for a third more time."""
    evaluation_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations on evaluation_data; without it, once an epoch."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between checkpoints."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay on the disk."""
    profile_steps: int = Field(default=0, ge=0)
    """Trace so many steps, from the second on, into the run directory's profile/: a timeline for
    Perfetto or chrome://tracing, and a table of the costliest operators."""

    def pass_tokens(self, device: torch.device | str) -> int:
        """`micro_batch_tokens` where the computation is on `device`."""
        return self.micro_batch_tokens or pass_tokens(device)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch(Generic[Batch]):
    """What one forward and backward pass computes."""

    batch: Batch
    weight: float
    """Total weight of the units the loss is a mean over: tokens, or comparisons."""
    sequences: tuple[flops.Sequence, ...]
    """Tokens of each prompt and of the responses that share it."""

    @property
    def tokens(self) -> int:
        """Tokens the pass computes, padding left out."""
        return sum(prompt + sum(responses) for prompt, responses in self.sequences)


class WeightedSum(NamedTuple):
    """A metric of one micro-batch; the batch's is the sum of sums over the sum of weights."""

    sum: Tensor
    """[]"""
    weight: float


class LossReport(NamedTuple):
    """Sums over one micro-batch, of which the loop makes means over the batch."""

    loss: Tensor
    """[] the weighted sum of losses, to be differentiated; its weight is the micro-batch's."""
    sums: Mapping[str, WeightedSum] = MappingProxyType({})
    """Other metrics, by the name they are logged under."""


@dataclass(frozen=True, kw_only=True)
class Task(Generic[Batch]):
    """What one stage asks of the loop."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    optimizer: OptimizerSettings
    steps: int
    batch: Callable[[int], Sequence[MicroBatch[Batch]]]
    """The micro-batches of step `n`, counted from 0."""
    loss: Callable[[Batch], LossReport]
    useful_flops: Callable[[flops.Sequence], int]
    """Useful arithmetic of a forward pass."""
    evaluate: Callable[[], dict[str, float]] | None = None
    """Measures the model as it is; gradients and dropout are off meanwhile."""
    evaluation_every: int = 0
    """Steps between evaluations; there is one before the first and after the last step as well."""
    quality: Callable[[dict[str, float]], float] | None = None
    """Chooses the checkpoint: the evaluation for which this is highest is saved as the model."""
    dropout: bool = False
    """Whether dropout is on in training steps."""


@dataclass(slots=True, kw_only=True)
class FitState:
    """How far the loop is; part of every checkpoint, and its result."""

    step: int = 0
    tokens: int = 0
    """Tokens computed in training so far, evaluation left out."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Training metrics of the last step."""
    evaluation: dict[str, float] = field(default_factory=dict)
    """The newest evaluation."""
    chosen_step: int | None = None
    chosen_evaluation: dict[str, float] = field(default_factory=dict)

    def metrics_at_end(self) -> dict[str, float]:
        """Of the last step's batch, and of the chosen evaluation or else the last one."""
        of_training = {
            name: value
            for name, value in self.metrics.items()
            if name not in ("learning_rate", "gradient_norm")
        }
        return of_training | (self.chosen_evaluation or self.evaluation)


def fit(run: Run, task: Task[Any], settings: TrainingSettings) -> FitState:
    """Take the steps of `task`, from the run's last checkpoint where it has one.

    The model must hold that checkpoint's weights already; the optimizer and position are restored
    here. Raises: RunError if the loss or the gradient stops being finite.
    """
    if settings.activation_checkpointing:
        parallel.recompute_blocks(task.model)
    parallel.shard(task.model, bfloat16=settings.dtype == "bfloat16")
    optimizer = build_optimizer(task.model.parameters(), task.optimizer)
    state = _restore(run, optimizer)
    task.model.train(task.dropout)
    with (
        steps_watched(run, task.model.device, profile_steps=settings.profile_steps) as watch,
        progress(total=task.steps, label=run.stage, start=state.step) as bar,
    ):
        if state.step == 0:
            _evaluate(run, task, settings, state, watch)
        while state.step < task.steps:
            state.metrics = _train_step(task, settings, optimizer, state, watch)
            state.step += 1
            run.metrics.log(step=state.step, **state.metrics, tokens=state.tokens)
            if _is_due(state.step, task):
                _evaluate(run, task, settings, state, watch)
            if state.step % settings.checkpoint_every == 0:
                with watch.phase("checkpoint"):
                    _save(run, task, settings, optimizer, state)
            run.timing.log(step=state.step, **watch.take())
            bar.advance(loss=state.metrics["loss"])
    return state


def _train_step(
    task: Task[Any],
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    state: FitState,
    watch: Stopwatch,
) -> dict[str, float]:
    torch.manual_seed(seed_of_step(settings.seed, state.step))
    with watch.phase("data"):
        micro_batches = task.batch(state.step)
    weight = math.fsum(micro_batch.weight for micro_batch in micro_batches)
    reports: dict[str, list[tuple[float, float]]] = {}
    with watch.phase("forward_backward"):
        for micro_batch, counts in own_turns(micro_batches):
            with autocast(task.model, settings):
                report = parallel.compute(task.model, task.loss, micro_batch.batch)
            (report.loss * counts / weight).backward()
            if counts:
                sums = {"loss": WeightedSum(report.loss, micro_batch.weight), **report.sums}
                for name, (value, part) in sums.items():
                    reports.setdefault(name, []).append((float(value.detach()), part))
    tokens = sum(micro_batch.tokens for micro_batch in micro_batches)
    watch.count(tokens=tokens, useful_flops=_useful_flops(task, micro_batches))
    state.tokens += tokens
    metrics = means_over_processes(reports)
    _require_finite("loss", metrics["loss"], task, state)
    with watch.phase("update"):
        taken = update(optimizer, step=state.step, total_steps=task.steps, settings=task.optimizer)
    _require_finite("gradient norm", taken.gradient_norm, task, state)
    return metrics | dataclasses.asdict(taken)


def _useful_flops(task: Task[Any], micro_batches: Sequence[MicroBatch[Any]]) -> int:
    """Of a step, in all processes: forward and backward."""
    return flops.training(
        sum(
            task.useful_flops(sequence)
            for micro_batch in micro_batches
            for sequence in micro_batch.sequences
        ),
        adapted=has_adapter(task.model),
    )


def own_turns(items: Sequence[Item]) -> Iterator[tuple[Item, bool]]:
    """This process's share of `items`, each with True: as many turns in every process.

    Where others have one more, the last stands in with False: a pass without weight, because a
    sharded model computes in all processes or in none.
    """
    own = own_share(items)
    yield from ((item, True) for item in own)
    if len(own) < -(-len(items) // world_size()):
        yield items[-1], False


def means_over_processes(parts: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """The mean of each metric from the sums and weights that all processes have of it."""
    merged: dict[str, list[tuple[float, float]]] = {}
    for of_process in gather(parts):
        for name, pairs in of_process.items():
            merged.setdefault(name, []).extend(pairs)
    return {
        name: math.fsum(value for value, _ in pairs) / math.fsum(weight for _, weight in pairs)
        for name, pairs in merged.items()
    }


def _require_finite(what: str, value: float, task: Task[Any], state: FitState) -> None:
    if not math.isfinite(value):
        raise RunError(
            f"the {what} is {value} at step {state.step + 1} of {task.steps}: most often "
            f"optimizer.learning_rate ({task.optimizer.learning_rate:g}) is too high; lower it or "
            "raise optimizer.warmup_steps"
        )


def _is_due(step: int, task: Task[Any]) -> bool:
    if step == task.steps:
        return True
    return task.evaluation_every > 0 and step % task.evaluation_every == 0


def _evaluate(
    run: Run, task: Task[Any], settings: TrainingSettings, state: FitState, watch: Stopwatch
) -> None:
    if task.evaluate is None:
        return
    task.model.eval()
    with (
        watch.phase("evaluation"),
        torch.no_grad(),
        parallel.whole(task.model),
        autocast(task.model, settings),
    ):
        state.evaluation = task.evaluate()
    task.model.train(task.dropout)
    run.metrics.log(step=state.step, **state.evaluation)
    if task.quality is None or state.step == 0:
        return
    best = state.chosen_evaluation
    if not best or task.quality(state.evaluation) > task.quality(best):
        state.chosen_step, state.chosen_evaluation = state.step, state.evaluation
        leave_model(run, task.model, task.tokenizer)


def leave_model(run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Leave the model in `run.model_path`, and its adapter, where it has one, beside it."""
    if has_adapter(model):
        save_adapter(run.path / ADAPTER, model, tokenizer)
    save_model(run.model_path, model, tokenizer)


def _restore(run: Run, optimizer: torch.optim.Optimizer) -> FitState:
    checkpoint = run.latest_checkpoint()
    if checkpoint is None:
        run.rewind(-1)
        return FitState()
    saved = load_state(checkpoint, {"optimizer": optimizer})
    restore_optimizer(optimizer, saved.tensors)
    run.rewind(saved.step)
    return FitState(**saved.scalars)


def _save(
    run: Run,
    task: Task[Any],
    settings: TrainingSettings,
    optimizer: torch.optim.Optimizer,
    state: FitState,
) -> None:
    save_checkpoint(
        run.checkpoint_path(state.step),
        models={"": task.model},
        tokenizer=task.tokenizer,
        state=TrainingState(
            step=state.step,
            tensors=optimizer_tensors(optimizer),
            scalars=dataclasses.asdict(state),
        ),
    )
    run.keep_checkpoints(settings.keep_checkpoints)


def autocast(model: PreTrainedModel, settings: StageSettings) -> torch.autocast:
    """The precision in which the model's passes run."""
    return torch.autocast(
        model.device.type, dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"
    )


def seed_of(*parts: int) -> int:
    """A seed for one purpose and position, such as (seed, step); independent between any two."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def seed_of_step(seed: int, step: int) -> int:
    """For what draws from torch's generator in a step: another in each process beyond the first."""
    return seed_of(seed, step) if rank() == 0 else seed_of(seed, step, rank())


def examples_of_step(step: int, *, count: int, batch_size: int, seed: int) -> list[int]:
    """The examples of step `step`: each epoch visits all `count` once, in a fresh order.

    An epoch's batches hold `batch_size` examples or, where that does not divide `count`, as nearly
    equal numbers below it as can be: no last batch of one noisy example.
    """
    epoch, position = divmod(step, steps_per_epoch(count, batch_size))
    return _batches_of_epoch(epoch, count, batch_size, seed)[position]


@functools.lru_cache(maxsize=2)
def _batches_of_epoch(epoch: int, count: int, batch_size: int, seed: int) -> list[list[int]]:
    order = permutation(count, seed=seed, stream=epoch)
    batches = np.array_split(order, steps_per_epoch(count, batch_size))
    return [[int(index) for index in batch] for batch in batches]


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Steps in which every one of `count` examples is visited once."""
    return -(-count // batch_size)
