"""Held-out language-model loss: what a policy has kept of its pretraining.

The alignment tax (InstructGPT, sections 4.2 and 6) in its plainest form: the loss on text that no
stage has trained on.

1. Every token of a document is predicted, the first one from the token that begins texts (or ends
   them, as in pretraining streams). Text longer than the context is read in windows that share one
   token, so a window's first tokens see little of what precedes them.
2. Loss per token depends on the tokenizer; `per_byte` does not and compares across tokenizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hark.errors import DataError, ModelError
from hark.evaluation.intervals import Array, Estimate, clustered_mean
from hark.evaluation.likelihood import sequence_logprobs
from hark.models.language_model import context_length
from hark.models.packing import PromptTree, pass_tokens
from hark.models.tokenizer import padding_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageLoss:
    """Mean negative log-likelihood of held-out documents; intervals are clustered by document."""

    per_token: Estimate
    """Nats a token."""
    per_byte: Estimate
    """Nats a byte of UTF-8."""
    tokens: int
    documents: int

    @property
    def perplexity(self) -> float:
        """e to the loss per token."""
        return math.exp(self.per_token.value or 0.0)

    @property
    def bits_per_byte(self) -> float:
        """Loss per byte, in bits."""
        return (self.per_byte.value or 0.0) / math.log(2)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)


def language_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_tokens: int | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> LanguageLoss:
    """Measure the loss on documents.

    batch_tokens: of one forward pass, by default what suits the device; on_progress: told how
    many tokens were just read.
    Raises: DataError if there is no text; ModelError naming the document whose loss is not finite.
    """
    documents = [_token_ids(tokenizer, text) for text in texts]
    kept = [number for number, ids in enumerate(documents) if ids]
    if not kept:
        raise DataError(
            f"none of the {len(texts)} documents has any text: there is no loss to take"
        )
    window = context_length(model)
    start = beginning_of_text(tokenizer)
    trees, owners = [], []
    for number in kept:
        for tree in windows(documents[number], start=start, length=window):
            trees.append(tree)
            owners.append(number)
    sums = np.zeros(len(texts))
    logprobs = sequence_logprobs(
        model,
        trees,
        pad_token_id=padding_id(tokenizer),
        batch_tokens=max(batch_tokens or pass_tokens(model.device), window),
        on_progress=on_progress,
    )
    np.add.at(sums, owners, -logprobs)
    _require_finite_losses(sums)
    tokens = np.array([len(documents[number]) for number in kept], dtype=float)
    sizes = np.array([len(texts[number].encode()) for number in kept], dtype=float)
    ways: list[Sequence[Hashable]] = [kept]
    settings: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    return LanguageLoss(
        per_token=clustered_mean(sums[kept] / tokens, weights=tokens, clusters=ways, **settings),
        per_byte=clustered_mean(sums[kept] / sizes, weights=sizes, clusters=ways, **settings),
        tokens=int(tokens.sum()),
        documents=len(kept),
    )


def windows(document: Sequence[int], *, start: int, length: int) -> Iterator[PromptTree]:
    """Cut a document so that every token is predicted once, from at most `length` − 1 before it.

    Each window is led by the token before it, the first by `start`.
    """
    previous = start
    for first in range(0, len(document), length - 1):
        piece = tuple(document[first : first + length - 1])
        yield PromptTree(prompt=(previous,), responses=(piece,))
        previous = piece[-1]


def _token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def beginning_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that a text follows: the beginning-of-text token or, without one, the end token."""
    begins: int | None = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id) if begins is None else begins


def _require_finite_losses(sums: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(sums))
    if bad.size:
        raise ModelError(
            f"the loss of {bad.size} of {sums.size} documents is not finite, the first is document "
            f"{bad[0]}: the model has diverged or its weights are damaged; go back to an earlier "
            "checkpoint"
        )
