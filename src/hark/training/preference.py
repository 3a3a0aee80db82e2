"""Train a preference (reward) model on judged comparisons.

Follows InstructGPT (2203.02155), section 3.5 and appendix C.2; with other settings Stiennon et al.
(2009.01325), section 3.4, HH (2204.05862) and Ziegler et al. (1909.08593).

1. A ranking of K responses is one element of a batch: the prompt and each response pass the model
   once, and the loss is the mean over its C(K,2) pairs. The mean over a batch gives each comparison
   its own weight, not one by its number of pairs, which the paper leaves open.
2. Tied pairs are dropped, as in the paper; `ties: half` counts them as won with probability ½.
3. Ziegler's gain and bias are not parameters: the gain is folded into the head's weights, the bias
   kept beside it. Neither changes under the losses used here except through normalisation.
4. Dropout is off, as in the code of Ziegler et al. and of Stiennon et al.; the papers do not say.
5. Preference-model pretraining (Askell et al., 2112.00861) is this stage on comparisons
   made of ranked texts (`hark data ranked`) with a language-modelling coefficient; the run it
   leaves is the model that the next one starts from, head included.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.formats import read_demonstrations, read_prompts
from hark.data.mixing import permutation
from hark.data.records import Comparison, Dialogue
from hark.errors import SettingsError
from hark.models import flops
from hark.models.fitting import CutCounts
from hark.models.generation import SamplingSettings, generate_shared
from hark.models.language_model import (
    check_match,
    choose_device,
    context_length,
    load_language_model,
)
from hark.models.lora import add_adapter
from hark.models.packing import PromptTree, plan_batches, trees_by_prompt
from hark.models.parallel import whole
from hark.models.processes import own_share, summed, world_size
from hark.models.scalar_head import (
    ModelScorer,
    has_scalar_head,
    load_scalar_model,
    scalar_head_on,
)
from hark.models.tokenizer import encode_prompt, load_tokenizer, truncate_prompt
from hark.runs.progress import progress
from hark.runs.run import Run, resolve_model
from hark.training.examples import Located, RecordReader, encode_tree
from hark.training.normalisation import score_trees, shift_to_zero_mean, standardise
from hark.training.preference_data import (
    PreferenceBatch,
    PreferenceExample,
    collate,
    prepare_comparisons,
)
from hark.training.preference_loss import LanguageModelling, batch_loss, with_language_modelling
from hark.training.preference_mixture import HeldOut, read_held_out, read_training_comparisons
from hark.training.preference_settings import PreferenceSettings
from hark.training.trainer import (
    MicroBatch,
    Task,
    autocast,
    examples_of_step,
    fit,
    leave_model,
    steps_per_epoch,
)

Measure = Callable[[ModelScorer, HeldOut, frozenset[str]], dict[str, Any]]
"""Finds out about a trained model, given held-out comparisons and the labelers left out."""


def train(
    settings: PreferenceSettings, run: Run, *, measure: Measure | None = None
) -> dict[str, Any]:
    """Train, normalise and save a preference model in `run.model_path`.

    Returns the last training loss, the held-out loss and accuracy, what was cut, and what `measure`
    finds. Raises: HarkError for data, models or settings that cannot be used.
    """
    source = str(resolve_model(settings.model))
    device = choose_device(settings.device)
    checkpoint = run.latest_checkpoint()
    model = _model(settings, source, checkpoint, device)
    tokenizer = load_tokenizer(source)
    check_match(model, tokenizer)
    context = context_length(model)
    reader = RecordReader.of(settings, run)
    chosen = read_training_comparisons(settings, reader)
    examples, cuts = _prepare(settings, chosen.comparisons, tokenizer, context)
    kept_back = read_held_out(settings, reader)
    held_out: list[PreferenceExample] = []
    if kept_back.comparisons:
        held_out, _ = _prepare(settings, kept_back.comparisons, tokenizer, context)
    normalising = _normalising_trees(
        settings, reader, source, device, tokenizer, context, chosen.comparisons
    )
    if checkpoint is None and settings.normalise == "reference":
        normalise(model, normalising, settings)
    language = _language_modelling(settings, model, source, device)

    state = fit(run, _task(settings, model, tokenizer, examples, held_out, language), settings)

    if settings.normalise != "none":
        normalise(model, normalising, settings)
    leave_model(run, model, tokenizer)
    found: dict[str, Any] = {}
    if measure is not None and kept_back.comparisons:
        found = _measured(measure, model, tokenizer, kept_back, chosen.held_out_labelers, settings)
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "parameters": model.num_parameters(),
        "comparisons": len(examples),
        "comparisons_by_file": chosen.by_file,
        "pairs": sum(len(example.first) for example in examples),
        "evaluation_comparisons": len(held_out),
        **state.metrics_at_end(),
        "reward_bias": float(model.config.reward_bias),
        **cuts.results(),
        "bad_lines_skipped": reader.bad_lines_skipped,
        **found,
    }


def _measured(
    measure: Measure,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: HeldOut,
    left_out: frozenset[str],
    settings: PreferenceSettings,
) -> dict[str, Any]:
    scorer = ModelScorer(
        model.eval(), tokenizer, max_batch_tokens=settings.micro_batch_tokens, long_responses="cut"
    )
    with autocast(model, settings):
        return measure(scorer, held_out, left_out)


def _model(
    settings: PreferenceSettings, source: str, checkpoint: Path | None, device: torch.device
) -> PreTrainedModel:
    """The model to train, as the checkpoint has it where there is one.

    Raises: SettingsError for what a preference model as the start has no use for.
    """
    if checkpoint is not None and settings.lora is None:
        return load_scalar_model(checkpoint, device=device)
    if not has_scalar_head(source):
        model = _with_new_head(load_language_model(source, device=device), settings)
    else:
        _refuse_for_preference_model(settings)
        model = load_scalar_model(source, device=device)
        if settings.head_initial_std is not None:
            model = _with_new_head(model, settings)
    if settings.lora is not None:
        add_adapter(model, settings.lora, base=source, seed=settings.seed, checkpoint=checkpoint)
    return model


def _with_new_head(model: PreTrainedModel, settings: PreferenceSettings) -> PreTrainedModel:
    return scalar_head_on(model, initial_std=settings.head_initial_std, seed=settings.seed)


def _refuse_for_preference_model(settings: PreferenceSettings) -> None:
    for named, asked in (
        ("language_modelling_coefficient", settings.language_modelling_coefficient > 0),
        ("normalise 'reference'", settings.normalise == "reference"),
    ):
        if asked:
            raise SettingsError(
                f"{named} needs a language model to start from, and '{settings.model}' is a "
                "preference model, which writes nothing; start from the language model"
            )


def _language_modelling(
    settings: PreferenceSettings, model: PreTrainedModel, source: str, device: torch.device
) -> LanguageModelling | None:
    coefficient = settings.language_modelling_coefficient
    if coefficient == 0:
        return None
    return with_language_modelling(model, load_language_model(source, device=device), coefficient)


def normalise(
    model: PreTrainedModel, trees: Sequence[PromptTree], settings: PreferenceSettings
) -> None:
    """Fix the bias, and under "reference" the gain, by the scores of answered prompts."""
    with whole(model):
        scores = score_trees(model, trees, batch_tokens=settings.micro_batch_tokens)
    if settings.normalise == "demonstrations":
        shift_to_zero_mean(model, scores)
    else:
        standardise(model, scores)


def _task(
    settings: PreferenceSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[PreferenceExample],
    held_out: Sequence[PreferenceExample],
    language: LanguageModelling | None,
) -> Task[PreferenceBatch]:
    per_epoch = steps_per_epoch(len(examples), settings.batch_size)
    loss = functools.partial(batch_loss, model, loss=settings.loss, language=language)

    def batch(step: int) -> list[MicroBatch[PreferenceBatch]]:
        chosen = examples_of_step(
            step, count=len(examples), batch_size=settings.batch_size, seed=settings.seed
        )
        return micro_batches(
            model, [examples[index] for index in chosen], limit=settings.pass_tokens(model.device),
            shares=world_size(),
        )  # fmt: skip

    def evaluate() -> dict[str, float]:
        total = sum(example.weight for example in held_out)
        losses = right = 0.0
        own, limit = own_share(held_out), settings.pass_tokens(model.device)
        for micro_batch in micro_batches(model, own, limit=limit):
            report = loss(micro_batch.batch)
            losses += float(report.loss)
            right += float(report.sums["accuracy"].sum)
        losses, right = summed(torch.tensor([losses, right], dtype=torch.float64)).tolist()
        return {"evaluation_loss": losses / total, "evaluation_accuracy": right / total}

    return Task(
        model=model, tokenizer=tokenizer, optimizer=settings.optimizer,
        steps=per_epoch * settings.epochs, batch=batch, loss=loss,
        useful_flops=functools.partial(flops.trunk, flops.Shape.of(model)),
        evaluate=evaluate if held_out else None,
        evaluation_every=settings.evaluation_every or per_epoch,
        dropout=bool(settings.lora and settings.lora.dropout),
    )  # fmt: skip


def micro_batches(
    model: PreTrainedModel, examples: Sequence[PreferenceExample], *, limit: int, shares: int = 1
) -> list[MicroBatch[PreferenceBatch]]:
    """Whole comparisons in groups of at most `limit` tokens; a prompt counts once.

    shares: as in `plan_batches`.
    """
    return [
        MicroBatch(
            batch=collate(model, [examples[place] for place in group]).to(model.device),
            weight=sum(examples[place].weight for place in group),
            sequences=tuple(examples[place].tree.lengths for place in group),
        )
        for group in plan_batches([example.tree for example in examples], limit, shares=shares)
    ]


def _prepare(
    settings: PreferenceSettings,
    comparisons: Sequence[Located[Comparison]],
    tokenizer: PreTrainedTokenizerBase,
    context: int,
) -> tuple[list[PreferenceExample], CutCounts]:
    return prepare_comparisons(
        comparisons, tokenizer, context=context, long_responses=settings.long_responses,
        loss=settings.loss, ties=settings.ties, use_strength_as=settings.use_strength_as,
    )  # fmt: skip


def _normalising_trees(
    settings: PreferenceSettings,
    reader: RecordReader,
    source: str,
    device: torch.device,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    comparisons: Sequence[Located[Comparison]],
) -> list[PromptTree]:
    """The answered prompts whose scores fix bias and gain; none without normalisation."""
    if settings.normalise == "demonstrations":
        return _demonstration_trees(settings, reader, tokenizer, context)
    if settings.normalise == "none":
        return []
    prompts = [located.record.prompt for located in comparisons]
    if settings.normalise_data:
        prompts = [
            item.record.prompt for item in reader.read(read_prompts, settings.normalise_data)
        ]
    return sample_reference(
        load_language_model(source, device=device), tokenizer, prompts, settings.sampling,
        count=settings.normalise_samples, context=context, seed=settings.seed,
    )  # fmt: skip


def _demonstration_trees(
    settings: PreferenceSettings,
    reader: RecordReader,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
) -> list[PromptTree]:
    trees = []
    for located in reader.read(read_demonstrations, settings.normalise_data):
        tree, _ = encode_tree(
            tokenizer, located.record.prompt, [located.record.response], context=context,
            long_responses="cut", where=located.where, allow_empty=False,
        )  # fmt: skip
        assert tree is not None
        trees.append(tree)
    return trees


def sample_reference(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Dialogue],
    sampling: SamplingSettings,
    *,
    count: int,
    context: int,
    seed: int,
) -> list[PromptTree]:
    """`count` samples of the policy, one for each of `count` prompts (repeated if too few)."""
    order = permutation(len(prompts), seed=seed, stream=0)
    chosen = [prompts[int(place)] for place in np.resize(order, count)]
    limit = context - sampling.max_response_tokens
    encoded = [truncate_prompt(encode_prompt(tokenizer, prompt), limit)[0] for prompt in chosen]
    with progress(total=count, label="reference samples", unit="sample") as bar:
        replies = generate_shared(
            policy, tokenizer, encoded, sampling, seed=seed, on_progress=bar.advance
        )
    return trees_by_prompt(encoded, [reply.tokens for reply in replies])[0]
