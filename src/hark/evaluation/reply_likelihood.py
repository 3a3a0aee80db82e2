"""What a language model thinks of replies, without being asked: their log-likelihoods.

Imitation learning as a way to rank replies (Askell et al., 2112.00861): a model trained
on good samples alone, by its log-probability of each reply; beside it the empirical mutual
information of the same paper, log P(a | q) − log P(a).

1. Sums favour short replies and means do not, so both are given; the end token counts.
2. P(a) is taken after an empty question, in the same template, so that the reply's tokens are the
   same under both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hark.data.records import Dialogue, ask
from hark.errors import DataError
from hark.evaluation.intervals import Array
from hark.evaluation.likelihood import sequence_logprobs
from hark.evaluation.scores import Scorer
from hark.models.language_model import context_length
from hark.models.packing import trees_by_prompt
from hark.models.tokenizer import encode_prompt, encode_response, padding_id, truncate_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLikelihoods:
    """Of n answered dialogues, in order."""

    total: Array
    """[n] log P(a | q), nats, summed over the reply's tokens."""
    tokens: Array
    """[n]"""
    alone: Array
    """[n] log P(a), after an empty question."""

    @property
    def per_token(self) -> Array:
        """[n] mean log-probability of a token."""
        return self.total / self.tokens

    @property
    def mutual_information(self) -> Array:
        """[n] log P(a | q) − log P(a), nats."""
        return self.total - self.alone


def reply_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Dialogue],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> ReplyLikelihoods:
    """Log-likelihoods of the last turn of each dialogue, with and without what precedes it.

    on_progress: told how many tokens were just predicted. Raises: DataError for a reply too long
    for the context.
    """
    limit = context_length(model)
    replies: list[list[int]] = []
    conditional: list[list[int]] = []
    alone: list[list[int]] = []
    for place, dialogue in enumerate(dialogues):
        before, reply = dialogue[:-1], dialogue[-1].content
        tokens = encode_response(tokenizer, before, reply, allow_empty=True)
        if len(tokens) >= limit:
            raise DataError(
                f"the reply of dialogue {place} has {len(tokens)} tokens, more than the context of "
                f"{limit} leaves room for; leave it out or use a model with a longer context"
            )
        replies.append(tokens)
        for prompt, prompts in ((before, conditional), (ask(""), alone)):
            encoded, _ = truncate_prompt(encode_prompt(tokenizer, prompt), limit - len(tokens))
            prompts.append(encoded)

    def likelihoods(prompts: Sequence[list[int]]) -> Array:
        trees, places = trees_by_prompt(prompts, replies)
        found = np.empty(len(replies))
        found[places] = sequence_logprobs(
            model, trees, pad_token_id=padding_id(tokenizer), on_progress=on_progress,
        )  # fmt: skip
        return found

    total = likelihoods(conditional)
    lengths = np.array([len(tokens) for tokens in replies], dtype=np.float64)
    return ReplyLikelihoods(total=total, tokens=lengths, alone=likelihoods(alone))


def recalling(dialogues: Sequence[Dialogue], scores: Array) -> Scorer:
    """The scorer that gives these dialogues these scores, for measures that ask a scorer."""
    known = dict(zip(dialogues, map(float, scores), strict=True))
    return lambda asked: [known[dialogue] for dialogue in asked]
