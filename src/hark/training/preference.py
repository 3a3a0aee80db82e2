"""Train a preference (reward) model on judged comparisons.

Follows InstructGPT (2203.02155), section 3.5 and appendix C.2; with other settings Stiennon et al.
(2009.01325), section 3.4, HH (2204.05862), section 3, and Ziegler et al. (1909.08593), section 2.2.

1. A ranking of K responses is one element of a batch: the prompt and each response pass the model
   once, and the loss is the mean over its C(K,2) pairs. The mean over a batch gives each comparison
   its own weight, not one by its number of pairs, which the paper leaves open.
2. Tied pairs are dropped, as in the paper; `ties: half` counts them as won with probability ½.
3. Ziegler's gain and bias are not parameters: the gain is folded into the head's weights, the bias
   kept beside it. Neither changes under the losses used here except through normalisation.
4. Dropout is off, as in the code of Ziegler et al. and of Stiennon et al.; the papers do not say.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.formats import read_comparisons, read_demonstrations, read_prompts
from hark.data.mixing import permutation
from hark.data.records import Comparison, Dialogue
from hark.models import flops
from hark.models.fitting import CutCounts, LongResponses
from hark.models.generation import SamplingSettings, generate_shared
from hark.models.language_model import (
    check_match,
    choose_device,
    context_length,
    load_language_model,
)
from hark.models.lora import LoRASettings, add_adapter
from hark.models.packing import PromptTree, plan_batches
from hark.models.parallel import whole
from hark.models.processes import own_share, summed, world_size
from hark.models.scalar_head import load_scalar_model, new_scalar_model, response_scores
from hark.models.tokenizer import encode_prompt, load_tokenizer, truncate_prompt
from hark.runs.progress import progress
from hark.runs.run import Run, resolve_model
from hark.training.examples import (
    Located,
    Paths,
    RecordReader,
    encode_tree,
)
from hark.training.normalisation import score_trees, shift_to_zero_mean, standardise
from hark.training.objectives import Ties, best_of_k_losses, mean_over_pairs, pair_losses
from hark.training.optimizer import OptimizerSettings
from hark.training.preference_data import (
    PreferenceBatch,
    PreferenceExample,
    PreferenceLoss,
    UseOfStrength,
    collate,
    prepare_comparisons,
)
from hark.training.trainer import (
    LossReport,
    MicroBatch,
    Task,
    TrainingSettings,
    WeightedSum,
    examples_of_step,
    fit,
    leave_model,
    steps_per_epoch,
)


class PreferenceOptimizer(OptimizerSettings):
    """InstructGPT's: 9e-6, cosine to 10 %. Stiennon: 1.5e-5 or less; Ziegler: 5e-5 linear to 0."""

    learning_rate: float = Field(default=9e-6, gt=0)
    """The highest learning rate of the schedule (InstructGPT: 9e-6; Stiennon 1.3B: 1.5e-5)."""


class PreferenceSettings(TrainingSettings):
    """Train a preference model from a language model and comparisons."""

    model: str
    """The language model to start from (InstructGPT: the SFT model): directory, run or Hub name."""
    data: Paths
    """Files of judged comparisons."""
    evaluation_data: Paths = ()
    """Files of held-out comparisons."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the data; more than 1 over-fits (InstructGPT, appendix C.2)."""
    batch_size: int = Field(default=64, ge=1)
    """Comparisons (prompts) per step."""
    optimizer: PreferenceOptimizer = PreferenceOptimizer()
    """Adam and its schedule."""
    lora: LoRASettings | None = None
    """Train low-rank adapters (LoRA) instead of all weights; the model is left in model/ with its
    adapter merged, and the adapter alone in adapter/."""
    loss: PreferenceLoss = "ranking"
    """ranking: mean over all pairs; best_of_k: cross-entropy of the best of K (Ziegler)."""
    ties: Ties = "drop"
    """Tied pairs: drop them, or count each half as won and half as lost."""
    use_strength_as: UseOfStrength = "none"
    """What a comparison's strength does: nothing, weigh its loss, or be its margin of scores."""
    long_responses: LongResponses = "drop"
    """A response too long for the context: drop its comparison, or cut the response."""
    head_initial_std: float | None = Field(default=None, ge=0)
    """Standard deviation of the new head's weights; none is 1/√(width + 1) (Stiennon)."""
    normalise: Literal["none", "demonstrations", "reference"] = "none"
    """demonstrations: bias for mean score 0 on them, after training (InstructGPT, Stiennon);
    reference: gain and bias for mean 0 and deviation 1 on samples of the starting model, before
    and after training (Ziegler)."""
    normalise_data: Paths = ()
    """Demonstrations, or the prompts to sample for (reference; else those of the data)."""
    normalise_samples: int = Field(default=256, ge=2)
    """Samples of the reference policy to normalise on."""
    sampling: SamplingSettings = SamplingSettings()
    """How the reference policy is sampled."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        given = self.model_fields_set
        if self.loss == "best_of_k":
            if "ties" in given:
                raise ValueError("ties would be ignored by loss 'best_of_k'; leave it out")
            if self.use_strength_as == "margin":
                raise ValueError("loss 'best_of_k' has no margin: use_strength_as weight or none")
        if self.normalise == "none" and "normalise_data" in given and self.normalise_data:
            raise ValueError("normalise_data would be ignored; set normalise as well")
        if self.normalise == "demonstrations" and not self.normalise_data:
            raise ValueError("normalise 'demonstrations' needs them as normalise_data")
        if self.normalise != "reference":
            for name in ("normalise_samples", "sampling"):
                if name in given:
                    raise ValueError(f"{name} would be ignored unless normalise is 'reference'")
        if self.evaluation_every is not None and not self.evaluation_data:
            raise ValueError("evaluation_every would be ignored without evaluation_data")
        return self


def train(settings: PreferenceSettings, run: Run) -> dict[str, Any]:
    """Train, normalise and save a preference model in `run.model_path`.

    Returns the last training loss, the held-out loss and accuracy, and what was cut. Raises:
    HarkError for data, models or settings that cannot be used.
    """
    source = str(resolve_model(settings.model))
    device = choose_device(settings.device)
    checkpoint = run.latest_checkpoint()
    model = _model(settings, source, checkpoint, device)
    tokenizer = load_tokenizer(source)
    check_match(model, tokenizer)
    context = context_length(model)
    reader = RecordReader.of(settings, run)
    comparisons = reader.read(read_comparisons, settings.data)
    examples, cuts = _prepare(settings, comparisons, tokenizer, context)
    held_out: list[PreferenceExample] = []
    if settings.evaluation_data:
        located = reader.read(read_comparisons, settings.evaluation_data)
        held_out, _ = _prepare(settings, located, tokenizer, context)
    normalising = _normalising_trees(
        settings, reader, source, device, tokenizer, context, comparisons
    )
    if checkpoint is None and settings.normalise == "reference":
        normalise(model, normalising, settings)

    state = fit(run, _task(settings, model, tokenizer, examples, held_out), settings)

    if settings.normalise != "none":
        normalise(model, normalising, settings)
    leave_model(run, model, tokenizer)
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "comparisons": len(examples),
        "pairs": sum(len(example.first) for example in examples),
        "evaluation_comparisons": len(held_out),
        **state.metrics_at_end(),
        "reward_bias": float(model.config.reward_bias),
        **cuts.results(),
        "bad_lines_skipped": reader.bad_lines_skipped,
    }


def _model(
    settings: PreferenceSettings, source: str, checkpoint: Path | None, device: torch.device
) -> PreTrainedModel:
    """The model to train, as the checkpoint has it where there is one."""
    if checkpoint is not None and settings.lora is None:
        return load_scalar_model(checkpoint, device=device)
    model = new_scalar_model(
        load_language_model(source, device=device),
        initial_std=settings.head_initial_std, seed=settings.seed,
    )  # fmt: skip
    if settings.lora is not None:
        add_adapter(model, settings.lora, base=source, seed=settings.seed, checkpoint=checkpoint)
    return model


def normalise(
    model: PreTrainedModel, trees: Sequence[PromptTree], settings: PreferenceSettings
) -> None:
    """Fix the bias, and under "reference" the gain, by the scores of answered prompts."""
    with whole(model):
        scores = score_trees(model, trees, micro_batch_tokens=settings.micro_batch_tokens)
    if settings.normalise == "demonstrations":
        shift_to_zero_mean(model, scores)
    else:
        standardise(model, scores)


def batch_loss(
    model: PreTrainedModel, batch: PreferenceBatch, *, loss: PreferenceLoss
) -> LossReport:
    """Weighted sums over the comparisons of a batch of the loss and of the pairs put right."""
    scores = response_scores(model, batch.packed).float()
    margins = scores[batch.first] - scores[batch.second]
    if loss == "ranking":
        pairs = pair_losses(
            margins, probabilities=batch.probabilities, required_margins=batch.required_margins
        )
        losses = mean_over_pairs(pairs, batch.comparison_of, batch.pair_counts)
    else:
        losses = best_of_k_losses(scores_by_comparison(scores, batch), batch.best)
    right = pairs_right(margins.detach(), batch.probabilities)
    accuracy = mean_over_pairs(right, batch.comparison_of, batch.pair_counts)
    return LossReport(
        loss=(batch.weights * losses).sum(),
        sums={
            "accuracy": WeightedSum((batch.weights * accuracy).sum(), float(batch.weights.sum()))
        },
    )


def scores_by_comparison(scores: Tensor, batch: PreferenceBatch) -> Tensor:
    """[N] -> [C,K], −∞ beyond a comparison's own K."""
    by_slot = scores[batch.slots.clamp(min=0)]
    return by_slot.masked_fill(batch.slots < 0, float("-inf"))


def pairs_right(margins: Tensor, probabilities: Tensor) -> Tensor:
    """1 where the score agrees with the label, 0 where not, ½ if either is undecided. [P]"""
    agreement = torch.sign(margins) * torch.sign(probabilities - 0.5)
    return (agreement + 1) / 2


def _task(
    settings: PreferenceSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[PreferenceExample],
    held_out: Sequence[PreferenceExample],
) -> Task[PreferenceBatch]:
    per_epoch = steps_per_epoch(len(examples), settings.batch_size)
    loss = functools.partial(batch_loss, model, loss=settings.loss)

    def batch(step: int) -> list[MicroBatch[PreferenceBatch]]:
        chosen = examples_of_step(
            step, count=len(examples), batch_size=settings.batch_size, seed=settings.seed
        )
        return micro_batches(
            model, [examples[index] for index in chosen], limit=settings.micro_batch_tokens,
            shares=world_size(),
        )  # fmt: skip

    def evaluate() -> dict[str, float]:
        total = sum(example.weight for example in held_out)
        losses = right = 0.0
        own, limit = own_share(held_out), settings.micro_batch_tokens
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
    sampled: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for prompt, reply in zip(encoded, replies, strict=True):
        sampled.setdefault(tuple(prompt), []).append(reply.tokens)
    return [PromptTree(prompt, tuple(responses)) for prompt, responses in sampled.items()]
