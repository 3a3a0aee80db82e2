"""What a PPO step does (`hark.training.ppo`), and the memory of its models."""

from __future__ import annotations

from hark.loop.forecast import memory, work
from hark.loop.forecast.adapters import notes_of, trained_model
from hark.loop.forecast.drafts import (
    Draft,
    Models,
    PhaseWork,
    forward_of,
    pass_bytes,
    prefill,
    share_of,
    update_of,
    whole_bytes,
)
from hark.loop.forecast.hardware import Basis
from hark.loop.forecast.memory import Held, MemoryTerm, Situation
from hark.loop.forecast.shapes import ModelShape
from hark.loop.forecast.work import Lengths, Share, Work
from hark.loop.training import PPOStageSettings
from hark.models.packing import pass_tokens


def ppo(
    settings: PPOStageSettings, models: Models, lengths: Lengths, situation: Situation
) -> Draft:
    """Sample, score, reference, values, updates."""
    phases = [
        _generate(settings, models.main, lengths, situation),
        _score(settings, models, lengths, situation),
        *_measured(settings, models, lengths, situation),
        _updates(settings, models, lengths, situation),
    ]
    if settings.pretraining_data:
        phases.append(_pretraining(settings, models.main, situation))
    return Draft(
        steps=settings.steps,
        phases=tuple(phases),
        memory=lambda models: _memory(settings, models, lengths, situation),
        notes=notes_of(settings.lora, models.main),
    )


def _generate(
    settings: PPOStageSettings, shape: ModelShape, lengths: Lengths, situation: Situation
) -> PhaseWork:
    drawn = work.decoding(
        shape, lengths, responses=max(1.0, settings.batch_episodes / situation.devices),
        rows=settings.generation_rows, weight_bytes=situation.number_bytes,
    )  # fmt: skip
    prompts = settings.prompts_per_step / situation.devices
    return PhaseWork(
        name="generate",
        work=(("decoding", drawn), ("forward", prefill(shape, lengths, prompts))),
        gathered_bytes=whole_bytes(shape.parameters, situation),
    )


def _score(
    settings: PPOStageSettings, models: Models, lengths: Lengths, situation: Situation
) -> PhaseWork:
    limit = pass_tokens(situation.device_type)
    share = Share.of(
        settings.prompts_per_step, lengths, pass_tokens=limit, devices=situation.devices
    )
    gathered = sum(
        whole_bytes(shape.scalar_parameters, situation, situation.number_bytes)
        for shape in models.scorers
    )
    passes = (forward_of(shape, share, situation, scalar=True) for shape in models.scorers)
    return PhaseWork(
        name="score", work=tuple(("forward", each) for each in passes), gathered_bytes=gathered
    )


def _measured(
    settings: PPOStageSettings, models: Models, lengths: Lengths, situation: Situation
) -> list[PhaseWork]:
    """The passes without gradients over the first epoch's minibatches."""
    batches = settings.batch_episodes // settings.minibatch_episodes
    share = share_of(settings.prompts_per_step // batches, lengths, settings, situation)
    policy = forward_of(models.main, share, situation, scalar=False).times(batches)
    critic = models.critic or models.main
    value = forward_of(critic, share, situation, scalar=True).times(batches)
    of_policy = whole_bytes(models.main.parameters, situation)
    of_critic = whole_bytes(critic.scalar_parameters, situation)
    reference = PhaseWork(name="reference", work=(("forward", policy),), gathered_bytes=of_policy)
    phases = [reference, PhaseWork(
        name="value", work=(("forward", value),), gathered_bytes=of_critic
    )]  # fmt: skip
    if settings.recompute_behaviour_logprobs:
        phases.append(
            PhaseWork(name="recompute", work=(("forward", policy),), gathered_bytes=of_policy)
        )
    return phases


def _updates(
    settings: PPOStageSettings, models: Models, lengths: Lengths, situation: Situation
) -> PhaseWork:
    batches = settings.batch_episodes // settings.minibatch_episodes
    share = share_of(settings.prompts_per_step // batches, lengths, settings, situation)
    forward = forward_of(models.main, share, situation, scalar=False)
    held = _trained(settings, models)
    step = Work()
    for model in held:
        step += update_of(model.shape, model.trained_parameters, situation)
    if settings.ema_decay is not None:
        step += Work(traffic=12 * held[0].trained_parameters / situation.devices)
    if models.critic is not None:
        forward += forward_of(models.critic, share, situation, scalar=True)
    count = settings.updates_per_step
    passes = work.training(
        forward, recomputed=settings.activation_checkpointing, adapted=settings.lora is not None
    )
    sent = sum(
        pass_bytes(model.weights, situation, trained=model.trained_parameters) for model in held
    )
    return PhaseWork(
        name="update",
        work=(("training", passes.times(count)), ("update", step.times(count))),
        overlapped_bytes=count * share.passes * sent,
    )


def _trained(settings: PPOStageSettings, models: Models) -> list[Held]:
    """The policy, and a critic of its own."""
    policy = trained_model("policy", models.main, settings.lora, scalar=False)
    if models.critic is None:
        return [policy]
    return [policy, trained_model("critic", models.critic, settings.lora, scalar=True)]


def _pretraining_share(settings: PPOStageSettings, situation: Situation) -> Share:
    """Rows of pretraining text of one update."""
    row = (1, (settings.pretraining_row_tokens - 1,))
    rows = Lengths(examples=1, sample=(row,), basis=Basis.MEASURED, note="")
    return share_of(settings.pretraining_rows_per_update, rows, settings, situation)


def _pretraining(settings: PPOStageSettings, shape: ModelShape, situation: Situation) -> PhaseWork:
    share = _pretraining_share(settings, situation)
    forward = forward_of(shape, share, situation, scalar=False)
    passes = work.training(
        forward, recomputed=settings.activation_checkpointing, adapted=settings.lora is not None
    )
    policy = trained_model("policy", shape, settings.lora, scalar=False)
    sent = pass_bytes(policy.weights, situation, trained=policy.trained_parameters)
    count = settings.updates_per_step
    return PhaseWork(
        name="pretraining",
        work=(("training", passes.times(count)),),
        overlapped_bytes=count * share.passes * sent,
    )


def _memory(
    settings: PPOStageSettings, models: Models, lengths: Lengths, situation: Situation
) -> list[MemoryTerm]:
    """Policy and critic with gradients and moments, the frozen models, and each phase's needs.

    With adapters the reference is the policy without its own, and the average is of adapters.
    """
    policy = models.main
    trained = _trained(settings, models)
    frozen = []
    if settings.lora is None:
        frozen.append(Held(name="reference", shape=policy, parameters=policy.parameters))
    if settings.ema_decay is not None:
        averaged = trained[0].trained_parameters
        frozen.append(Held(name="moving average", shape=policy, parameters=averaged))
    # Read and cut in this order; an average of adapters alone is made of what is there.
    loaded = [*frozen, *trained] if settings.lora is None else trained
    scorers = [
        Held(
            name="preference model", shape=shape, parameters=shape.scalar_parameters,
            number_bytes=situation.number_bytes,
        )
        for shape in models.scorers
    ]  # fmt: skip
    frozen += scorers
    own_prompts = max(1.0, settings.prompts_per_step / situation.devices)
    terms = memory.of_loading([model.bytes for model in (*scorers, *loaded)], situation)
    terms += memory.resident([*trained, *frozen], situation)
    terms += _of_training(settings, trained, lengths, situation)
    terms += memory.of_generating(
        policy,
        situation,
        rows=min(settings.generation_rows, round(own_prompts * settings.responses_per_prompt)),
        capacity=lengths.longest_prompt + settings.max_response_tokens,
        longest_prompt=lengths.longest_prompt,
    )
    largest = max(
        [policy, *models.scorers, *([models.critic] if models.critic else [])],
        key=lambda shape: shape.parameters,
    )
    limit = settings.pass_tokens(situation.device_type)
    return terms + memory.of_scoring(largest, largest.parameters, limit, situation)


def _of_training(
    settings: PPOStageSettings, trained: list[Held], lengths: Lengths, situation: Situation
) -> list[MemoryTerm]:
    """Of the pass that needs most: policy with critic on episodes, or the policy on text."""
    batches = settings.batch_episodes // settings.minibatch_episodes
    recomputed = settings.activation_checkpointing
    share = share_of(settings.prompts_per_step // batches, lengths, settings, situation)
    terms = memory.of_training(
        trained, share, situation, scalar=[False, True][: len(trained)], recomputed=recomputed
    )
    if not settings.pretraining_data:
        return terms
    on_text = memory.of_training(
        trained[:1], _pretraining_share(settings, situation), situation, scalar=[False],
        recomputed=recomputed, has_mask=False,
    )  # fmt: skip
    # Its gradients join those of the critic, which are there already.
    gradients = [term for term in terms if term.name == "gradients"]
    on_text = gradients + [term for term in on_text if term.name != "gradients"]
    return max(terms, on_text, key=memory.peak)
