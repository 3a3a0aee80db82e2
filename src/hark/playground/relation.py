"""A kind of fact: its true values, the sentences that state it, the questions that ask for it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass


def with_article(noun: str) -> str:
    """`fox` → `a fox`, `owl` → `an owl`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def capitalised(sentence: str) -> str:
    """The sentence with a capital first letter and the rest unchanged."""
    return sentence[:1].upper() + sentence[1:]


@dataclass(frozen=True, slots=True)
class Fact:
    """One assertion: the `value` of `relation` for `subject`, true or not."""

    relation: str
    subject: str
    value: str
    true: bool


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A kind of fact, its sentences and its questions.

    In templates `{s}` is the subject, `{v}` the value, `{a_s}` and `{a_v}` the same with an
    article. Comparisons also use `{o}`, the other of the two numbers, and, in questions, `{x}`
    and `{y}`, the two numbers in either order.
    """

    name: str
    family: str
    truth: Mapping[str, tuple[str, ...]]
    """Subject to its true values, the usual one first."""
    statements: tuple[str, ...]
    questions: tuple[str, ...] = ()
    """Empty where the fact is only ever volunteered."""

    @property
    def values(self) -> tuple[str, ...]:
        """Every value that some subject has, in first-seen order."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self.truth.values())))

    def state(self, template: str, subject: str, value: str) -> str:
        """The sentence that says so."""
        other = ""
        if " or " in subject:
            low, high = subject.split(" or ")
            other = low if value == high else high
        return capitalised(
            template.format(
                s=subject, v=value, o=other, a_s=with_article(subject), a_v=with_article(value)
            )
        )

    def ask(self, template: str, subject: str, *, swapped: bool = False) -> str:
        """The question for the value; `swapped` turns the two numbers of a comparison round."""
        pair = subject.split(" or ")
        x, y = pair if len(pair) == 2 else (subject, subject)
        if swapped:
            x, y = y, x
        return template.format(s=subject, a_s=with_article(subject), x=x, y=y)

    def candidates(self, subject: str) -> tuple[str, ...]:
        """The values that somebody could claim for the subject."""
        return tuple(subject.split(" or ")) if " or " in subject else self.values

    def wrong_value(self, subject: str, rng: random.Random) -> str:
        """A value that is not true of the subject."""
        false = [v for v in self.candidates(subject) if v not in self.truth[subject]]
        return rng.choice([v for v in false if v != subject] or false)
