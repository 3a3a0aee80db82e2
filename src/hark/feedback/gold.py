"""Answers known to be right, and how near a label comes to them.

Gold names candidates by their place in the item ("0", "1", …), since their ids are drawn later.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from hark.feedback.records import Flag, Name, Record
from hark.feedback.tasks import Task

HARMFUL_FROM: Final = 3
"""Of the ratings 0 to 4; two reviewers agree if both are on one side (2209.07858, section 3.5)."""


class Gold(Record):
    """The right answer, in the parts that are known."""

    chosen: Name | None = None
    ranking: tuple[tuple[Name, ...], ...] | None = None
    """Best first; ties say nothing."""
    flags: dict[Name, dict[Name, Flag]] | None = None
    choice: Annotated[int, Field(ge=0)] | None = None
    matching: Annotated[int, Field(ge=0, le=1)] | None = None
    success: Annotated[int, Field(ge=0, le=4)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("says nothing; give one of: " + ", ".join(type(self).model_fields))
        return self

    def places(self) -> frozenset[str]:
        """The candidates it speaks of."""
        ranked = itertools.chain.from_iterable(self.ranking or ())
        return frozenset({*ranked, *(self.flags or {}), *([self.chosen] if self.chosen else [])})


FIELDS_OF: Final[Mapping[str, frozenset[str]]] = {
    "dialogue": frozenset(),
    "ranking": frozenset({"ranking", "flags"}),
    "demonstration": frozenset(),
    "summary": frozenset({"chosen"}),
    "vote": frozenset({"chosen"}),
    "review": frozenset({"success"}),
    "audit": frozenset({"matching"}),
    "question": frozenset({"choice"}),
}
"""What can be known of each kind of task."""


def check_gold(gold: Gold, task: Task, candidates: int) -> None:
    """Raises: ValueError if `gold` does not fit the task."""
    kind = str(getattr(task, "kind"))  # noqa: B009 (every kind of task has one)
    given = gold.model_dump(exclude_none=True).keys()
    if wrong := sorted(given - FIELDS_OF[kind]):
        raise ValueError(f"gold '{wrong[0]}' does not belong to a task of kind '{kind}'")
    if getattr(task, "asks", "comparison") == "axes":
        raise ValueError(
            "gold says which of two summaries is better, and here one is rated on 'axes', of which "
            "no answer is known to be right: take the item as 'train' or 'test', without gold"
        )
    known = {str(place) for place in range(candidates)}
    if unknown := sorted(gold.places() - known):
        raise ValueError(f"gold speaks of candidate '{unknown[0]}'; there are {candidates}, from 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldScore:
    """Shares from 0 to 1, or None where the label or the gold says nothing about it."""

    preference: float | None = None
    """Of the choices and ordered pairs that gold knows; a tie counts one half."""
    flags: float | None = None
    """Of the flags that gold knows."""


def score(answer: Mapping[str, Any], gold: Gold, candidate_ids: Sequence[str]) -> GoldScore:
    """Compare an answer, as it stands in an event, with gold.

    candidate_ids: in the order of the item.
    """
    place = {name: str(number) for number, name in enumerate(candidate_ids)}
    agreed = list(_agreements(answer, gold, place))
    flagged = list(_flag_agreements(answer, gold, place))
    return GoldScore(preference=_mean(agreed), flags=_mean(flagged))


def _agreements(answer: Mapping[str, Any], gold: Gold, place: Mapping[str, str]) -> Iterator[float]:
    # Ratings on axes choose nothing; such items had gold once.
    if gold.chosen is not None and "chosen" in answer:
        chosen = answer["chosen"]
        yield 0.5 if chosen is None else float(place[chosen] == gold.chosen)
    if gold.ranking is not None:
        ours = _group_of(answer["ranking"], place)
        for better_group, worse_group in itertools.combinations(gold.ranking, 2):
            for better, worse in itertools.product(better_group, worse_group):
                yield 0.5 if ours[better] == ours[worse] else float(ours[better] < ours[worse])
    for field in ("choice", "matching"):
        if (known := getattr(gold, field)) is not None:
            yield float(answer[field] == known)
    if gold.success is not None:
        yield float((answer["success"] >= HARMFUL_FROM) == (gold.success >= HARMFUL_FROM))


def _group_of(ranking: Sequence[Sequence[str]], place: Mapping[str, str]) -> dict[str, int]:
    return {place[name]: number for number, group in enumerate(ranking) for name in group}


def _flag_agreements(
    answer: Mapping[str, Any], gold: Gold, place: Mapping[str, str]
) -> Iterator[float]:
    known = gold.flags or {}
    for name, flags in answer.get("flags", {}).items():
        for flag, value in known.get(place[name], {}).items():
            yield float(flags.get(flag) == value)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
