"""Which files a path stands for, and how their bytes are opened.

A path is a file, a directory of data files, a glob, or several of these. The ending says how a
file is read: `.jsonl`, `.ndjson`, `.json`, `.txt`, each also with `.gz`, `.xz` or `.zst`, and
`.parquet`.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from hark.errors import DataError, did_you_mean

Paths = str | Path | Sequence[str | Path]

HUB_PREFIX = "hub:"
COMPRESSIONS = (".gz", ".xz", ".zst")
CONTENTS = (".jsonl", ".ndjson", ".json", ".txt", ".parquet")
SKIPPED_ENDING = ".skipped.jsonl"
KNOWN_ENDINGS = ".jsonl, .ndjson, .json or .txt (each also with .gz, .xz or .zst), or .parquet"


def content_ending(path: Path) -> str:
    """`.jsonl` for `pairs.jsonl.gz`; an empty string for an ending that hark does not read."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    ending = Path(name).suffix
    if ending == ".parquet" and compression_ending(path):
        return ""
    return ending if ending in CONTENTS else ""


def compression_ending(path: Path) -> str:
    """`.gz`, `.xz`, `.zst`, or an empty string."""
    suffix = path.suffix.lower()
    return suffix if suffix in COMPRESSIONS else ""


def expand_paths(paths: Paths) -> list[str | Path]:
    """List the files that `paths` stand for, in a fixed order; Hub names stay strings.

    Directories are searched in depth and sorted; hidden files and files of skipped lines are left
    out.
    Raises: DataError for a missing path, a glob without match, a directory without data files, and
    an ending that hark does not read.
    """
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise DataError("no data path was given; name a file, a directory, or a glob")
    found: list[str | Path] = []
    for path in several:
        if str(path).startswith(HUB_PREFIX):
            found.append(str(path))
        else:
            found.extend(_expand(Path(path)))
    return found


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        return _snapshot_files(path) or _directory_files(path)
    if path.exists():
        if not content_ending(path):
            raise DataError(f"'{path}' has an ending that is not read; expected {KNOWN_ENDINGS}")
        return [path]
    if any(sign in str(path) for sign in "*?["):
        root = Path(path.anchor)
        files = [
            match for match in sorted(root.glob(str(path.relative_to(root)))) if _holds_data(match)
        ]
        if not files:
            raise DataError(f"no data file matches '{path}'; expected names ending {KNOWN_ENDINGS}")
        return files
    raise DataError(f"no such file: '{path}'{_sibling_hint(path)}")


def _snapshot_files(directory: Path) -> list[Path]:
    """The data of an exported snapshot, beside which stand the events behind it; else nothing."""
    try:
        about = json.loads((directory / "snapshot.json").read_bytes())
    except (OSError, ValueError):
        return []
    data = directory / str(about["data"]) if isinstance(about, dict) and "data" in about else None
    return [data] if data is not None and data.is_file() else []


def _holds_data(path: Path) -> bool:
    return path.is_file() and bool(content_ending(path)) and not path.name.endswith(SKIPPED_ENDING)


def _directory_files(directory: Path) -> list[Path]:
    files = [
        path
        for path in sorted(directory.rglob("*"))
        if _holds_data(path)
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    ]
    if not files:
        raise DataError(f"directory '{directory}' has no data files; expected {KNOWN_ENDINGS}")
    return files


def _sibling_hint(path: Path) -> str:
    try:
        siblings = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return f" (the directory '{path.parent}' does not exist either)"
    return did_you_mean(path.name, siblings) or f"; check the name in '{path.parent}'"


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open for reading, decompressed.

    Raises: DataError if the file cannot be opened, or, inside the `with`, if it is damaged.
    """
    compression = compression_ending(path)
    try:
        stream = _decompressed(path, compression)
        with stream:
            yield stream
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(_damaged(path, compression, error)) from None
    except OSError as error:
        # pyarrow reports damage to zstandard files as an OSError without a number.
        if compression and error.errno is None:
            raise DataError(_damaged(path, compression, error)) from None
        raise DataError(f"cannot read '{path}': {error.strerror or error}") from None


def _damaged(path: Path, compression: str, error: Exception) -> str:
    return (
        f"'{path}' is cut short or is not a {compression} file ({error}); copy or compress it again"
    )


def _decompressed(path: Path, compression: str) -> BinaryIO:
    if compression == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if compression == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    if compression == ".zst":
        # pyarrow notices a stream that ends too early; the zstandard package returns what it has.
        source = pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
        return cast(BinaryIO, io.BufferedReader(source, 1 << 16))
    return path.open("rb")


@contextmanager
def write_bytes_aside(path: Path) -> Iterator[BinaryIO]:
    """Open for writing, compressed by the ending; the file appears under its name when whole.

    Raises: DataError if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as raw, _compressed(raw, compression_ending(path)) as stream:
            yield stream
        # A compressor may have closed the file, so that it is opened again to reach the disk.
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _compressed(raw: BinaryIO, compression: str) -> Iterator[BinaryIO]:
    if compression == ".gz":
        # Without name and time, equal records give equal bytes, and so equal fingerprints.
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream:
            yield cast(BinaryIO, stream)
    elif compression == ".xz":
        with lzma.open(raw, "wb") as stream:
            yield cast(BinaryIO, stream)
    elif compression == ".zst":
        with pa.CompressedOutputStream(pa.PythonFile(raw, "wb"), "zstd") as stream:
            yield cast(BinaryIO, stream)
    else:
        yield raw
