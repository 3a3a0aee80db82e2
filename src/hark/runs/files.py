"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hark.errors import RunError


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write below `path` into a `RunError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(
            f"cannot write '{path}': {reason}; what was saved before is whole: free some space or "
            "choose another --output, then give the same command again"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON aside, flush it to the disk, and rename it into place.

    Raises: RunError if the disk refuses.
    """
    aside = path.with_name(f".{path.name}.partial")
    with explain_disk_errors(path):
        with aside.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False, default=str)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a directory to fill; it appears at `path`, whole, when the block ends without error.

    Raises: RunError if the disk refuses; `path` is then as it was before.
    """
    aside = path.with_name(f".{path.name}.partial")
    with explain_disk_errors(path):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        for file in aside.rglob("*"):
            if file.is_file():
                _flush_to_disk(file)
        _flush_to_disk(aside)
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
        _flush_to_disk(path.parent)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the relative names and contents of every file of a directory.

    Hidden files do not count. Raises: RunError if nothing is at `path`.
    """
    digest = hashlib.sha256()
    if path.is_file():
        _feed(digest, path)
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            relative = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") for part in relative.parts):
                digest.update(f"{relative.as_posix()}\0".encode())
                _feed(digest, file)
    else:
        raise RunError(f"there is no file or directory '{path}'")
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
