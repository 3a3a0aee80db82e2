"""What is found in another tool's file, before any of it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hark.data.records import Dialogue


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLabel:
    """What one annotator said of a record."""

    id: str
    """What the source calls it, the same in every export of it; unique within the record."""
    annotator: str
    """What the source calls whoever gave it."""
    ranks: tuple[int, ...] | None = None
    """One for each response; 1 is best and equal numbers are ties."""
    both_bad: bool = False
    response: str | None = None
    """Written by the annotator, where that is the task."""
    ratings: Mapping[int, int] = field(default_factory=dict)
    """Place of a response → its rating, 1 to 7."""
    notes: str = ""
    milliseconds: int | None = None
    """Spent on it."""
    written_at: str | None = None
    """As the source has it."""
    ground_truth: bool = False
    """Whether the source takes it for the known answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRecord:
    """One thing to label, with the labels it has."""

    where: str
    """`file:line`, or the record."""
    id: str
    """What the source calls it, or a hash of what it says."""
    prompt: Dialogue
    responses: tuple[str, ...] = ()
    models: tuple[str | None, ...] = ()
    """Who wrote each response; empty if the source does not tell."""
    shown: tuple[int, ...] | None = None
    """Places of the responses as annotators saw them; None if the source does not tell."""
    labels: tuple[FoundLabel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something of a file that is not kept."""

    where: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something of a file that is kept, of which the file does not tell all."""

    where: str
    what: str


Finding = FoundRecord | LeftOut | Remark
