"""Anthropic's HH files: `{"chosen": "\\n\\nHuman: … \\n\\nAssistant: …", "rejected": "…"}` a line.

They name neither labelers nor how strong a preference was, and `chosen` comes first whatever was
shown: all labels are of one labeler, and the responses are put in an order drawn by hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hark.data.formats.fields import BadRecordError
from hark.data.formats.transcripts import parse
from hark.data.records import Comparison
from hark.data.rows import iterate_rows
from hark.feedback.identifiers import hash_of_json
from hark.feedback.imports.findings import Finding, FoundLabel, FoundRecord, LeftOut

ANNOTATOR = "unnamed"


def read(path: Path) -> Iterator[Finding]:
    """The pairs of a file, each with the label that is in it."""
    seen: set[str] = set()
    for row in iterate_rows(path):
        if row.fields is None:
            yield LeftOut(where=row.where, why=row.problem)
            continue
        try:
            (pair,) = parse(row.fields)
        except BadRecordError as error:
            yield LeftOut(where=row.where, why=str(error))
            continue
        found = _record(row.where, pair)
        if found.id in seen:
            yield LeftOut(where=row.where, why="is the same pair as an earlier one")
        else:
            seen.add(found.id)
            yield found


def _record(where: str, pair: Comparison) -> FoundRecord:
    turns = [[turn.role, turn.content] for turn in pair.prompt]
    name = hash_of_json([turns, sorted(pair.responses)])
    chosen, rejected = pair.responses
    swap = int(name[0], 16) % 2 == 1
    return FoundRecord(
        where=where,
        id=name,
        prompt=pair.prompt,
        responses=(rejected, chosen) if swap else (chosen, rejected),
        labels=(FoundLabel(id="0", annotator=ANNOTATOR, ranks=(2, 1) if swap else (1, 2)),),
    )
