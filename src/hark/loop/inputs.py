"""The files behind the words of a stage's settings.

Their contents enter its fingerprint, and their records are read here.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hark.data.files import expand_paths
from hark.data.formats import Records, read_demonstrations
from hark.data.mixing import parse_weighted_path
from hark.data.records import Demonstration
from hark.errors import DataError
from hark.models.adapter_directory import base_of, is_adapter
from hark.runs.run import Run, is_endpoint, resolve_model
from hark.runs.settings import DataStageSettings

Record = TypeVar("Record")


def read_files(
    read: Callable[..., Records[Record]],
    paths: Sequence[Path],
    settings: DataStageSettings,
    run: Run,
) -> Records[Record]:
    """The records of a stage's files; skipped lines are kept in the run directory."""
    return read(list(paths), on_bad_line=settings.on_bad_line, skipped_directory=run.skipped_path)


def read_examples(
    paths: Sequence[Path], settings: DataStageSettings, run: Run
) -> Sequence[Demonstration]:
    """Demonstrations to show a model first; none without files."""
    return read_files(read_demonstrations, paths, settings, run) if paths else ()


def data_files(text: str) -> list[Path]:
    """The files of a path, directory, glob or `path=weight`.

    Raises: DataError if there are none, or for a run directory, so that a wrong path stops a stage
    before it starts.
    """
    path = parse_weighted_path(text).path
    if all((Path(path) / name).is_file() for name in ("manifest.json", "config.json")):
        raise DataError(f"'{path}' is a run directory, not data; name a file in its 'data'")
    return [each for each in expand_paths(path) if isinstance(each, Path)]


def model_files(name: str) -> list[Path]:
    """A model's directory (an adapter's and its base's), or the file of a `module:function`; what
    is elsewhere (a Hub name, an endpoint) has none here."""
    if is_endpoint(name):
        return []
    path = resolve_model(name)
    if path.exists():
        return [path, *(model_files(base_of(path)) if is_adapter(path) else ())]
    module, sign, _ = name.partition(":")
    if not sign or not module:
        return []
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(module)
    except Exception:  # whatever the module raises is told when it is loaded
        found = None
    finally:
        sys.path.pop(0)
    origin = Path(found.origin) if found is not None and found.origin else None
    return [origin] if origin is not None and origin.is_file() else []
