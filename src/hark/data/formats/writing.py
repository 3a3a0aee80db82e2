"""Writing records in any format that has a way to express them.

The ending says how: `.jsonl`, `.json` (each also with `.gz`, `.xz` or `.zst`), `.parquet`, and
`.txt` for texts. A file appears whole or not at all and replaces one of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING
from dataclasses import fields as dataclass_fields
from pathlib import Path

from hark.data.files import content_ending
from hark.data.formats import registry
from hark.data.formats.format import Format, Kind, Record
from hark.data.records import Comparison, Demonstration, Prompt, Text
from hark.data.rows import END_OF_DOCUMENT, Fields, write_documents, write_rows
from hark.errors import DataError


def write_texts(path: str | Path, records: Iterable[Text], *, format: str = "hark") -> int:
    """Write texts as `hark` (JSON) or `txt`; return the number of rows.

    Raises: DataError if the format cannot express a record or the file cannot be written.
    """
    return write_records(path, records, kind="texts", format=format)


def write_prompts(path: str | Path, records: Iterable[Prompt], *, format: str = "hark") -> int:
    """Write prompts as `hark`, `trl` or `trl-standard`; return the number of rows."""
    return write_records(path, records, kind="prompts", format=format)


def write_demonstrations(
    path: str | Path, records: Iterable[Demonstration], *, format: str = "hark"
) -> int:
    """Write as `hark`, `trl`, `trl-standard`, `trl-messages` or `instructions`; return the rows."""
    return write_records(path, records, kind="demonstrations", format=format)


def write_comparisons(
    path: str | Path, records: Iterable[Comparison], *, format: str = "hark"
) -> int:
    """Write as `hark`, `hh`, `trl`, `trl-standard`, `openai` or `arena`; return the rows.

    All but `hark` speak of pairs: K responses become a row for each ordered pair, and only `arena`
    has ties.
    """
    return write_records(path, records, kind="comparisons", format=format)


def write_records(
    path: str | Path, records: Iterable[Record], *, kind: Kind, format: str = "hark"
) -> int:
    """Write records of one kind; return the number of rows.

    Raises: DataError if the format does not exist for the kind, cannot express a record, or the
    file cannot be written.
    """
    path = Path(path)
    form = registry.writer(kind, format)
    if form is registry.PLAIN_TEXT or content_ending(path) == ".txt":
        return _write_plain_text(path, records, form)
    return write_rows(path, _rows(path, records, form))


def _rows(path: Path, records: Iterable[Record], form: Format) -> Iterator[Fields]:
    assert form.render is not None
    for number, record in enumerate(records, start=1):
        try:
            yield from form.render(record)
        except DataError as error:
            raise DataError(f"cannot write record {number} to '{path}': {error}") from None


def _write_plain_text(path: Path, records: Iterable[Record], form: Format) -> int:
    if content_ending(path) != ".txt" or form is not registry.PLAIN_TEXT:
        raise DataError(
            f"cannot write format '{form.name}' to '{path}'; texts go to .txt with format 'txt', "
            "records to .jsonl, .json or .parquet"
        )
    return write_documents(path, _documents(path, records))


def _documents(path: Path, records: Iterable[Record]) -> Iterator[str]:
    for number, record in enumerate(records, start=1):
        assert isinstance(record, Text)
        if any(line.strip() == END_OF_DOCUMENT for line in record.text.split("\n")):
            raise DataError(
                f"cannot write record {number} to '{path}': it has a line '{END_OF_DOCUMENT}', "
                "which ends a document; write it with format 'hark'"
            )
        yield record.text


def lost_fields(records: Sequence[Record], form: Format) -> dict[str, int]:
    """How many records have each field that `form` has no place for."""
    lost: dict[str, int] = {}
    for record in records:
        for field in dataclass_fields(record):
            default = None if field.default is MISSING else field.default
            if field.name not in form.carries and getattr(record, field.name) != default:
                lost[field.name] = lost.get(field.name, 0) + 1
    return lost
