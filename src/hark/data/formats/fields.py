"""Reading the fields of one row, with a clear word for whoever wrote it.

Each function returns the value or raises `BadRecordError`, whose message completes
"file:line: ...".
"""

from __future__ import annotations

import math
from typing import Any, TypedDict

from hark.data.records import Dialogue, Message
from hark.data.rows import Fields

ROLES = ("system", "user", "assistant")


class BadRecordError(ValueError):
    """What is wrong with a row, as the rest of a sentence that begins with its place."""


class Origin(TypedDict, total=False):
    """The fields that say where a record came from; all records take them by keyword."""

    user: str | None
    source: str | None
    id: str | None


def text(row: Fields, name: str, *, blank: bool = False) -> str:
    """The string in a field; `blank` permits an empty one.

    Raises: BadRecordError if it is missing, not a string, blank, or has a broken surrogate.
    """
    if name not in row:
        raise BadRecordError(f"has no '{name}'")
    return checked_text(row[name], name, blank=blank)


def checked_text(value: Any, name: str, *, blank: bool = False) -> str:
    """`value` if it is a string that can be used as text; see `text`."""
    if not isinstance(value, str):
        raise BadRecordError(f"'{name}' is {describe(value)}, not a string")
    if not blank and not value.strip():
        raise BadRecordError(f"'{name}' is empty")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRecordError(
                f"'{name}' has half of a surrogate pair, which is no text"
            ) from None
    return value


def optional_text(row: Fields, *names: str) -> str | None:
    """The first of the named fields that is there, as a string; numbers are written out."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None:
            return checked_text(value, name, blank=True)
    return None


def number(row: Fields, name: str) -> float | None:
    """The finite number in a field, or None if there is none.

    Raises: BadRecordError if it is something else.
    """
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRecordError(f"'{name}' is {describe(value)}, not a finite number")
    return float(value)


def dialogue(value: Any, name: str) -> Dialogue:
    """The turns in a list of `{"role", "content"}`.

    Raises: BadRecordError if it is no such list, is empty, or has a turn without text.
    """
    if not isinstance(value, list) or not value:
        raise BadRecordError(f"'{name}' is {describe(value)}, not a list of messages")
    return tuple(_message(turn, f"{name}[{place}]") for place, turn in enumerate(value))


def _message(turn: Any, name: str) -> Message:
    if not isinstance(turn, dict):
        raise BadRecordError(f"'{name}' is {describe(turn)}, not a message")
    role = turn.get("role")
    if role not in ROLES:
        raise BadRecordError(f"'{name}' has role {role!r}, which is none of {', '.join(ROLES)}")
    if turn.get("content") is None:
        raise BadRecordError(f"'{name}' has no 'content'")
    return Message(role, checked_text(turn["content"], f"{name}.content"))


def prompt_of(turns: Dialogue) -> Dialogue:
    """`turns` if they end with a user's. Raises: BadRecordError otherwise."""
    if not turns or turns[-1].role != "user":
        role = turns[-1].role if turns else "nothing"
        raise BadRecordError(f"the prompt ends with {role}, not with a user turn")
    return turns


def messages(turns: Dialogue) -> list[Fields]:
    """The form in which `dialogue` reads them back."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def origin(row: Fields) -> Origin:
    """Who asked, where the record came from, and its name."""
    return Origin(
        user=optional_text(row, "user", "user_id"),
        source=optional_text(row, "source"),
        id=optional_text(row, "id"),
    )


def describe(value: Any) -> str:
    """A value in a word or two, cut short, for an error."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
