"""What a stage does in a step, counted but not yet timed: the common parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hark.loop.forecast import work
from hark.loop.forecast.memory import MemoryTerm, Situation
from hark.loop.forecast.shapes import ModelShape
from hark.loop.forecast.work import Lengths, Share, Work
from hark.models import flops
from hark.training.trainer import TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models that a stage works with."""

    main: ModelShape
    """The one trained, or sampled from."""
    scorers: tuple[ModelShape, ...] = ()
    """Preference models that score."""
    critic: ModelShape | None = None
    """PPO's, where it is a network of its own."""
    others: tuple[ModelShape, ...] = ()
    """Other policies, of a comparison."""

    def scaled(self, main: ModelShape) -> Models:
        """With another main model; models of the same shape follow it, others stay."""

        def follow(shape: ModelShape) -> ModelShape:
            return main if shape == self.main else shape

        return Models(
            main=main,
            scorers=tuple(map(follow, self.scorers)),
            critic=None if self.critic is None else follow(self.critic),
            others=tuple(map(follow, self.others)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseWork:
    """A phase of one step."""

    name: str
    """As in timing.jsonl, without `_seconds`."""
    work: tuple[tuple[str, Work], ...] = ()
    """Which of the device's rates, and what there is to do."""
    tokens_on_host: float = 0.0
    """To be packed."""
    overlapped_bytes: float = 0.0
    """Sent by each device while it computes."""
    gathered_bytes: float = 0.0
    """Received by each device before it computes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A stage, counted but not yet timed."""

    steps: int
    phases: tuple[PhaseWork, ...]
    memory: Callable[[Models], list[MemoryTerm]]
    notes: tuple[str, ...] = ()


def share_of(
    batch: int, lengths: Lengths, settings: TrainingSettings, situation: Situation
) -> Share:
    """What one process has of a batch of training."""
    limit = settings.pass_tokens(situation.device_type)
    return Share.of(batch, lengths, pass_tokens=limit, devices=situation.devices)


def forward_of(shape: ModelShape, share: Share, situation: Situation, *, scalar: bool) -> Work:
    """Once through a model."""
    return work.forward(
        shape, share, dtype=situation.dtype, sharded=situation.computes_in_bfloat16, scalar=scalar
    )


def update_of(shape: ModelShape, parameters: float, situation: Situation) -> Work:
    """One step of Adam."""
    return work.update(parameters, shape.layers, devices=situation.devices)


def pass_bytes(parameters: float, situation: Situation, *, trained: float | None = None) -> float:
    """Sent by each device in one training pass: weights gathered forward and again backward, and
    float32 gradients of those trained, by default all, scattered as sums."""
    gradients = 4 * (parameters if trained is None else trained)
    return _others(situation) * (2 * situation.gathered_bytes * parameters + gradients)


def _others(situation: Situation) -> float:
    """The share of a model that a device does not have itself."""
    return (situation.devices - 1) / situation.devices


def whole_bytes(parameters: float, situation: Situation, number_bytes: int | None = None) -> float:
    """Bytes that make a sharded model whole in each process."""
    return _others(situation) * parameters * (number_bytes or situation.gathered_bytes)


def prefill(shape: ModelShape, lengths: Lengths, prompts: float) -> Work:
    """Reading so many prompts."""
    count = lengths.mean(lambda each: flops.trunk(shape.arithmetic, (each[0], ())))
    return Work(operations=prompts * count)
