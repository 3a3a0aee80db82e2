"""From files to rows: one JSON object (or document) each, and where it stands.

Nothing here knows of records. A row that cannot be read says why and leaves it to the reader
whether to stop; a file that cannot be read raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hark.data.files import HUB_PREFIX, content_ending, open_bytes, write_bytes_aside
from hark.errors import DataError, HarkError

Fields = dict[str, Any]

ONE_OBJECT_PER_LINE = "expected one JSON object on each line"
END_OF_DOCUMENT = "<|endoftext|>"
MAXIMUM_DOCUMENT_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: `fields`, or the `problem` that kept it from being read."""

    where: str
    """`file:line`, or `file, record n` where lines mean nothing."""
    number: int
    fields: Fields | None
    """Without the fields that are null: tables must fill every column."""
    problem: str = ""
    raw: str = ""
    """The text of an unreadable row."""


def iterate_rows(source: str | Path, *, as_lines: bool = False) -> Iterator[Row]:
    """Yield the rows of one file or `hub:` name, one at a time.

    `as_lines` takes each line of a `.txt` file as a row of its own; otherwise its rows are
    documents (see `_documents`). Both come as `{"text": ...}`.
    Raises: DataError if the file is empty, damaged, or not UTF-8.
    """
    if isinstance(source, str):
        yield from _hub_rows(source)
        return
    ending = content_ending(source)
    if ending == ".parquet":
        rows = _parquet_rows(source)
    elif ending == ".txt":
        rows = _text_lines(source) if as_lines else _documents(source)
    else:
        rows = _json_rows(source)
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise DataError(f"'{source}' is empty; expected at least one record")


def _json_rows(path: Path) -> Iterator[Row]:
    with open_bytes(path) as stream:
        lines = iter(stream)
        number = 0
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                break
        else:
            return
        if line.lstrip().startswith(b"["):
            # Newlines stand in for the blank lines read so far, so that errors name the right one.
            yield from _array_rows(path, b"\n" * (number - 1) + line + stream.read())
            return
        yield _json_row(path, number, line)
        for later, line in enumerate(lines, start=number + 1):
            if line.strip():
                yield _json_row(path, later, line)


def _json_row(path: Path, number: int, line: bytes) -> Row:
    where = f"{path}:{number}"
    try:
        fields = json.loads(line)
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (byte {error.start + 1} of the line); save the file as UTF-8"
    except json.JSONDecodeError as error:
        problem = f"is not valid JSON ({error.msg} at character {error.pos + 1})"
        problem += f"; {ONE_OBJECT_PER_LINE}"
    except (ValueError, RecursionError) as error:
        problem = f"is not usable JSON ({error}); {ONE_OBJECT_PER_LINE}"
    else:
        return _object_row(where, number, fields)
    raw = line.decode("utf-8", errors="replace").rstrip("\r\n")
    return Row(where=where, number=number, fields=None, problem=problem, raw=raw)


def _object_row(where: str, number: int, value: Any) -> Row:
    if isinstance(value, dict):
        fields = {name: field for name, field in value.items() if field is not None}
        return Row(where=where, number=number, fields=fields)
    kind = {list: "list", str: "string", int: "number", float: "number"}.get(type(value), "value")
    problem = f"is a JSON {kind}, not an object; {ONE_OBJECT_PER_LINE}"
    raw = json.dumps(value, ensure_ascii=False)
    return Row(where=where, number=number, fields=None, problem=problem, raw=raw)


def _array_rows(path: Path, content: bytes) -> Iterator[Row]:
    try:
        values = json.loads(content)
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is not UTF-8 text; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: is not valid JSON ({error.msg}); expected one JSON object on "
            "each line, or one array of objects"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not usable JSON ({error})") from None
    for number, value in enumerate(values, start=1):
        yield _object_row(f"{path}, record {number}", number, value)


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches():
                for fields in batch.to_pylist():
                    number += 1
                    yield _object_row(f"{path}, record {number}", number, fields)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"'{path}' is not a readable Parquet file: {reason}") from None
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}") from None


def _decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            try:
                yield number, line.decode("utf-8").replace("\r\n", "\n")
            except UnicodeDecodeError:
                raise DataError(
                    f"{path}:{number}: is not UTF-8 text; save the file as UTF-8"
                ) from None


def _text_lines(path: Path) -> Iterator[Row]:
    for number, line in _decoded_lines(path):
        if line.strip():
            yield Row(where=f"{path}:{number}", number=number, fields={"text": line.strip()})


def _documents(path: Path) -> Iterator[Row]:
    """Yield the documents of a plain-text file.

    A line that reads `<|endoftext|>` ends a document; without any, the file is one document. A
    document longer than about a million characters comes in pieces, cut after a blank line where
    there is one, so that a file of any size can be streamed.
    """
    piece: list[str] = []
    start = 1
    characters = 0
    for number, line in _decoded_lines(path):
        ends = line.strip() == END_OF_DOCUMENT
        if not ends:
            piece.append(line)
            characters += len(line)
        long = characters >= MAXIMUM_DOCUMENT_CHARACTERS and not line.strip()
        if ends or long or characters >= 2 * MAXIMUM_DOCUMENT_CHARACTERS:
            yield from _document(path, start, piece)
            piece, start, characters = [], number + 1, 0
    yield from _document(path, start, piece)


def _document(path: Path, start: int, lines: list[str]) -> Iterator[Row]:
    text = "".join(lines).strip("\r\n")
    if text.strip():
        yield Row(where=f"{path}:{start}", number=start, fields={"text": text})


def _hub_rows(name: str) -> Iterator[Row]:
    """Yield the rows of `hub:organisation/name[:split]`; the split is `train` unless named."""
    try:
        import datasets
    except ImportError:
        raise HarkError(
            f"'{name}' names a data set on the Hub, which needs an extra: pip install 'hark[hub]'"
        ) from None
    data_set, _, split = name.removeprefix(HUB_PREFIX).partition(":")
    try:
        table = datasets.load_dataset(data_set, split=split or "train")
    except Exception as error:  # `datasets` raises its own, requests' and the Hub's errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot load '{name}' from the Hub: {reason}") from None
    for number, fields in enumerate(table, start=1):
        yield _object_row(f"{name}, record {number}", number, fields)


def write_rows(path: Path, rows: Iterable[Fields]) -> int:
    """Write JSON lines, a JSON array (`.json`) or a table (`.parquet`), whole or not at all.

    Returns the number of rows. Raises: DataError if the ending is not one of these or the disk
    refuses.
    """
    ending = content_ending(path)
    if ending in (".jsonl", ".ndjson"):
        return _write_lines(path, (_json(row) + "\n" for row in rows))
    if ending == ".json":
        lines = [_json(row) for row in rows]
        _write_lines(path, ["[\n", ",\n".join(lines), "\n]\n"])
        return len(lines)
    if ending == ".parquet":
        return _write_parquet(path, list(rows))
    raise DataError(
        f"cannot write records to '{path}'; give it the ending .jsonl, .json (each also with .gz, "
        ".xz or .zst) or .parquet"
    )


def write_documents(path: Path, texts: Iterable[str]) -> int:
    """Write a plain-text file with `<|endoftext|>` between documents; return their number."""
    return _write_lines(
        path, (f"{END_OF_DOCUMENT}\n{text}\n" if i else f"{text}\n" for i, text in enumerate(texts))
    )


def _json(row: Fields) -> str:
    return json.dumps(row, ensure_ascii=False)


def _write_lines(path: Path, lines: Iterable[str]) -> int:
    count = 0
    with write_bytes_aside(path) as stream:
        for line in lines:
            try:
                stream.write(line.encode("utf-8"))
            except UnicodeEncodeError:
                raise DataError(
                    f"cannot write '{path}': row {count + 1} has half of a surrogate pair, which "
                    "is no text"
                ) from None
            count += 1
    return count


def _write_parquet(path: Path, rows: list[Fields]) -> int:
    # Every column is named, as pyarrow would otherwise take the first row's fields for all.
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    with write_bytes_aside(path) as stream:
        pq.write_table(table, stream)
    return len(rows)
