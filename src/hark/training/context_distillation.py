"""Context distillation: a model that behaves without a context as it did with it.

Follows Askell et al. (2112.00861): L(θ) = KL( p₀(X|C) ‖ p_θ(X) ), summed over the tokens of X, the
teacher p₀ fixed; and the recipe of Bai et al. (2204.05862): half of X is pretraining text, half are
questions with answers; the teacher's 50 highest log-probabilities and the remaining mass are stored
beforehand; batches of 32 sequences, 0.05 of pretraining's learning rate, falling to 0, 350 million
tokens.

Departures and choices
1. The papers give pretraining's learning rate nowhere; 3e-5 is 0.05 of GPT-3's 6e-4.
2. The answers to the questions are the teacher's own, sampled at temperature 1 with the context
   before the question in the template's form: what the student will be asked to say.
3. A text is a document, or a piece of one that the context leaves room for. Its first token is
   given to both; the teacher reads it after the context, the student at position 0.
4. The loss is the mean over predicted tokens, so that batches of short answers weigh no less.
5. Memory: teacher and student are never needed at once. The teacher's file is written first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.models import flops
from hark.models.language_model import (
    check_match,
    choose_device,
    load_language_model,
    output_embedding,
)
from hark.models.logprobs import LOGITS_KEPT, hidden_states
from hark.models.packing import PackedBatch, pack_for, plan_batches
from hark.models.processes import first_before_others, own_share, summed, world_size
from hark.models.tokenizer import load_tokenizer
from hark.runs.run import Run, resolve_model
from hark.training.distill_settings import DistillSettings
from hark.training.teacher import Lessons, chunk_tokens, write_lessons
from hark.training.teacher_file import Taught, TeacherFile
from hark.training.top_classes import TopClasses, coarse_divergences
from hark.training.trainer import (
    LossReport,
    MicroBatch,
    Task,
    examples_of_step,
    fit,
    leave_model,
    steps_per_epoch,
)


def train(settings: DistillSettings, run: Run) -> dict[str, Any]:
    """Write down what the teacher predicts, teach the student, save it in `run.model_path`.

    Leaves the teacher's files in the run's data directory. Returns the last losses and sizes.
    Raises: HarkError for data, models or settings that cannot be used.
    """
    source = str(resolve_model(settings.model))
    device = choose_device(settings.device)
    tokenizer = load_tokenizer(source)
    with first_before_others():
        lessons = write_lessons(settings, run, source, tokenizer, device)
    model = load_language_model(str(run.latest_checkpoint() or source), device=device)
    check_match(model, tokenizer)
    state = fit(run, _task(settings, model, tokenizer, lessons), settings)
    leave_model(run, model, tokenizer)
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "context_tokens": lessons.context_tokens,
        "pieces_of_text": len(lessons.texts),
        "text_tokens": lessons.texts.predicted_tokens,
        "answers": len(lessons.answers) if lessons.answers else 0,
        "answer_tokens": lessons.answers.predicted_tokens if lessons.answers else 0,
        "prompts_skipped": lessons.prompts_skipped,
        **state.metrics_at_end(),
        "bad_lines_skipped": lessons.bad_lines_skipped,
    }


def divergences(model: PreTrainedModel, batch: PackedBatch, teacher: TopClasses) -> Tensor:
    """KL(teacher ‖ model) at every response token over the teacher's k + 1 classes, nats. [M]."""
    hidden = hidden_states(model, batch, batch.predictors)
    head = output_embedding(model)
    size = chunk_tokens(model)
    vocabulary = model.config.get_text_config().vocab_size
    recompute = torch.is_grad_enabled() and len(hidden) * vocabulary > LOGITS_KEPT
    parts = []
    for rows, ids, logprobs, rest in zip(
        hidden.split(size), teacher.ids.split(size), teacher.logprobs.split(size),
        teacher.rest.split(size), strict=True,
    ):  # fmt: skip
        arguments = (head, rows, TopClasses(ids=ids, logprobs=logprobs, rest=rest))
        if recompute:
            parts.append(checkpoint(_chunk_divergences, *arguments, use_reentrant=False))
        else:
            parts.append(_chunk_divergences(*arguments))
    return torch.cat(parts)


def _chunk_divergences(head: nn.Module, hidden: Tensor, teacher: TopClasses) -> Tensor:
    return coarse_divergences(teacher, head(hidden))


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillBatch:
    """Sequences without their context, packed, and what the teacher predicted of them."""

    packed: PackedBatch
    teacher: TopClasses


def batch_loss(model: PreTrainedModel, batch: DistillBatch) -> LossReport:
    """Sum over predicted tokens of KL(teacher ‖ student), nats."""
    return LossReport(loss=divergences(model, batch.packed, batch.teacher).sum())


def micro_batches(
    model: PreTrainedModel, taught: Sequence[Taught], *, limit: int, shares: int = 1
) -> list[MicroBatch[DistillBatch]]:
    """Groups of at most `limit` tokens, packed; `shares` as in `plan_batches`."""
    trees = [each.tree for each in taught]
    micro = []
    for group in plan_batches(trees, limit, shares=shares):
        packed = pack_for(model, [trees[place] for place in group]).to(model.device)
        of_group = [taught[place].classes for place in group]
        teacher = TopClasses(
            ids=torch.cat([each.ids for each in of_group]).to(model.device),
            logprobs=torch.cat([each.logprobs for each in of_group]).to(model.device),
            rest=torch.cat([each.rest for each in of_group]).to(model.device),
        )
        micro.append(
            MicroBatch(
                batch=DistillBatch(packed=packed, teacher=teacher),
                weight=float(packed.targets.numel()),
                sequences=tuple(trees[place].lengths for place in group),
            )
        )
    return micro


def _task(
    settings: DistillSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lessons: Lessons,
) -> Task[DistillBatch]:
    per_epoch = steps_per_epoch(len(lessons), settings.batch_size)

    def batch(step: int) -> list[MicroBatch[DistillBatch]]:
        chosen = examples_of_step(
            step, count=len(lessons), batch_size=settings.batch_size, seed=settings.seed
        )
        return micro_batches(
            model, [lessons[index] for index in chosen],
            limit=settings.pass_tokens(model.device), shares=world_size(),
        )  # fmt: skip

    held_out = lessons.held_out
    return Task(
        model=model, tokenizer=tokenizer, optimizer=settings.optimizer,
        steps=per_epoch * settings.epochs, batch=batch, loss=functools.partial(batch_loss, model),
        useful_flops=functools.partial(flops.language_model, flops.Shape.of(model)),
        evaluate=functools.partial(_evaluate, settings, model, held_out) if held_out else None,
        evaluation_every=settings.evaluation_every or per_epoch,
    )  # fmt: skip


def _evaluate(
    settings: DistillSettings, model: PreTrainedModel, held_out: TeacherFile
) -> dict[str, float]:
    """Nats a token over the teacher's classes, on held-out text."""
    total = count = 0.0
    own = [held_out[number] for number in own_share(range(len(held_out)))]
    for micro_batch in micro_batches(model, own, limit=settings.pass_tokens(model.device)):
        total += float(batch_loss(model, micro_batch.batch).loss)
        count += micro_batch.weight
    total, count = summed(torch.tensor([total, count], dtype=torch.float64)).tolist()
    return {"evaluation_loss": total / count}
