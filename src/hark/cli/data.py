"""`hark data`: look at data files, convert them, prepare them. Only `prepare` loads torch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from hark.cli.options import Json
from hark.cli.outcome import announce, announce_warning
from hark.data.files import expand_paths
from hark.data.formats import OnBadLine, Record, Records, read_records, write_records
from hark.data.formats.registry import writer
from hark.data.formats.writing import KIND_OF, lost_fields
from hark.data.records import Comparison, Text
from hark.errors import DataError

app = App(name="data", help="Look at, convert and clean data files.", help_format="plaintext")
app.command("hark.cli.prepare:prepare", name="prepare", help="Clean and split data for training.")

Data = Annotated[
    list[str],
    Parameter(
        name="--data",
        help="Files, directories or globs of data; --data may be left out.",
        consume_multiple=True,
        negative=(),
    ),
]
Format = Annotated[
    str, Parameter(name="--format", help="Name of the format, or auto to recognise each file's.")
]
BadLine = Annotated[
    OnBadLine,
    Parameter(name="--on-bad-line", help="stop at a malformed line, or skip and count it."),
]


@app.command
def inspect(
    data: Data, *, format_: Format = "auto", on_bad_line: BadLine = "stop", json: Json = False
) -> None:
    """Say what hark makes of data files: kind, format, counts, lengths, and the first record.

    Example: hark data inspect comparisons.jsonl
    """
    found: dict[str, Any] = {"files": []}
    for source in expand_paths(data):
        records = read_records(source, format=format_, on_bad_line=on_bad_line)
        found["files"].append({"file": str(source)} | describe_records(records))
    if json:
        announce(found, run=None, as_json=True)
        return
    for number, described in enumerate(found["files"]):
        if number:
            print()
        announce(described, run=None, as_json=False)


@app.command
def convert(
    data: Data,
    *,
    to: Annotated[
        Path,
        Parameter(help="File to write: .jsonl, .json (also .gz, .xz, .zst), .parquet or .txt."),
    ],
    to_format: Annotated[
        str, Parameter(help="Format to write: hark, trl, trl-standard, hh, openai, arena, txt, …")
    ] = "hark",
    format_: Format = "auto",
    on_bad_line: BadLine = "stop",
    json: Json = False,
) -> None:
    """Write data files in another format; says which fields that format has no place for.

    Example: hark data convert pairs.jsonl --to pairs.parquet --to-format trl
    """
    if to.exists():
        raise DataError(f"'{to}' exists already; choose another name, nothing is overwritten")
    records = read_records(data, format=format_, on_bad_line=on_bad_line)
    kind = KIND_OF[type(records[0])]
    lost = lost_fields(records, writer(kind, to_format))
    rows = write_records(to, records, kind=kind, format=to_format)
    for field, count in lost.items():
        announce_warning(f"format '{to_format}' has no place for '{field}' ({count:,} records)")
    results = {"records": len(records), "rows": rows, "lost": lost, "path": str(to)}
    announce(results, run=None, as_json=json)


def describe_records(records: Records[Record]) -> dict[str, Any]:
    """Counts and lengths (in characters) of records of one kind, and the first of them."""
    report = records.report
    described: dict[str, Any] = {
        "kind": KIND_OF[type(records[0])],
        "format": ", ".join(dict.fromkeys(report.files.values())),
        "records": len(records),
        "skipped": report.skipped,
    }
    for name in ("user", "labeler", "source"):
        values = Counter(value for item in records if (value := getattr(item, name, None)))
        if values:
            described[f"{name}s"] = len(values)
    comparisons = [item for item in records if isinstance(item, Comparison)]
    if comparisons:
        described |= describe_comparisons(comparisons)
    described["characters"] = describe_lengths(
        [len(text) for item in records for text in texts_of(item)]
    )
    described["first"] = dataclasses.asdict(records[0])
    return described


def describe_comparisons(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """How many responses a comparison has, how many are judged, and how many pairs are ties."""
    sizes = Counter(len(item.responses) for item in comparisons)
    judged = [item for item in comparisons if item.judged]
    pairs = sum(len(item.responses) * (len(item.responses) - 1) // 2 for item in judged)
    decided = sum(len(list(item.ordered_pairs())) for item in judged)
    return {
        "responses": {str(size): count for size, count in sorted(sizes.items())},
        "judged": len(judged),
        "pairs": pairs,
        "tied_pairs": pairs - decided,
    }


def texts_of(record: Record) -> Iterator[str]:
    """Everything a model would read of a record."""
    if isinstance(record, Text):
        yield record.text
        return
    yield "\n".join(message.content for message in record.prompt)
    if isinstance(record, Comparison):
        yield from record.responses
    elif response := getattr(record, "response", None):
        yield response


def describe_lengths(lengths: Sequence[int]) -> dict[str, int]:
    """Smallest, middle, ninetieth percentile and largest."""
    ordered = sorted(lengths)
    return {
        "least": ordered[0],
        "median": ordered[len(ordered) // 2],
        "90 %": ordered[(len(ordered) - 1) * 9 // 10],
        "most": ordered[-1],
    }
