"""Supervised fine-tuning on demonstrations.

Follows InstructGPT (2203.02155), section 3.5 and appendix C.1; with one epoch and a higher learning
rate Stiennon et al. (2009.01325). Loss on the responses only, the end token included.

1. Residual dropout is off by default (the paper: 0.2): our models are small and not short of data
   they have seen; `residual_dropout: 0.2` is the paper's.
2. The batch mean is over response tokens, so that long responses weigh more; the paper does not say
   which mean it takes.
3. `pretraining_fraction` counts predicted tokens; the paper's "10 % pretraining mix" for the model
   that RL starts from does not say what is counted.
4. `choose_by: score` samples replies to held-out prompts and keeps the checkpoint that a preference
   model likes best, as the paper did; the default keeps the last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.formats import read_demonstrations
from hark.data.mixing import permutation
from hark.data.records import Demonstration, Dialogue, answered
from hark.errors import DataError, SettingsError
from hark.models import flops
from hark.models.fitting import CutCounts, LongResponses
from hark.models.generation import SamplingSettings, generate_shared
from hark.models.language_model import (
    add_residual_dropout,
    check_match,
    choose_device,
    context_length,
    load_language_model,
)
from hark.models.logprobs import response_logprobs
from hark.models.lora import LoRASettings, add_adapter
from hark.models.packing import PackedBatch, PromptTree, pack_for, plan_batches
from hark.models.processes import first_before_others, own_share, summed, world_size
from hark.models.shared_scores import shared_scores
from hark.models.tokenizer import encode_prompt, load_tokenizer, truncate_prompt
from hark.runs.run import Run, resolve_model
from hark.training.examples import (
    Located,
    Paths,
    RecordReader,
    encode_tree,
)
from hark.training.optimizer import OptimizerSettings
from hark.training.rewards import Scorer
from hark.training.token_file import TokenFile, write_token_file
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


class SFTOptimizer(OptimizerSettings):
    """InstructGPT's for 1.3B and 6B: 9.65e-6, cosine to 10 %, no warm-up, Adam (0.9, 0.95)."""

    learning_rate: float = Field(default=9.65e-6, gt=0)
    """The highest learning rate of the schedule (InstructGPT 175B: 5.03e-6). Small models need
    more: 1e-4 to 1e-3."""


class SFTSettings(TrainingSettings):
    """Fine-tune a language model on demonstrations."""

    model: str
    """The language model to start from: directory, run or Hub name."""
    data: Paths
    """Files of demonstrations."""
    evaluation_data: Paths = ()
    """Files of held-out demonstrations."""
    epochs: int = Field(default=16, ge=1)
    """Passes over the data (InstructGPT: 16, and 2 for the model that RL starts from)."""
    batch_size: int = Field(default=32, ge=1)
    """Demonstrations per step (InstructGPT: 32; 8 for 175B)."""
    optimizer: SFTOptimizer = SFTOptimizer()
    """Adam and its schedule."""
    lora: LoRASettings | None = None
    """Train low-rank adapters (LoRA) instead of all weights; the model is left in model/ with its
    adapter merged, and the adapter alone in adapter/."""
    residual_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of what each block adds to the residual stream (InstructGPT: 0.2)."""
    long_responses: LongResponses = "drop"
    """A response too long for the context: drop its demonstration, or cut it."""
    pretraining_data: Paths = ()
    """Files of texts to mix in."""
    pretraining_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of the predicted tokens that come from pretraining_data (InstructGPT: 0.1)."""
    choose_by: Literal["last", "loss", "score"] = "last"
    """Which evaluated checkpoint becomes the model: the last, the one of lowest held-out loss, or
    the one whose replies score highest."""
    scorer: str | None = None
    """What scores replies to held-out prompts at each evaluation: a preference model's directory or
    run, module:function, or a named scorer."""
    evaluation_samples: int = Field(default=64, ge=1)
    """Replies to score at each evaluation."""
    sampling: SamplingSettings = SamplingSettings()
    """How those replies are drawn."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        given = self.model_fields_set
        if not self.pretraining_data and "pretraining_fraction" in given:
            raise ValueError("pretraining_fraction would be ignored without pretraining_data")
        if not self.evaluation_data:
            for name in ("evaluation_every", "scorer", "evaluation_samples", "sampling"):
                if name in given and getattr(self, name) is not None:
                    raise ValueError(f"{name} would be ignored without evaluation_data")
            if self.choose_by != "last":
                raise ValueError(f"choose_by '{self.choose_by}' needs evaluation_data")
        if self.scorer is None and self.choose_by != "score":
            for name in ("evaluation_samples", "sampling"):
                if name in given:
                    raise ValueError(f"{name} would be ignored without a scorer")
        return self


def train(settings: SFTSettings, run: Run, *, score: Scorer | None = None) -> dict[str, Any]:
    """Fine-tune and save a language model in `run.model_path`.

    `score` is what `settings.scorer` names, or a function of the caller's own. Returns the last
    training loss, the held-out loss (of the chosen checkpoint), and what was cut. Raises: HarkError
    for data, models or settings that cannot be used.
    """
    if score is None and (settings.choose_by == "score" or settings.scorer is not None):
        raise SettingsError(
            "replies are to be scored, but there is nothing to score with: set scorer"
        )
    source = str(resolve_model(settings.model))
    device = choose_device(settings.device)
    model = _model(settings, source, run.latest_checkpoint(), device)
    tokenizer = load_tokenizer(source)
    check_match(model, tokenizer)

    reader = RecordReader.of(settings, run)
    context = context_length(model)
    prepare = functools.partial(
        prepare_demonstrations, tokenizer=tokenizer, context=context,
        long_responses=settings.long_responses,
    )  # fmt: skip
    trees, cuts = prepare(reader.read(read_demonstrations, settings.data))
    mix = _pretraining_mix(settings, run, tokenizer, context)
    evaluation = None
    if settings.evaluation_data:
        held_out = reader.read(read_demonstrations, settings.evaluation_data)
        evaluation = Evaluation(
            settings=settings, model=model, tokenizer=tokenizer, trees=prepare(held_out)[0],
            prompts=_prompts_to_reply_to(held_out, settings), score=score,
        )  # fmt: skip

    state = fit(run, _task(settings, model, tokenizer, trees, mix, evaluation), settings)

    if settings.choose_by == "last":
        leave_model(run, model, tokenizer)
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "demonstrations": len(trees),
        "chosen_step": state.step if state.chosen_step is None else state.chosen_step,
        **state.metrics_at_end(),
        **cuts.results(),
        "bad_lines_skipped": reader.bad_lines_skipped,
    }


def _model(
    settings: SFTSettings, source: str, checkpoint: Path | None, device: torch.device
) -> PreTrainedModel:
    """The model to train, as the checkpoint has it where there is one."""
    if settings.lora is None:
        model = load_language_model(str(checkpoint or source), device=device)
    else:
        model = load_language_model(source, device=device)
        add_adapter(
            model, settings.lora, base=source, seed=settings.seed, checkpoint=checkpoint
        )  # fmt: skip
    if settings.residual_dropout:
        add_residual_dropout(model, settings.residual_dropout)
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTBatch:
    """Demonstrations and pieces of pretraining text, packed for one forward pass."""

    packed: PackedBatch
    is_pretraining: Tensor
    """[N] bool: the response is pretraining text after its first token."""


def batch_loss(model: PreTrainedModel, batch: SFTBatch) -> LossReport:
    """Sum over response tokens of the negative log-likelihood, in nats."""
    losses = -response_logprobs(model, batch.packed)
    is_text = batch.is_pretraining[batch.packed.response_of]
    sums = {}
    if is_text.any():
        sums["pretraining_loss"] = WeightedSum(losses[is_text].sum(), float(is_text.sum()))
    return LossReport(loss=losses.sum(), sums=sums)


def prepare_demonstrations(
    demonstrations: Sequence[Located[Demonstration]],
    *,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    long_responses: LongResponses,
) -> tuple[list[PromptTree], CutCounts]:
    """Encode demonstrations. Raises: DataError for an empty response, or if none fits."""
    trees: list[PromptTree] = []
    total = CutCounts()
    for located in demonstrations:
        tree, cuts = encode_tree(
            tokenizer, located.record.prompt, [located.record.response], context=context,
            long_responses=long_responses, where=located.where, allow_empty=False,
        )  # fmt: skip
        total += cuts
        if tree is not None:
            trees.append(tree)
    if not trees:
        raise DataError(
            f"none of the {len(demonstrations)} demonstrations fits the context of {context} "
            "tokens; set long_responses to 'cut' or use a model with a longer context"
        )
    return trees, total


@dataclass(frozen=True, kw_only=True)
class PretrainingMix:
    """Pieces of text to mix into the batches: a function of (seed, step)."""

    tokens: TokenFile
    fraction: float
    """Share of a batch's predicted tokens."""
    piece_tokens: int
    """Most tokens of one piece: the context."""
    seed: int

    def pieces(self, step: int, *, response_tokens: int) -> list[PromptTree]:
        """Pieces with f/(1−f) times as many predicted tokens as the demonstrations of `step`."""
        wanted = round(response_tokens * self.fraction / (1 - self.fraction))
        draw = np.random.default_rng([self.seed, step])
        pieces = []
        while wanted > 0:
            size = min(wanted + 1, self.piece_tokens, len(self.tokens.ids))
            start = draw.integers(len(self.tokens.ids) - size + 1)
            ids = self.tokens.ids[start : start + size].tolist()
            pieces.append(PromptTree((ids[0],), (tuple(ids[1:]),)))
            wanted -= size - 1
        return pieces


def _pretraining_mix(
    settings: SFTSettings, run: Run, tokenizer: PreTrainedTokenizerBase, context: int
) -> PretrainingMix | None:
    if not settings.pretraining_data:
        return None
    texts = RecordReader.of(settings, run).stream_texts(settings.pretraining_data)
    with first_before_others():
        tokens = write_token_file(run.data_path("pretraining-tokens.bin"), texts, tokenizer)
    return PretrainingMix(
        tokens=tokens, fraction=settings.pretraining_fraction, piece_tokens=context,
        seed=settings.seed,
    )  # fmt: skip


def _task(
    settings: SFTSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trees: Sequence[PromptTree],
    mix: PretrainingMix | None,
    evaluation: Evaluation | None,
) -> Task[SFTBatch]:
    per_epoch = steps_per_epoch(len(trees), settings.batch_size)
    dropout = max(settings.residual_dropout, settings.lora.dropout if settings.lora else 0.0)

    def batch(step: int) -> list[MicroBatch[SFTBatch]]:
        chosen = examples_of_step(
            step, count=len(trees), batch_size=settings.batch_size, seed=settings.seed
        )
        demonstrations = [trees[index] for index in chosen]
        response_tokens = sum(len(tree.responses[0]) for tree in demonstrations)
        pieces = mix.pieces(step, response_tokens=response_tokens) if mix else []
        return micro_batches(
            model, demonstrations, pieces, limit=settings.pass_tokens(model.device),
            shares=world_size(),
        )  # fmt: skip

    return Task(
        model=model, tokenizer=tokenizer, optimizer=settings.optimizer,
        steps=per_epoch * settings.epochs, batch=batch, loss=functools.partial(batch_loss, model),
        useful_flops=functools.partial(flops.language_model, flops.Shape.of(model)),
        evaluate=evaluation, evaluation_every=settings.evaluation_every or per_epoch,
        quality=QUALITY[settings.choose_by], dropout=dropout > 0,
    )  # fmt: skip


QUALITY: dict[str, Callable[[dict[str, float]], float] | None] = {
    "last": None,
    "loss": lambda values: -values["evaluation_loss"],
    "score": lambda values: values["evaluation_score"],
}
"""What `choose_by` maximises."""


def micro_batches(
    model: PreTrainedModel,
    demonstrations: Sequence[PromptTree],
    pieces: Sequence[PromptTree] = (),
    *,
    limit: int,
    shares: int = 1,
) -> list[MicroBatch[SFTBatch]]:
    """Groups of at most `limit` tokens, packed; `shares` as in `plan_batches`."""
    trees = [*demonstrations, *pieces]
    micro = []
    for group in plan_batches(trees, limit, shares=shares):
        packed = pack_for(model, [trees[place] for place in group])
        is_pretraining = torch.tensor([place >= len(demonstrations) for place in group])
        micro.append(
            MicroBatch(
                batch=SFTBatch(
                    packed=packed.to(model.device), is_pretraining=is_pretraining.to(model.device)
                ),
                weight=float(packed.targets.numel()),
                sequences=tuple(trees[place].lengths for place in group),
            )
        )
    return micro


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out loss and, with a scorer, the mean score of sampled replies."""

    settings: SFTSettings
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    trees: Sequence[PromptTree]
    """Held-out demonstrations."""
    prompts: Sequence[Dialogue]
    """Held-out prompts to reply to."""
    score: Scorer | None

    def __call__(self) -> dict[str, float]:
        total = count = 0.0
        for micro_batch in micro_batches(
            self.model, own_share(self.trees), limit=self.settings.pass_tokens(self.model.device)
        ):
            total += float(batch_loss(self.model, micro_batch.batch).loss)
            count += micro_batch.weight
        total, count = summed(torch.tensor([total, count], dtype=torch.float64)).tolist()
        values = {"evaluation_loss": total / count}
        if self.score is not None:
            scores = shared_scores(self.score, self.replies())
            values["evaluation_score"] = float(scores.double().mean())
        return values

    def replies(self) -> list[Dialogue]:
        """The held-out prompts, answered by the model as it is; the same draws every time."""
        sampling = self.settings.sampling
        limit = context_length(self.model) - sampling.max_response_tokens
        encoded = [
            truncate_prompt(encode_prompt(self.tokenizer, prompt), limit)[0]
            for prompt in self.prompts
        ]
        drawn = generate_shared(
            self.model, self.tokenizer, encoded, sampling, seed=self.settings.seed
        )
        return [
            answered(prompt, reply.text) for prompt, reply in zip(self.prompts, drawn, strict=True)
        ]


def _prompts_to_reply_to(
    held_out: Sequence[Located[Demonstration]], settings: SFTSettings
) -> list[Dialogue]:
    order = permutation(len(held_out), seed=settings.seed, stream=0)
    return [held_out[int(place)].record.prompt for place in order[: settings.evaluation_samples]]
