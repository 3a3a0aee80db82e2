"""What a run was: the command, the code, the machine, the data, how it ended."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import hark
from hark.errors import RunError
from hark.runs.files import write_json

Status = Literal["running", "interrupted", "failed", "complete"]

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pydantic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The record beside a run's results; `status` changes last."""

    stage: str
    name: str
    status: Status
    command: tuple[str, ...]
    fingerprint: str
    """Hash of the code of the units used, the effective settings and the contents of the inputs."""
    seed: int
    device: str
    dtype: str
    started: str
    """UTC, ISO 8601."""
    finished: str | None
    message: str | None
    """Why it failed, in the words the person saw."""
    commit: str | None
    """Commit of hark's checkout; None when installed without one."""
    dirty: bool | None
    """Whether that checkout had uncommitted changes."""
    versions: dict[str, str]
    parents: tuple[str, ...]
    """Run directories whose products this run read."""
    inputs: dict[str, str]
    """Path of each input to the hash of its contents."""
    time: dict[str, Any] | None = None
    """Where the time of the steps went, `TimeSpent.to_json()`; None for a run without steps."""

    def write(self, directory: Path) -> None:
        write_json(directory / "manifest.json", dataclasses.asdict(self))

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Raises: RunError if there is no readable manifest."""
        path = directory / "manifest.json"
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            values["command"] = tuple(values["command"])
            values["parents"] = tuple(values["parents"])
            return cls(**values)
        except OSError as error:
            raise RunError(f"'{directory}' is not a run directory: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"'{path}' is not a manifest that this hark can read "
                f"({type(error).__name__}: {error}); make the run again"
            ) from None


@functools.cache
def code_version(units: tuple[str, ...]) -> str:
    """Hash of the sources of the named units (`"models"`, `"training"`, …) and the root modules."""
    package = Path(hark.__file__).parent
    digest = hashlib.sha256(hark.__version__.encode())
    for unit in ("errors.py", "settings.py", *sorted(units)):
        path = package / unit
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        for file in files:
            digest.update(file.relative_to(package).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def installed_versions() -> dict[str, str]:
    """Versions of Python, hark and the packages that decide the numbers."""
    versions = {"python": platform.python_version(), "hark": hark.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def commit_of_checkout() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout hark runs from; (None, None) outside one."""
    here = Path(hark.__file__).parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None or _git(here, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    return commit, bool(_git(here, "status", "--porcelain", "--untracked-files=no"))


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
