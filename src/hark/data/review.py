"""The account of a preparation, written for a person who will check it.

`review.md` has the counts and some examples of each reason; `removed.jsonl` and
`personal_data.jsonl` have every case. Personal data is masked in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from hark.data.files import write_bytes_aside
from hark.data.formats.format import KIND_OF, Kind
from hark.data.formats.writing import write_records
from hark.data.pii import mask_personal_data
from hark.data.prepare import SPLIT_NAMES, Prepared, Removed
from hark.data.records import Comparison, Demonstration, Prompt
from hark.data.rows import Fields, write_rows

R = TypeVar("R", bound=Prompt | Demonstration | Comparison)

EXCERPT_CHARACTERS = 120
EXAMPLES = 5


def write_prepared(directory: str | Path, prepared: Prepared[R]) -> dict[str, Path]:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl` and the review; return their paths.

    A split without records has no file. Raises: DataError if the directory cannot be written.
    """
    directory = Path(directory)
    paths: dict[str, Path] = {}
    for name in SPLIT_NAMES:
        records = getattr(prepared.splits, name)
        if records:
            kind: Kind = KIND_OF[type(records[0])]
            paths[name] = directory / f"{name}.jsonl"
            write_records(paths[name], records, kind=kind)
    return paths | write_review(directory, prepared)


def write_review(directory: str | Path, prepared: Prepared[R]) -> dict[str, Path]:
    """Write `review.md`, `removed.jsonl` and `personal_data.jsonl`; return their paths."""
    directory = Path(directory)
    paths = {
        "review": directory / "review.md",
        "removed": directory / "removed.jsonl",
        "personal_data": directory / "personal_data.jsonl",
    }
    write_rows(paths["removed"], (_removed_row(one) for one in prepared.removed))
    write_rows(
        paths["personal_data"],
        (
            {
                "index": finding.index,
                "id": finding.record_id,
                "field": finding.field,
                "kind": finding.kind,
                "excerpt": finding.excerpt,
                "why": finding.why,
            }
            for finding in prepared.findings
        ),
    )
    with write_bytes_aside(paths["review"]) as stream:
        stream.write("\n".join(review_lines(prepared)).encode() + b"\n")
    return paths


def review_lines(prepared: Prepared[R]) -> Iterator[str]:
    """The lines of `review.md`."""
    yield "# What was removed, and why"
    yield ""
    yield f"{prepared.total:,} records were given."
    yield ""
    yield "| what became of them | records |"
    yield "| --- | ---: |"
    for name in SPLIT_NAMES:
        yield f"| {name} | {len(getattr(prepared.splits, name)):,} |"
    for reason, count in prepared.counts.items():
        yield f"| removed: {reason} | {count:,} |"
    yield ""
    if prepared.masked:
        yield f"In {prepared.masked:,} of the records kept, personal data was masked."
        yield ""
    for reason in prepared.counts:
        yield f"## Removed: {reason}"
        yield ""
        cases = [one for one in prepared.removed if one.reason == reason]
        for one in cases[:EXAMPLES]:
            instead = "" if one.partner is None else f"; record {one.partner} was kept"
            yield f"* record {one.index}: {one.explanation}{instead}: `{_excerpt(one)}`"
        yield ""
    if prepared.findings:
        yield "## Personal data"
        yield ""
        yield "| record | where | kind | what it looks like | why |"
        yield "| ---: | --- | --- | --- | --- |"
        for finding in prepared.findings[: 4 * EXAMPLES]:
            excerpt = finding.excerpt.replace("|", "\\|").replace("`", "'")
            yield (
                f"| {finding.index} | {finding.field} | {finding.kind} | `{excerpt}` "
                f"| {finding.why} |"
            )
        yield ""


def _removed_row(one: Removed[R]) -> Fields:
    row: Fields = {"index": one.index, "reason": one.reason, "explanation": one.explanation}
    if one.partner is not None:
        row["partner"] = one.partner
    if one.record.id is not None:
        row["id"] = one.record.id
    return row | {"excerpt": _excerpt(one)}


def _excerpt(one: Removed[R]) -> str:
    """How the last turn of the prompt begins, on one line and without personal data."""
    text = " ".join(mask_personal_data(one.record.prompt[-1].content).split()).replace("`", "'")
    return text if len(text) <= EXCERPT_CHARACTERS else f"{text[: EXCERPT_CHARACTERS - 1]}…"
