"""What `pretrain`, `sft` and `preference` do in a step (`hark.training.trainer`)."""

from __future__ import annotations

from dataclasses import replace

from hark.loop.forecast import memory, work
from hark.loop.forecast.adapters import notes_of, trained_model
from hark.loop.forecast.drafts import (
    Draft,
    Models,
    PhaseWork,
    forward_of,
    pass_bytes,
    share_of,
    update_of,
)
from hark.loop.forecast.memory import MemoryTerm, Situation
from hark.loop.forecast.work import Lengths
from hark.models.lora import LoRASettings
from hark.training.preference_settings import PreferenceSettings
from hark.training.pretrain import PretrainSettings
from hark.training.sft import SFTSettings
from hark.training.trainer import TrainingSettings, steps_per_epoch


def pretrain(
    settings: PretrainSettings, models: Models, lengths: Lengths, situation: Situation
) -> Draft:
    """Rows full of text."""
    width, basis = settings.context_length, lengths.basis
    row = (1, (width - 1,))
    rows = max(1, int(lengths.examples * lengths.tokens) // width)
    if settings.tokens is not None:
        rows = -(-settings.tokens // width)
    steps = settings.steps or -(-rows // settings.rows_per_step)
    full = Lengths(examples=rows, sample=(row,), basis=basis, note=lengths.note)
    return _trained(
        settings, models, full, situation,
        batch=settings.rows_per_step, steps=steps, scalar=False, has_mask=False,
    )  # fmt: skip


def sft(settings: SFTSettings, models: Models, lengths: Lengths, situation: Situation) -> Draft:
    """Demonstrations, and perhaps pieces of pretraining text."""
    batch = min(settings.batch_size, lengths.examples)
    draft = _trained(
        settings, models, lengths, situation, scalar=False, batch=batch,
        steps=steps_per_epoch(lengths.examples, batch) * settings.epochs,
    )  # fmt: skip
    if not settings.pretraining_data:
        return draft
    fraction = settings.pretraining_fraction
    extra = 1 + fraction / (1 - fraction) * lengths.predicted / lengths.tokens
    phases = tuple(
        _multiplied(phase, extra) if phase.name != "update" else phase for phase in draft.phases
    )
    note = "mixed-in pretraining text is priced like as many tokens of demonstrations"
    return replace(draft, phases=phases, notes=(*draft.notes, note))


def preference(
    settings: PreferenceSettings, models: Models, lengths: Lengths, situation: Situation
) -> Draft:
    """Comparisons: each prompt once, with its responses, through a model with a scalar head."""
    batch = min(settings.batch_size, lengths.examples)
    draft = _trained(
        settings, models, lengths, situation, scalar=True, batch=batch,
        steps=steps_per_epoch(lengths.examples, batch) * settings.epochs,
    )  # fmt: skip
    notes = ("normalisation is not counted",) if settings.normalise != "none" else ()
    return replace(draft, notes=(*draft.notes, *notes))


def _multiplied(phase: PhaseWork, factor: float) -> PhaseWork:
    return replace(
        phase,
        work=tuple((rate, part.times(factor)) for rate, part in phase.work),
        tokens_on_host=phase.tokens_on_host * factor,
    )


def _trained(
    settings: TrainingSettings,
    models: Models,
    lengths: Lengths,
    situation: Situation,
    *,
    batch: int,
    steps: int,
    scalar: bool,
    has_mask: bool = True,
) -> Draft:
    """One model, trained by `trainer.fit`."""
    shape, recomputed = models.main, settings.activation_checkpointing
    lora: LoRASettings | None = getattr(settings, "lora", None)
    share = share_of(batch, lengths, settings, situation)
    model = trained_model("model", shape, lora, scalar=scalar)
    forward = forward_of(shape, share, situation, scalar=scalar)
    phases = (
        PhaseWork(name="data", tokens_on_host=batch * lengths.tokens),
        PhaseWork(
            name="forward_backward",
            work=(
                ("training", work.training(
                    forward, recomputed=recomputed, adapted=lora is not None
                )),
            ),
            overlapped_bytes=share.passes
            * pass_bytes(model.weights, situation, trained=model.trained_parameters),
        ),
        PhaseWork(
            name="update", work=(("update", update_of(shape, model.trained_parameters, situation)),)
        ),
    )  # fmt: skip

    def terms(models: Models) -> list[MemoryTerm]:
        shape = models.main
        held = [trained_model("model", shape, lora, scalar=scalar)]
        own = held[0].parameters
        # A preference model begins as a language model, whose transformer it keeps.
        loaded = shape.parameters if scalar else own
        found = memory.of_loading([4.0 * loaded], situation) + memory.resident(held, situation)
        found += memory.of_training(
            held, share, situation, scalar=[scalar], recomputed=recomputed, has_mask=has_mask
        )
        if getattr(settings, "evaluation_data", ()):
            limit = settings.pass_tokens(situation.device_type)
            found += memory.of_scoring(shape, own, limit, situation)
        return found

    return Draft(steps=steps, phases=phases, memory=terms, notes=notes_of(lora, shape))
