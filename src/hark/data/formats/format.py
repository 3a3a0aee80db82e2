"""What a format is: how its rows are recognised, read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from hark.data.records import Comparison, Demonstration, Prompt, Question, Text
from hark.data.rows import Fields
from hark.errors import DataError

Record = Text | Prompt | Demonstration | Comparison | Question
Kind = Literal["texts", "prompts", "demonstrations", "comparisons", "questions"]

KIND_OF: dict[type, Kind] = {
    Text: "texts",
    Prompt: "prompts",
    Demonstration: "demonstrations",
    Comparison: "comparisons",
    Question: "questions",
}

COMMAND: dict[Kind, str] = {
    "texts": "hark pretrain",
    "prompts": "hark ppo",
    "demonstrations": "hark sft",
    "comparisons": "hark preference",
    "questions": "hark evaluate",
}
"""Which command takes which kind of record; errors send people there."""

ORIGIN_FIELDS = frozenset({"user", "source", "id"})


@dataclass(frozen=True, slots=True)
class Format:
    """One way to lay out one kind of record in rows of JSON."""

    name: str
    """What `format=` calls it. Two formats share a name only if they differ in kind."""
    kind: Kind
    title: str
    """What an error or a report calls it."""
    example: str
    """One short row, for the errors that say what was expected."""
    recognises: Callable[[Fields], bool]
    """Whether a row is laid out this way, by its field names and types alone."""
    parse: Callable[[Fields], Iterable[Record]]
    """The records of a row, usually one. Raises: BadRecordError."""
    render: Callable[..., Iterable[Fields]] | None = None
    """The rows of a record, usually one; None for a format that is only read.
    Raises: DataError for a record that the format cannot express."""
    carries: frozenset[str] = frozenset()
    """The fields of the record that come back after writing and reading."""


def cannot_express(title: str, why: str) -> DataError:
    """The error for a record that a format has no way to write down."""
    return DataError(f"{title} cannot express {why}; write it with format 'hark'")
