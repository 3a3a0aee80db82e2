"""Multiple choice: which of several full-text options a language model finds likeliest.

Brown et al. 2020 (GPT-3, section 2.4): an option's score is its log-likelihood after the context.

1. Three allowances for length are reported side by side, because none is always right: none (the
   total), per token as in the paper, and per byte, which compares across tokenizers.
2. Context and options are encoded apart, as prompts and responses are everywhere in hark, so that
   all options share the context's computation. White space counts where it is written: " Paris".
3. A context too long for the model loses its beginning, alike for all options of its question.
4. The paper's normalisation by the option's likelihood after "Answer:" is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hark.data.records import Question
from hark.errors import DataError, ModelError
from hark.evaluation.intervals import Estimate, clustered_rate
from hark.evaluation.language_loss import beginning_of_text
from hark.evaluation.likelihood import sequence_logprobs
from hark.models.language_model import context_length
from hark.models.packing import PromptTree
from hark.models.tokenizer import padding_id, truncate_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionLikelihoods:
    """What a model thinks of the K options of one question; `option_likelihoods` fills it."""

    totals: tuple[float, ...]
    """[K] log-likelihood of each option after the context, nats."""
    tokens: tuple[int, ...]
    """[K] tokens of each option."""
    sizes: tuple[int, ...]
    """[K] bytes of UTF-8 of each option."""
    context_tokens: int
    """Tokens of the context as it was read."""
    truncated: bool
    """Whether the context lost its beginning."""

    @property
    def per_token(self) -> tuple[float, ...]:
        """[K] nats a token."""
        return tuple(total / n for total, n in zip(self.totals, self.tokens, strict=True))

    @property
    def per_byte(self) -> tuple[float, ...]:
        """[K] nats a byte."""
        return tuple(total / n for total, n in zip(self.totals, self.sizes, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipleChoice:
    """Shares of questions answered right; intervals are clustered by context."""

    total: Estimate
    """By the likelihood of the whole option."""
    per_token: Estimate
    """By the likelihood per token."""
    per_byte: Estimate
    """By the likelihood per byte."""
    chance: float
    """What guessing would get: the mean of 1/K."""
    contexts_truncated: int
    """Questions whose context lost its beginning."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)


def multiple_choice(
    questions: Sequence[Question],
    likelihoods: Sequence[OptionLikelihoods],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> MultipleChoice:
    """Accuracy of answering each question with its likeliest option.

    Raises: DataError without questions; ModelError naming the first question with a likelihood that
    is not finite, or whose best two options are equally likely.
    """
    if not questions:
        raise DataError("there are no questions to answer; give a file with at least one")
    contexts = [[question.context for question in questions]]

    def accuracy(values: Sequence[Sequence[float]]) -> Estimate:
        right = [
            float(likeliest(own, what=f"question {number} of {len(questions)}") == question.answer)
            for number, (own, question) in enumerate(zip(values, questions, strict=True), start=1)
        ]
        return clustered_rate(right, clusters=contexts, level=level, resamples=resamples, seed=seed)

    return MultipleChoice(
        total=accuracy([each.totals for each in likelihoods]),
        per_token=accuracy([each.per_token for each in likelihoods]),
        per_byte=accuracy([each.per_byte for each in likelihoods]),
        chance=float(np.mean([1 / len(question.options) for question in questions])),
        contexts_truncated=sum(each.truncated for each in likelihoods),
    )


def likeliest(values: Sequence[float], *, what: str) -> int:
    """Index of the largest of [K] log-likelihoods; `what` names the question in errors.

    Raises: ModelError if one is not finite, or two share the first place: then the model has no
    answer, and picking one would make up accuracy.
    """
    for place, value in enumerate(values):
        if not np.isfinite(value):
            raise ModelError(
                f"the log-likelihood of option {place} of {what} is {value}: the model has "
                "diverged or its weights are damaged; go back to an earlier checkpoint"
            )
    best = max(values)
    tied = [place for place, value in enumerate(values) if value == best]
    if len(tied) > 1:
        raise ModelError(
            f"options {tied[0]} and {tied[1]} of {what} are equally likely to the model, so that "
            "it gives no answer; is it trained? Leave the question out, or use float32"
        )
    return tied[0]


def option_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    batch_tokens: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[OptionLikelihoods]:
    """Log-likelihoods of all options of all questions, each context read once.

    batch_tokens: of one forward pass, by default what suits the device; on_progress: told how
    many option tokens were just read. Raises: ModelError for an option that leaves no room for a
    context.
    """
    if not questions:
        return []
    trees, truncated = _trees(tokenizer, questions, limit=context_length(model))
    logprobs = sequence_logprobs(
        model,
        trees,
        pad_token_id=padding_id(tokenizer),
        batch_tokens=batch_tokens,
        on_progress=on_progress,
    )
    totals = iter(logprobs.tolist())
    return [
        OptionLikelihoods(
            totals=tuple(next(totals) for _ in tree.responses),
            tokens=tuple(len(response) for response in tree.responses),
            sizes=tuple(len(option.encode()) for option in question.options),
            context_tokens=len(tree.prompt),
            truncated=cut,
        )
        for question, tree, cut in zip(questions, trees, truncated, strict=True)
    ]


def _trees(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], *, limit: int
) -> tuple[list[PromptTree], list[bool]]:
    """Each question's context with its options, at most `limit` tokens to an option; which were
    cut."""
    contexts = tokenizer([each.context for each in questions], verbose=False)["input_ids"]
    texts = [option for each in questions for option in each.options]
    options = iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    trees, truncated = [], []
    for number, (question, context) in enumerate(zip(questions, contexts, strict=True), start=1):
        own = tuple(tuple(next(options)) for _ in question.options)
        longest = max(map(len, own))
        if longest >= limit:
            raise ModelError(
                f"an option of question {number} has {longest} tokens, more than the model's "
                f"context of {limit} leaves room for; leave the question out, or use a model with "
                "a longer context"
            )
        prompt, cut = truncate_prompt(context or [beginning_of_text(tokenizer)], limit - longest)
        trees.append(PromptTree(tuple(prompt), own))
        truncated.append(cut)
    return trees, truncated
