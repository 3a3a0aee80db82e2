"""All formats, and which of them a row is written in."""

from __future__ import annotations

import dataclasses

from hark.data.formats import canonical, instructions, judged, transcripts, trl
from hark.data.formats.format import Format, Kind
from hark.data.rows import Fields
from hark.errors import DataError, did_you_mean

PLAIN_TEXT = dataclasses.replace(
    canonical.TEXTS,
    name="txt",
    title="plain text",
    example="a .txt file",
    carries=frozenset({"text"}),
)
"""Documents in a `.txt` file; chosen by the ending and never recognised from fields."""

LINES = "lines"
"""`format="lines"`: each line of a `.txt` file is a text (or a prompt) of its own."""

FORMATS: tuple[Format, ...] = (
    canonical.COMPARISONS,
    canonical.QUESTIONS,
    judged.OPENAI,
    judged.ARENA,
    judged.ALPACA_EVAL,
    transcripts.HH,
    trl.PREFERENCES,
    trl.STANDARD_PREFERENCES,
    trl.UNPAIRED,
    instructions.SELF_INSTRUCT,
    instructions.INSTRUCTIONS,
    canonical.DEMONSTRATIONS,
    trl.COMPLETIONS,
    trl.STANDARD_COMPLETIONS,
    trl.MESSAGES,
    trl.PROMPTS,
    trl.STANDARD_PROMPTS,
    canonical.PROMPTS,
    canonical.TEXTS,
)
"""In the order of recognition: the format with more field names of its own comes first."""


def recognise(row: Fields, name: str = "auto") -> Format | None:
    """The first format that recognises the row, among those called `name`."""
    return next((one for one in _named(name) if one.recognises(row)), None)


def _named(name: str) -> list[Format]:
    return [one for one in FORMATS if name in ("auto", one.name)]


def check_name(name: str) -> None:
    """Raises: DataError if no format is called `name`."""
    known = sorted({one.name for one in FORMATS} | {"auto", LINES, PLAIN_TEXT.name})
    if name not in known:
        raise DataError(
            f"unknown format '{name}'{did_you_mean(name, known)}; expected one of: "
            f"{', '.join(known)}"
        )


def writer(kind: Kind, name: str) -> Format:
    """The format called `name` that writes records of this kind.

    Raises: DataError if there is none.
    """
    choices = {one.name: one for one in FORMATS if one.kind == kind and one.render is not None}
    if kind == "texts":
        choices[PLAIN_TEXT.name] = PLAIN_TEXT
    if name not in choices:
        raise DataError(
            f"cannot write {kind} as '{name}'{did_you_mean(name, choices)}; expected one of: "
            f"{', '.join(sorted(choices))}"
        )
    return choices[name]


def expected(kind: Kind | None, name: str = "auto") -> str:
    """Examples of the rows that would be read, for the end of an error."""
    examples = [one.example for one in _named(name) if kind in (None, one.kind)]
    return " or ".join(examples)
