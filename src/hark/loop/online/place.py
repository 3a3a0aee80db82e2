"""A loop's directory: its settings, its journal, and what it holds. No torch."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from hark.errors import RunError, SettingsError
from hark.loop.online.journal import Journal
from hark.loop.online.processes import forget_processes
from hark.loop.online.settings import LoopSettings, check_files, with_whole_paths
from hark.runs.files import explain_disk_errors
from hark.settings import read_settings_file

SETTINGS, JOURNAL = "loop.yaml", "journal.jsonl"
START = "start"


@dataclass(frozen=True, kw_only=True)
class Loop:
    """An open loop."""

    path: Path
    """Its directory, absolute."""
    settings: LoopSettings
    journal: Journal

    @classmethod
    def make(cls, path: Path, settings: LoopSettings) -> Self:
        """Write a new directory; one with the same settings is opened.

        Raises: SettingsError if a file is missing, or the path is a file or another loop.
        """
        check_files(settings)
        path, settings = path.absolute(), with_whole_paths(settings)
        if path.exists() and not path.is_dir():
            raise SettingsError(f"'{path}' is a file; name a directory for the loop")
        if (path / SETTINGS).exists():
            there = cls.open(path)
            if there.settings != settings:
                raise SettingsError(
                    f"'{path}' is a loop of other settings, which are never changed: choose "
                    "another directory"
                )
            return there
        text = yaml.safe_dump(settings.given(), sort_keys=False, allow_unicode=True)
        with explain_disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            for name in ("runs", "exports", "server", "labelers"):
                (path / name).mkdir(exist_ok=True)
            (path / "server").chmod(0o700)
            (path / "labelers").chmod(0o700)
            aside = path / f".{SETTINGS}.partial"
            aside.write_text(f"# Settings of a loop; `hark loop status {path.name}`\n{text}")
            aside.replace(path / SETTINGS)
        return cls(path=path, settings=settings, journal=Journal(path / JOURNAL))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises: RunError if it is no loop; SettingsError; DataError for a damaged journal."""
        path = path.absolute()
        if not (path / SETTINGS).is_file():
            raise RunError(f"'{path}' is no loop: make one with `hark loop init LOOP.yaml`")
        values = read_settings_file(path / SETTINGS)
        settings = LoopSettings.parse(values, where=str(path / SETTINGS))
        return cls(path=path, settings=settings, journal=Journal(path / JOURNAL))

    @contextlib.contextmanager
    def held(self) -> Iterator[Self]:
        """Be the only process that goes on with it; the loop as it is then.

        Raises: RunError if another one does.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"another process goes on with the loop '{self.path}': let it, or end it"
                ) from None
            # Told by a command that is over: somebody else's process may have the number by now.
            forget_processes(self.path / "server")
            yield self.open(self.path)

    @property
    def runs(self) -> Path:
        """Below which its stages make their run directories."""
        return self.path / "runs"

    def snapshot(self, round: int | str) -> str:
        """The name of a round's policy, or of the `START`."""
        return f"{self.settings.name}-{round if round == START else f'round-{round}'}"

    def snapshots(self) -> dict[str, str]:
        """Name of every policy there is to its model or run, oldest first."""
        found = {self.snapshot(START): self.settings.start}
        for entry in self.journal.entries:
            if entry.step == "policy" and entry.round >= 0:
                found[self.snapshot(entry.round)] = str(entry.facts["run"])
        return found

    def exports(self) -> dict[str, dict[str, Any]]:
        """Name of every collected tranche to the facts of its export, in order."""
        return {
            entry.step.removesuffix(": exported"): entry.facts
            for entry in self.journal.entries
            if entry.step.endswith(": exported") and entry.round >= 0
        }
