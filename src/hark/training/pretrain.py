"""Train a language model on texts, from scratch or further.

Follows GPT-3 (2005.14165), section 2 and appendix B: rows full of text, documents separated by the
end token, no mask between documents, Adam with cosine to 10 %.

1. Sizes are far below the paper's, so the learning rate is higher (its smallest model: 6e-4).
2. Warm-up is counted in steps, and there is no ramp of the batch size.
3. Without weights every row of every source is read once an epoch; with weights (`path=weight`)
   the sources are interleaved in those proportions, each in its own order.
4. The cosine ends with training; the paper's ends at 260 of its 300 billion tokens.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.mixing import (
    EpochOrder,
    Mixture,
    WeightedPath,
    mixture_weights,
    parse_weighted_path,
)
from hark.data.records import Text
from hark.errors import DataError, SettingsError
from hark.models import flops
from hark.models.checkpoint import save_model
from hark.models.language_model import (
    check_match,
    choose_device,
    context_length,
    load_language_model,
    new_language_model,
)
from hark.models.logprobs import token_losses
from hark.models.packing import rows_per_pass
from hark.models.processes import first_before_others, own_share, summed, world_size
from hark.models.tokenizer import load_tokenizer, padding_id, set_template, train_tokenizer
from hark.runs.files import atomic_directory
from hark.runs.run import Run, resolve_model
from hark.settings import as_list
from hark.training.examples import Paths, RecordReader
from hark.training.optimizer import OptimizerSettings
from hark.training.token_file import TokenFile, rows_of, write_token_file
from hark.training.trainer import (
    FitState,
    LossReport,
    MicroBatch,
    Task,
    TrainingSettings,
    fit,
)

TOKENIZER_CHARACTERS = 20_000_000
"""A tokenizer is trained on at most this much text of each source; merges settle long before."""


class PretrainOptimizer(OptimizerSettings):
    """Small models: 1e-3 after 100 steps of warm-up, cosine to 10 %, weight decay 0.1."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """The highest learning rate of the schedule (GPT-3's smallest model, 125M: 6e-4)."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps of linear warm-up."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay of matrices, multiplied by the learning rate (GPT-3: 0.1)."""


class PretrainSettings(TrainingSettings):
    """Train a language model on texts."""

    data: Annotated[tuple[str, ...], BeforeValidator(as_list)]
    """Files of texts, each `path` or `path=weight`; give weights to all of them or to none."""
    evaluation_data: Paths = ()
    """Files of held-out texts."""
    size: str = "3m"
    """Size of a new model: 0.5m, 1m, 3m, 8m, 20m or 124m."""
    model: str | None = None
    """Continue from this model (directory, run or Hub name) instead of making a new one."""
    tokenizer: str | None = None
    """A directory or Hub name with the new model's tokenizer; without it one is trained."""
    vocabulary_size: int = Field(default=4096, ge=1)
    """Size of the tokenizer trained on the data."""
    template: Literal["dialogue", "continuation"] | None = None
    """How the model is spoken to later: in Human/Assistant turns, or with plain text that it
    carries on; without it, the tokenizer's own way, which is dialogue for a new one."""
    context_length: int = Field(default=512, ge=2)
    """Tokens in a row, and the context of a new model."""
    batch_tokens: int = Field(default=16384, ge=1)
    """Tokens per step; whole rows, at least one."""
    steps: int | None = Field(default=None, ge=1)
    """Steps to train for; without it and `tokens`, one pass over the data."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens to train on, instead of `steps`."""
    optimizer: PretrainOptimizer = PretrainOptimizer()
    """Adam and its schedule."""

    @property
    def rows_per_step(self) -> int:
        """Rows of a full batch."""
        return max(1, self.batch_tokens // self.context_length)

    @property
    def sources(self) -> tuple[WeightedPath, ...]:
        """Each path with its weight, if it has one."""
        return tuple(parse_weighted_path(entry) for entry in self.data)

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        given = self.model_fields_set
        if self.model is not None:
            for name in ("size", "tokenizer", "vocabulary_size"):
                if name in given:
                    raise ValueError(f"{name} would be ignored: the model brings its own")
        elif self.tokenizer is not None and "vocabulary_size" in given:
            raise ValueError("vocabulary_size would be ignored: the tokenizer brings its own")
        if self.steps is not None and self.tokens is not None:
            raise ValueError("steps and tokens both say how long to train; give one of them")
        if self.evaluation_every is not None and not self.evaluation_data:
            raise ValueError("evaluation_every would be ignored without evaluation_data")
        mixture_weights(self.sources)
        return self


def train(settings: PretrainSettings, run: Run) -> dict[str, Any]:
    """Train a language model and save it in `run.model_path`.

    Leaves the training tokens in `run.data_path("tokens.bin")`. Returns the last training loss, the
    held-out loss per token, and sizes. Raises: HarkError for data, models or settings that cannot
    be used.
    """
    device = choose_device(settings.device)
    with first_before_others():
        model, tokenizer = _model_and_tokenizer(settings, run, device)
        reader = RecordReader.of(settings, run)
        texts = reader.stream_texts([source.path for source in settings.sources])
        tokens = write_token_file(
            run.data_path("tokens.bin"), texts, tokenizer,
            bad_lines_skipped=lambda: reader.bad_lines_skipped,
        )  # fmt: skip
        held_out = None
        if settings.evaluation_data:
            texts = reader.stream_texts(settings.evaluation_data)
            held_out = write_token_file(run.data_path("evaluation-tokens.bin"), texts, tokenizer)
    order = row_order(
        tokens, mixture_weights(settings.sources),
        row_tokens=settings.context_length, seed=settings.seed,
    )  # fmt: skip
    task = _task(settings, model, tokenizer, tokens, order, held_out)
    state = fit(run, task, settings)
    save_model(run.model_path, model, tokenizer)
    return _results(state, model, tokens)


def _model_and_tokenizer(
    settings: PretrainSettings, run: Run, device: torch.device
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The checkpoint's where there is one, else those the settings ask for."""
    source = run.latest_checkpoint()
    if source is None and settings.model is not None:
        source = resolve_model(settings.model)
    if source is not None:
        model, tokenizer = load_language_model(str(source)), load_tokenizer(str(source))
    else:
        tokenizer = _tokenizer_of_new_model(settings, run)
        model = new_language_model(
            settings.size, vocabulary_size=len(tokenizer), context_length=settings.context_length,
            seed=settings.seed, pad_token_id=padding_id(tokenizer),
            eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
    check_match(model, tokenizer)
    if settings.template is not None:
        set_template(tokenizer, settings.template)
    if settings.context_length > context_length(model):
        raise SettingsError(
            f"context_length {settings.context_length} is beyond the model's context of "
            f"{context_length(model)} tokens; lower it"
        )
    return model.to(device), tokenizer


def _tokenizer_of_new_model(settings: PretrainSettings, run: Run) -> PreTrainedTokenizerBase:
    if settings.tokenizer is not None:
        return load_tokenizer(str(resolve_model(settings.tokenizer)))
    directory = run.data_path("tokenizer")
    if not directory.exists():
        # Kept, so that an interrupted run does not train it again.
        streams = RecordReader.of(settings, run).stream_texts(
            [source.path for source in settings.sources]
        )
        texts = itertools.chain.from_iterable(
            _beginning(stream, TOKENIZER_CHARACTERS) for _, stream in streams
        )
        tokenizer = train_tokenizer(texts, vocabulary_size=settings.vocabulary_size)
        with atomic_directory(directory) as aside:
            tokenizer.save_pretrained(aside)
    return load_tokenizer(str(directory))


def _beginning(texts: Iterable[Text], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        yield text.text[:characters]
        characters -= len(text.text)


@dataclass(frozen=True, kw_only=True)
class RowOrder:
    """Which row of which source is the n-th to be read: a function of (seed, n)."""

    row_counts: tuple[int, ...]
    """Whole rows in each source."""
    mixture: Mixture | None
    """Interleaves the sources by weight; None reads all rows of all sources once an epoch."""
    seed: int

    @property
    def rows_per_epoch(self) -> int:
        """Rows in all sources together."""
        return sum(self.row_counts)

    def locate(self, position: int) -> tuple[int, int]:
        """Source, and row in it."""
        if self.mixture is not None:
            return self.mixture.locate(position)
        row = self._epoch_order.index(position)
        source = 0
        while row >= self.row_counts[source]:
            row -= self.row_counts[source]
            source += 1
        return source, row

    @functools.cached_property
    def _epoch_order(self) -> EpochOrder:
        return EpochOrder(self.rows_per_epoch, seed=self.seed)


def row_order(
    tokens: TokenFile, weights: Sequence[float] | None, *, row_tokens: int, seed: int
) -> RowOrder:
    """Plan the reading of a token file. Raises: DataError for a source of less than one row."""
    counts = tuple(rows_of(source, row_tokens) for source in tokens.sources)
    for source, count in zip(tokens.sources, counts, strict=True):
        if count == 0:
            raise DataError(
                f"'{source.name}' has {source.tokens} tokens, less than one row of {row_tokens}; "
                "give more text or lower context_length"
            )
    mixture = Mixture(counts, weights, seed=seed) if weights else None
    return RowOrder(row_counts=counts, mixture=mixture, seed=seed)


def _task(
    settings: PretrainSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tokens: TokenFile,
    order: RowOrder,
    held_out: TokenFile | None,
) -> Task[Tensor]:
    per_step, width = settings.rows_per_step, settings.context_length
    steps = steps_to_train(settings, order)
    one_pass = settings.steps is None and settings.tokens is None
    end = order.rows_per_epoch if one_pass else steps * per_step

    def batch(step: int) -> list[MicroBatch[Tensor]]:
        positions = range(step * per_step, min((step + 1) * per_step, end))
        places = [order.locate(position) for position in positions]
        rows = [tokens.row(tokens.sources[source], row, width) for source, row in places]
        return micro_batches(
            rows, limit=settings.pass_tokens(model.device), device=model.device, shares=world_size()
        )

    return Task(
        model=model, tokenizer=tokenizer, optimizer=settings.optimizer, steps=steps, batch=batch,
        loss=lambda rows: LossReport(loss=token_losses(model, rows).sum()),
        useful_flops=functools.partial(flops.language_model, flops.Shape.of(model)),
        evaluate=functools.partial(_evaluate, settings, model, held_out) if held_out else None,
        evaluation_every=settings.evaluation_every or -(-order.rows_per_epoch // per_step),
    )  # fmt: skip


def steps_to_train(settings: PretrainSettings, order: RowOrder) -> int:
    """Steps the settings ask for: given, by the budget of tokens, or one pass over the data."""
    if settings.steps is not None:
        return settings.steps
    rows = order.rows_per_epoch
    if settings.tokens is not None:
        rows = -(-settings.tokens // settings.context_length)
    return -(-rows // settings.rows_per_step)


def micro_batches(
    rows: Sequence[npt.NDArray[np.int64]], *, limit: int, device: torch.device, shares: int = 1
) -> list[MicroBatch[Tensor]]:
    """Rows of one width in groups of at most `limit` tokens, at least one row each.

    shares: as in `plan_batches`.
    """
    per_group = rows_per_pass(len(rows), len(rows[0]), limit, shares=shares)
    groups = [rows[start : start + per_group] for start in range(0, len(rows), per_group)]
    return [
        MicroBatch(
            batch=torch.from_numpy(np.stack(group)).to(device),
            weight=float(sum(len(row) - 1 for row in group)),
            sequences=tuple((1, (len(row) - 1,)) for row in group),
        )
        for group in groups
    ]


def _evaluate(
    settings: PretrainSettings, model: PreTrainedModel, held_out: TokenFile
) -> dict[str, float]:
    """Loss in nats per token over all held-out text, the last rows of its sources included."""
    by_width: dict[int, list[npt.NDArray[np.int64]]] = {}
    for source in held_out.sources:
        for index in range(rows_of(source, settings.context_length, partial=True)):
            row = held_out.row(source, index, settings.context_length)
            by_width.setdefault(len(row), []).append(row)
    total = count = 0.0
    for rows in map(own_share, by_width.values()):
        limit = settings.pass_tokens(model.device)
        for micro_batch in micro_batches(rows, limit=limit, device=model.device) if rows else ():
            total += float(token_losses(model, micro_batch.batch).double().sum())
            count += micro_batch.weight
    total, count = summed(torch.tensor([total, count], dtype=torch.float64)).tolist()
    return {"evaluation_loss": total / count}


def _results(state: FitState, model: PreTrainedModel, tokens: TokenFile) -> dict[str, Any]:
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "documents": sum(source.documents for source in tokens.sources),
        "data_tokens": sum(source.tokens for source in tokens.sources),
        **state.metrics_at_end(),
        "bad_lines_skipped": tokens.bad_lines_skipped,
    }
