"""The nouns of the data: what people write, and what they say about it.

Records are frozen and built by keyword. Nothing here knows of tokens or tensors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue."""

    role: Role
    content: str


Dialogue = tuple[Message, ...]
"""Turns in order. A prompt ends with a user turn; an answered dialogue with an assistant turn."""


def ask(text: str) -> Dialogue:
    """A prompt of one user turn."""
    return (Message("user", text),)


def answered(prompt: Dialogue, response: str) -> Dialogue:
    """The prompt followed by an assistant turn, the form in which a `Scorer` reads a response."""
    return (*prompt, Message("assistant", response))


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A document for language modelling."""

    text: str
    source: str | None = None
    """Where it came from; mixing weights and reports group by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A request without an answer."""

    prompt: Dialogue
    user: str | None = None
    """Who wrote it; splits and the cap on prompts per user go by it."""
    source: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A request and the answer a person wrote for it."""

    prompt: Dialogue
    response: str
    user: str | None = None
    labeler: str | None = None
    source: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """K ≥ 2 responses to one prompt and, once judged, what a labeler thinks of them.

    One noun for pairs, graded pairs, K-wise rankings, best-of-K choices and AI labels. A judgement
    is either `ranks` or `probability`, never both; without either the comparison is unjudged.
    """

    prompt: Dialogue
    responses: tuple[str, ...]
    ranks: tuple[int, ...] | None = None
    """One per response; 1 is best and equal numbers are ties. A best-of-K choice is 1, 2, …, 2."""
    probability: float | None = None
    """K = 2 only: the probability that `responses[0]` is the better one (a soft label)."""
    strength: float | None = None
    """How much better the winner is, in the grades of the source; higher is stronger."""
    weight: float = 1.0
    """Multiplies this comparison's loss."""
    labeler: str | None = None
    """Who judged; intervals are clustered by it."""
    models: tuple[str, ...] | None = None
    """Which model, or person, each response is by; None where they are not all named. What rates
    models takes the responses as standing in the order in which they were shown."""
    user: str | None = None
    """Who wrote the prompt."""
    source: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if len(self.responses) < 2:
            raise ValueError(f"a comparison needs 2 or more responses, got {len(self.responses)}")
        if self.ranks is not None and self.probability is not None:
            raise ValueError("a comparison has ranks or a probability, not both")
        if self.ranks is not None and len(self.ranks) != len(self.responses):
            raise ValueError(
                f"{len(self.ranks)} ranks for {len(self.responses)} responses: give one for each"
            )
        if self.models is not None and len(self.models) != len(self.responses):
            raise ValueError(
                f"{len(self.models)} models for {len(self.responses)} responses: name one for each"
            )
        if self.probability is not None:
            if len(self.responses) != 2:
                raise ValueError(
                    f"a probability judges 2 responses, got {len(self.responses)}; use ranks"
                )
            if not 0.0 <= self.probability <= 1.0:
                raise ValueError(f"probability {self.probability} is outside 0 to 1")

    @property
    def judged(self) -> bool:
        """Whether a labeler has said anything yet."""
        return self.ranks is not None or self.probability is not None

    @property
    def best(self) -> int | None:
        """Which response is better than all others; None where that is unjudged, tied or unsure."""
        if self.probability is not None:
            return {1.0: 0, 0.0: 1}.get(self.probability)
        if self.ranks is None:
            return None
        first = min(self.ranks)
        return self.ranks.index(first) if self.ranks.count(first) == 1 else None

    def ordered_pairs(self) -> Iterator[tuple[int, int]]:
        """Yield (better, worse) indices of each pair that is not a tie; soft labels by majority."""
        if self.probability is not None:
            if self.probability != 0.5:
                yield (0, 1) if self.probability > 0.5 else (1, 0)
        elif self.ranks is not None:
            for i, j in itertools.combinations(range(len(self.ranks)), 2):
                if self.ranks[i] != self.ranks[j]:
                    yield (i, j) if self.ranks[i] < self.ranks[j] else (j, i)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A text and K ≥ 2 ways to go on, one of which is right (multiple choice)."""

    context: str
    """What stands before each option; may be empty."""
    options: tuple[str, ...]
    """As they follow the context, white space included; all different."""
    answer: int
    """Index of the right option, from 0."""
    source: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if len(self.options) < 2:
            raise ValueError(f"a question needs 2 or more options, got {len(self.options)}")
        if len(set(self.options)) < len(self.options):
            raise ValueError("two of its options are the same text")
        if not 0 <= self.answer < len(self.options):
            raise ValueError(
                f"answer {self.answer} is none of {len(self.options)} options, counted from 0"
            )


def chosen_and_rejected(
    prompt: Dialogue, chosen: str, rejected: str, *, strength: float | None = None
) -> Comparison:
    """The pair in which `chosen` won."""
    return Comparison(prompt=prompt, responses=(chosen, rejected), ranks=(1, 2), strength=strength)
