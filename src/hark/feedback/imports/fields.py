"""Which fields of another tool's record are the prompt and the responses, and what names them.

Such tools let a project name its fields. They are told by their usual names, or named by whoever
imports.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hark.data.formats.fields import BadRecordError
from hark.data.formats.transcripts import parse_prompt
from hark.data.records import Dialogue

PROMPTS: Final = ("prompt", "instruction", "question", "input", "query", "messages", "chat")
_RESPONSE = re.compile(
    r"(response|answer|completion|reply|generation|output|candidate|summary|text|option)"
    r"s?[-_ ]?(\d+|[a-h])",
    re.IGNORECASE,
)

TIES: Final = frozenset({"tie", "equal", "same", "both", "draw", "bothgood", "nopreference"})
BOTH_BAD: Final = frozenset({"bothbad", "neither", "none"})
ORDINALS: Final = (
    frozenset({"left", "a", "1", "first"}),
    frozenset({"right", "b", "2", "second"}),
)
"""Other names of the responses of a pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """Names of fields, where the usual ones are not meant."""

    prompt: str | None = None
    responses: tuple[str, ...] = ()


def find_prompt(values: Mapping[str, Any], names: FieldNames) -> Dialogue:
    """The turns before the responses. Raises: BadRecordError if there is no such field."""
    if names.prompt is not None:
        if names.prompt not in values:
            raise BadRecordError(f"has no field '{names.prompt}'; it has: {', '.join(values)}")
        return parse_prompt(values[names.prompt])
    for name in PROMPTS:
        if name in values:
            return parse_prompt(values[name])
    raise BadRecordError(
        f"has no prompt among its fields ({', '.join(values)}); name it with --prompt-field"
    )


def find_responses(values: Mapping[str, Any], names: FieldNames) -> dict[str, str]:
    """Field → response, in the order of the record or as named.

    Raises: BadRecordError if one is not a text, or there are fewer than two.
    """
    chosen = list(names.responses) or [name for name in values if _RESPONSE.fullmatch(name)]
    found = {}
    for name in chosen:
        value = values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise BadRecordError(f"has no text in its field '{name}'")
        found[name] = value
    if len(found) < 2:
        raise BadRecordError(
            f"has fewer than two responses among its fields ({', '.join(values)}); name them with "
            "--response-fields"
        )
    return found


def plain(name: str) -> str:
    """A name without what differs from place to place: `response-1`, `Response 1`."""
    return re.sub(r"[\W_]+", "", name).casefold()


def place_of(name: object, responses: Sequence[str]) -> int | None:
    """Which response is meant by a name, or None."""
    wanted = plain(str(name))
    known = [plain(one) for one in responses]
    return known.index(wanted) if known.count(wanted) == 1 else None


def ranks_of_choice(choice: str, responses: Sequence[str]) -> tuple[tuple[int, ...], bool] | None:
    """The ranks that a choice between two says, and whether both are bad; None if unclear."""
    wanted = plain(choice)
    place = place_of(choice, responses)
    if place is None:
        place = next((n for n, words in enumerate(ORDINALS) if wanted in words), None)
    if place is not None:
        return (1, 2) if place == 0 else (2, 1), False
    if wanted in TIES | BOTH_BAD or wanted.startswith("tie"):
        return (1, 1), wanted in BOTH_BAD or "bad" in wanted
    return None
