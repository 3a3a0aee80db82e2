"""Personal data and secrets in text: found, shown masked for review, and masked or dropped.

InstructGPT filters personally identifiable information from its training prompts (2203.02155,
section 3.2) without saying how. Departure: patterns with checks (`personal_patterns`), after which
each finding says why it was taken for what it is. They miss names and whatever has no form, so that
a person reviews the report.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hark.data.personal_patterns import PATTERNS
from hark.data.records import Comparison, Demonstration, Message, Prompt, Text

R = TypeVar("R", bound=Text | Prompt | Demonstration | Comparison)

CONTEXT_CHARACTERS = 24
"""How much text around a finding the reviewer sees on each side."""


@dataclass(frozen=True)
class Match:
    """A piece of one text that looks like personal data."""

    kind: str
    start: int
    end: int
    """`text[start:end]` is the piece."""
    why: str


@dataclass(frozen=True)
class Finding:
    """A match in a record, fit to be shown: letters and digits of all matches are masked."""

    index: int
    """The record's place in the input."""
    record_id: str | None
    field: str
    """Such as `prompt[0]` or `responses[1]`."""
    kind: str
    excerpt: str
    why: str


def find_personal_data(text: str) -> list[Match]:
    """The matches in a text, in order and without overlap; of overlapping ones the first kind."""
    matches: list[Match] = []
    for pattern in PATTERNS:
        if not pattern.needs.search(text):
            continue
        for found in pattern.pattern.finditer(text):
            start, end = found.span(pattern.group)
            overlaps = any(start < other.end and other.start < end for other in matches)
            if not overlaps and pattern.accepts(found):
                matches.append(Match(pattern.kind, start, end, pattern.why))
    return sorted(matches, key=lambda match: match.start)


def mask_personal_data(text: str) -> str:
    """The text with each match replaced by its kind in brackets, such as `[e-mail address]`."""
    return _replaced(text, find_personal_data(text), lambda match: f"[{match.kind}]")


def findings(records: Sequence[Text | Prompt | Demonstration | Comparison]) -> list[Finding]:
    """What looks like personal data in the records, responses included."""
    found = []
    for index, record in enumerate(records):
        for field, text in _fields(record):
            matches = find_personal_data(text)
            for match in matches:
                found.append(
                    Finding(
                        index=index,
                        record_id=getattr(record, "id", None),
                        field=field,
                        kind=match.kind,
                        excerpt=_excerpt(text, match, matches),
                        why=match.why,
                    )
                )
    return found


def masked(record: R) -> R:
    """The record with the matches of all its texts replaced by their kinds."""
    if isinstance(record, Text):
        return dataclasses.replace(record, text=mask_personal_data(record.text))
    prompt = tuple(Message(turn.role, mask_personal_data(turn.content)) for turn in record.prompt)
    if isinstance(record, Demonstration):
        response = mask_personal_data(record.response)
        return dataclasses.replace(record, prompt=prompt, response=response)
    if isinstance(record, Comparison):
        responses = tuple(map(mask_personal_data, record.responses))
        return dataclasses.replace(record, prompt=prompt, responses=responses)
    return dataclasses.replace(record, prompt=prompt)


def _fields(record: Text | Prompt | Demonstration | Comparison) -> Iterator[tuple[str, str]]:
    if isinstance(record, Text):
        yield "text", record.text
        return
    for place, turn in enumerate(record.prompt):
        yield f"prompt[{place}]", turn.content
    if isinstance(record, Demonstration):
        yield "response", record.response
    if isinstance(record, Comparison):
        for place, response in enumerate(record.responses):
            yield f"responses[{place}]", response


def _excerpt(text: str, match: Match, matches: Iterable[Match]) -> str:
    """The match and what is around it; every match keeps its shape only (`xxxx@xxxx.xx`)."""
    shaped = _replaced(text, matches, lambda other: _shape(text[other.start : other.end]))
    start = max(0, match.start - CONTEXT_CHARACTERS)
    end = min(len(text), match.end + CONTEXT_CHARACTERS)
    excerpt = " ".join(shaped[start:end].split())
    return f"{'…' if start else ''}{excerpt}{'…' if end < len(text) else ''}"


def _shape(secret: str) -> str:
    """As long as the secret, with x for each letter and 9 for each digit."""
    return "".join("9" if c.isdigit() else "x" if c.isalpha() else c for c in secret)


def _replaced(text: str, matches: Iterable[Match], by: Callable[[Match], str]) -> str:
    pieces, end = [], 0
    for match in matches:
        pieces += [text[end : match.start], by(match)]
        end = match.end
    return "".join([*pieces, text[end:]])
