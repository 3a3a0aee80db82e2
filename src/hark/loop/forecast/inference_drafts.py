"""What `sample`, `compare` and `evaluate` do: one pass over the data, every process with the whole
models and its share of the examples."""

from __future__ import annotations

from collections.abc import Sequence

from hark.loop.comparing import CompareSettings
from hark.loop.evaluating import EvaluateSettings
from hark.loop.forecast import memory, work
from hark.loop.forecast.drafts import Draft, Models, PhaseWork, forward_of, prefill
from hark.loop.forecast.memory import MemoryTerm, Situation
from hark.loop.forecast.shapes import ModelShape
from hark.loop.forecast.work import Lengths, Share
from hark.loop.sampling import SampleSettings
from hark.models.packing import pass_tokens

EVALUATED_ROWS = 64
"""Replies that `evaluate` writes at once."""


def sample(
    settings: SampleSettings, models: Models, lengths: Lengths, situation: Situation
) -> Draft:
    """K replies to each prompt, each the best of N."""
    prompts = min(settings.limit or lengths.examples, lengths.examples)
    replies = settings.responses_per_prompt * settings.best_of
    return Draft(
        steps=1,
        phases=tuple(
            _answered(models.main, lengths, situation, prompts, replies, settings.rows)
            + _scored(models.scorers, lengths, situation, prompts, replies)
        ),
        memory=lambda models: _whole(
            models, lengths, situation, settings.rows, settings.sampling.max_response_tokens
        ),
    )


def compare(
    settings: CompareSettings, models: Models, lengths: Lengths, situation: Situation
) -> Draft:
    """Each policy answers all prompts; all answers are scored."""
    prompts = min(settings.limit or lengths.examples, lengths.examples)
    phases: list[PhaseWork] = []
    policies = (models.main, *models.others)
    for shape, policy in zip(policies, settings.policies.values(), strict=True):
        phases += _answered(shape, lengths, situation, prompts, policy.best_of, settings.rows)
        phases += _scored(models.scorers, lengths, situation, prompts, policy.best_of)
    return Draft(
        steps=1, phases=tuple(phases), notes=("the loss on text is not counted",),
        memory=lambda models: _whole(
            models, lengths, situation, settings.rows, settings.sampling.max_response_tokens
        ),
    )  # fmt: skip


def evaluate(
    settings: EvaluateSettings, models: Models, lengths: Lengths, situation: Situation
) -> Draft:
    """One pass over comparisons or texts, or the answers of two models."""
    examples = min(settings.limit or lengths.examples, lengths.examples)
    phases: list[PhaseWork] = []
    if settings.baseline is None:
        phases += _scored([models.main], lengths, situation, examples, 1)
    for shape in (models.main, *models.others) if settings.baseline is not None else ():
        phases += _answered(shape, lengths, situation, examples, 1, EVALUATED_ROWS)
        phases += _scored(models.scorers, lengths, situation, examples, 1)
    limit = settings.sampling.max_response_tokens if settings.baseline is not None else 0
    return Draft(
        steps=1, phases=tuple(phases),
        memory=lambda models: _whole(models, lengths, situation, EVALUATED_ROWS, limit),
    )  # fmt: skip


def _answered(
    shape: ModelShape,
    lengths: Lengths,
    situation: Situation,
    prompts: int,
    replies: int,
    rows: int,
) -> list[PhaseWork]:
    own = max(1.0, prompts / situation.devices)
    drawn = work.decoding(
        shape, lengths, responses=own * replies, rows=rows, weight_bytes=situation.number_bytes
    )
    read = prefill(shape, lengths, own)
    return [PhaseWork(name="generate", work=(("decoding", drawn), ("forward", read)))]


def _scored(
    shapes: Sequence[ModelShape],
    lengths: Lengths,
    situation: Situation,
    prompts: int,
    replies: int,
) -> list[PhaseWork]:
    limit = pass_tokens(situation.device_type)
    share = Share.of(prompts, lengths, pass_tokens=limit, devices=situation.devices)
    phases = []
    for shape in shapes:
        passes = forward_of(shape, share, situation, scalar=True).times(replies)
        phases.append(PhaseWork(name="score", work=(("forward", passes),)))
    return phases


def _whole(
    models: Models, lengths: Lengths, situation: Situation, rows: int, limit: int
) -> list[MemoryTerm]:
    """The largest of the policies is there with the reference; scorers are there throughout."""
    policies = sorted((models.main, *models.others), key=lambda shape: -shape.parameters)[:2]
    weights = sum(shape.parameters for shape in policies)
    weights += sum(shape.scalar_parameters for shape in models.scorers)
    held = MemoryTerm(
        name="whole models", bytes=float(situation.number_bytes * weights), when="always"
    )
    if not limit:
        # Only read: the states of one layer for a pass of a scorer.
        states = memory.states_of_layer(policies[0], pass_tokens(situation.device_type), situation)
        return [held, MemoryTerm(name="states of one layer", bytes=states, when="scoring")]
    longest = lengths.longest_prompt
    return [
        held,
        *memory.of_generating(
            policies[0], situation, rows=rows, capacity=longest + limit, longest_prompt=longest,
            weight_bytes=situation.number_bytes,
        ),
    ]  # fmt: skip
