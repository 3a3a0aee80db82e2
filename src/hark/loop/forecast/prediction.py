"""From a checked recipe to a forecast: every stage's memory, time and money on given devices.

What is not in a forecast: evaluation during training, checkpoints, start-up and tokenising, waiting
for each other, and stages whose work is not a model's (playground, prepare, label, report).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hark.errors import SettingsError
from hark.loop.forecast import inference_drafts, ppo_draft, training_drafts
from hark.loop.forecast.drafts import Draft, Models, PhaseWork
from hark.loop.forecast.hardware import Basis, Device, Figure
from hark.loop.forecast.lengths import Said, lengths_of_stage
from hark.loop.forecast.memory import HEADROOM, MemoryTerm, Situation, peak
from hark.loop.forecast.shapes import (
    ModelShape,
    shape_of_count,
    shape_of_name,
    shape_of_parameters,
)
from hark.loop.forecast.work import Lengths
from hark.loop.judges import NAMED_SCORERS
from hark.loop.plan import Plan, PlannedStage
from hark.loop.references import REFERENCE
from hark.models.language_model import SIZES
from hark.runs.run import is_endpoint, resolve_model

Drafter = Callable[[Any, Models, Lengths, Situation], Draft]

DRAFTERS: dict[str, Drafter] = {
    "pretrain": training_drafts.pretrain,
    "sft": training_drafts.sft,
    "preference": training_drafts.preference,
    "ppo": ppo_draft.ppo,
    "sample": inference_drafts.sample,
    "compare": inference_drafts.compare,
    "evaluate": inference_drafts.evaluate,
}
"""The stages that are forecast."""

COUNTED_TERMS = ("weights", "gradients", "optimizer moments", "frozen", "one whole model", "whole")
"""Beginnings of the terms of memory that are parameters times bytes."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be forecast, besides the recipe."""

    device: Device
    devices: int
    price_per_hour: float
    """Dollars for one device."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Stage → the size of its model, such as "70b"; "" for models that no stage makes."""
    said: Said = field(default_factory=Said)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of one step, in seconds."""

    name: str
    seconds: Figure
    communication_bytes: float
    """Sent or received by each device."""
    communication_seconds: float
    """Of which the seconds of training passes hide behind computing on a GPU."""


@dataclass(frozen=True, kw_only=True)
class StageForecast:
    """What a stage would need."""

    name: str
    kind: str
    model: str
    parameters: Figure
    data: str
    """Where the numbers of examples and tokens come from."""
    steps: int
    memory: tuple[tuple[MemoryTerm, Basis], ...]
    peak_bytes: Figure
    fits: bool
    phases: tuple[Phase, ...]
    hours: Figure
    cost: Figure
    """Dollars."""
    largest: Figure | None
    """Parameters of the largest model that fits in its model's place; none if not even 1M do."""
    notes: tuple[str, ...]

    @property
    def step_seconds(self) -> float:
        return sum(phase.seconds.value for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of all stages of a recipe."""

    stages: tuple[StageForecast, ...]
    left_out: tuple[str, ...]
    """Names of stages that are not forecast."""

    @property
    def hours(self) -> float:
        return sum(stage.hours.value for stage in self.stages)

    @property
    def cost(self) -> float:
        return sum(stage.cost.value for stage in self.stages)


def forecast(plan: Plan, question: Question) -> Forecast:
    """Forecast every stage of a plan in its order.

    Raises: SettingsError or ModelError for models whose size cannot be known; DataError for files
    that cannot be read.
    """
    made: dict[str, ModelShape] = {}
    stages = []
    for stage in plan.stages:
        if stage.kind in DRAFTERS:
            models = _models(stage, made, question)
            made[stage.name] = models.main
            stages.append(forecast_stage(stage, models, question))
        elif stage.kind == "distill":
            # Not forecast, but others start from its model, of the size that it was given.
            made[stage.name] = _models(stage, made, question).main
    left_out = tuple(stage.name for stage in plan.stages if stage.kind not in DRAFTERS)
    return Forecast(stages=tuple(stages), left_out=left_out)


def forecast_stage(stage: PlannedStage, models: Models, question: Question) -> StageForecast:
    """Forecast one stage, with the shapes of its models."""
    settings, device = stage.settings, question.device
    situation = Situation(device=device, devices=question.devices, dtype=settings.dtype)
    lengths = _lengths(stage, question)
    draft = DRAFTERS[stage.kind](settings, models, lengths, situation)
    counted = Basis.MEASURED if models.main.counted else Basis.EXTRAPOLATED
    known = max(counted, lengths.basis)
    timed = max(known, device.basis(models.main.width, settings.dtype))
    phases = tuple(_timed(phase, situation, timed) for phase in _joined(draft.phases))
    terms = draft.memory(models)
    most = peak(terms)
    hours = draft.steps * sum(phase.seconds.value for phase in phases) / 3600
    return StageForecast(
        name=stage.name,
        kind=stage.kind,
        model=models.main.origin,
        parameters=Figure(models.main.parameters, counted),
        data=lengths.note,
        steps=draft.steps,
        memory=tuple((term, _basis_of(term, counted, known, device)) for term in terms),
        peak_bytes=Figure(most, max(_basis_of(term, counted, known, device) for term in terms)),
        fits=most <= (1 - HEADROOM) * device.memory,
        phases=phases,
        hours=Figure(hours, timed),
        cost=Figure(hours * question.devices * question.price_per_hour, Basis.EXTRAPOLATED),
        largest=_largest(draft, models, device),
        notes=draft.notes,
    )


def _joined(phases: tuple[PhaseWork, ...]) -> list[PhaseWork]:
    """Phases of one name as one."""
    by_name: dict[str, PhaseWork] = {}
    for phase in phases:
        before = by_name.get(phase.name)
        if before is not None:
            phase = PhaseWork(
                name=phase.name, work=before.work + phase.work,
                tokens_on_host=before.tokens_on_host + phase.tokens_on_host,
                overlapped_bytes=before.overlapped_bytes + phase.overlapped_bytes,
                gathered_bytes=before.gathered_bytes + phase.gathered_bytes,
            )  # fmt: skip
        by_name[phase.name] = phase
    return list(by_name.values())


def _timed(phase: PhaseWork, situation: Situation, basis: Basis) -> Phase:
    device, between = situation.device, situation.device.between(situation.devices)
    seconds = phase.tokens_on_host * device.rates.data_seconds_per_token
    seconds += sum(
        work.seconds(device, getattr(device.rates, rate), situation.dtype)
        for rate, work in phase.work
    )
    overlapped, gathered = phase.overlapped_bytes / between, phase.gathered_bytes / between
    seconds = seconds + overlapped if device.is_cpu else max(seconds, overlapped)
    moved = phase.overlapped_bytes + phase.gathered_bytes
    return Phase(
        name=phase.name,
        seconds=Figure(seconds + gathered, max(basis, Basis.EXTRAPOLATED) if moved else basis),
        communication_bytes=moved,
        communication_seconds=overlapped + gathered,
    )


def _basis_of(term: MemoryTerm, counted: Basis, known: Basis, device: Device) -> Basis:
    """Parameters times bytes are as well known as the parameters; the formulas of activations and
    the like are checked on CPUs alone."""
    if term.name.startswith(COUNTED_TERMS):
        return counted
    return max(known, Basis.CALIBRATED if device.is_cpu else Basis.EXTRAPOLATED)


def _largest(draft: Draft, models: Models, device: Device) -> Figure | None:
    """By bisection over Llama-like shapes, with the same examples and settings."""

    def fits(parameters: float) -> bool:
        shape = shape_of_parameters(parameters)
        return peak(draft.memory(models.scaled(shape))) <= (1 - HEADROOM) * device.memory

    low, high = 1e6, 4e12
    if not fits(low):
        return None
    while high / low > 1.02:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if fits(middle) else (low, middle)
    return Figure(low, Basis.EXTRAPOLATED)


def _lengths(stage: PlannedStage, question: Question) -> Lengths:
    settings: Any = stage.settings
    draws = stage.kind in {"ppo", "sample", "compare", "evaluate"}
    limit = settings.sampling.max_response_tokens if draws else None
    lengths = lengths_of_stage(
        stage.name, stage.kind, [str(path) for path in settings.data], question.said,
        model=_directory(getattr(settings, "model", None)), limit=limit,
        responses=getattr(settings, "responses_per_prompt", 1),
    )  # fmt: skip
    if stage.kind == "pretrain" and (settings.steps or settings.tokens):
        # Rows are full of whatever text there is.
        return replace(lengths, basis=Basis.MEASURED, note="as many tokens as the recipe says")
    return lengths


def _directory(word: str | None) -> Path | None:
    """The directory of a model on this machine."""
    if word is None or is_endpoint(word) or REFERENCE.search(word):
        return None
    path = resolve_model(word)
    return path if path.is_dir() else None


def _models(stage: PlannedStage, made: Mapping[str, ModelShape], question: Question) -> Models:
    """The shapes of a stage's models: said by the person, made by another stage, or looked up."""
    settings: Any = stage.settings

    def shape(word: str) -> ModelShape:
        return _shape(word, made, question)

    if (count := question.parameters.get(stage.name)) is not None:
        main = shape_of_count(count)
    elif stage.kind == "pretrain" and settings.model is None:
        main = _new(settings, question)
    elif stage.kind == "compare":
        main = shape(settings.policies[settings.baseline].model)
    else:
        main = shape(settings.model)
    if stage.kind == "compare":
        policies = [shape(policy.model) for policy in settings.policies.values()]
        judges = [settings.judge, settings.preference_model]
        return Models(main=policies[0], others=tuple(policies[1:]), scorers=_scorers(judges, shape))
    if stage.kind == "ppo":
        critic = settings.value_model or settings.preference_model[0]
        own = settings.critic != "shared"
        return Models(
            main=main, scorers=_scorers(settings.preference_model, shape),
            critic=shape(critic) if own and _is_model(critic) else None,
        )  # fmt: skip
    others = [getattr(settings, "baseline", None)] if stage.kind == "evaluate" else []
    judges = [getattr(settings, "judge", None), getattr(settings, "scorer", None)]
    return Models(
        main=main,
        others=tuple(shape(word) for word in others if word),
        scorers=_scorers(judges if stage.kind in {"evaluate", "sample"} else [], shape),
    )


def _scorers(words: Any, shape: Callable[[str], ModelShape]) -> tuple[ModelShape, ...]:
    return tuple(shape(word) for word in dict.fromkeys(words) if word and _is_model(word))


def _is_model(word: str) -> bool:
    """Whether a scorer is a model at all, and not a rule."""
    return word not in NAMED_SCORERS and ":" not in word


def _shape(word: str, made: Mapping[str, ModelShape], question: Question) -> ModelShape:
    """The model that a word of a recipe stands for."""
    if is_endpoint(word):
        raise SettingsError(
            f"model '{word}' is behind an endpoint, whose devices hark does not know; forecast the "
            "recipe without it"
        )
    whole = REFERENCE.fullmatch(word)
    if whole is not None and whole[1] in made:
        return made[whole[1]]
    if "" in question.parameters:
        return shape_of_count(question.parameters[""])
    if whole is not None:
        raise SettingsError(
            f"'{word}' has no size yet; give it with --input, or say how large its models are: "
            "--parameters 7b"
        )
    return shape_of_name(word)


def _new(settings: Any, question: Question) -> ModelShape:
    """The model that `pretrain` makes."""
    if "" in question.parameters:
        return shape_of_count(question.parameters[""])
    if settings.size not in SIZES:
        raise SettingsError(f"unknown model size '{settings.size}'; sizes: {', '.join(SIZES)}")
    return ModelShape.of_preset(
        SIZES[settings.size], settings.vocabulary_size, origin=f"size {settings.size}"
    )
