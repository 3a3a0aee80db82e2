"""What a loop has done, step by step: JSON lines, appended and flushed to the disk.

A step is written down after it was done. A kill may come between the two, so whatever does a step
must find its own work when it is asked again. No torch.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hark.errors import DataError
from hark.runs.files import explain_disk_errors

EXPERIMENT = -1
"""The round of the controlled experiment, which is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One step that was done."""

    number: int
    """Counts up from 1."""
    time: str
    """UTC, ISO 8601."""
    round: int
    step: str
    facts: dict[str, Any]
    """What came of it: run directories, studies, counts, hashes."""


class Journal:
    """The journal of one loop; held by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Read what is there. A last line without its end was not written.

        Raises: DataError for a line that is damaged otherwise.
        """
        self.path = path
        self.entries: list[Entry] = []
        raw = path.read_bytes() if path.exists() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        self._whole_bytes = None if whole == raw else len(whole)
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):
                raise DataError(f"{path}:{number} is no entry of a journal: restore it") from None
            if entry.number != number:
                raise DataError(f"{path}:{number} has number {entry.number}: restore the journal")
            self.entries.append(entry)

    def find(self, round: int, step: str) -> dict[str, Any] | None:
        """The facts of a step; None if it is not done."""
        for entry in self.entries:
            if (entry.round, entry.step) == (round, step):
                return entry.facts
        return None

    def facts(self, round: int, step: str) -> dict[str, Any]:
        """The facts of a step that was done before."""
        found = self.find(round, step)
        assert found is not None, (round, step)
        return found

    def once(self, round: int, step: str, do: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The facts of a step, which is done now unless it was."""
        found = self.find(round, step)
        return self.append(round, step, do()) if found is None else found

    def append(self, round: int, step: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write a step down; on the disk when this returns. Raises: RunError if it refuses."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        number = len(self.entries) + 1
        values = {
            "number": number, "time": now, "round": round, "step": step, "facts": dict(facts)
        }  # fmt: skip
        line = json.dumps(values, ensure_ascii=False)
        self._cut_torn_line()
        with explain_disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(Entry(**json.loads(line)))
        return self.entries[-1].facts

    def _cut_torn_line(self) -> None:
        """Not before something is written: whoever only looks must not cut another's line."""
        if self._whole_bytes is not None:
            with self.path.open("r+b") as file:
                file.truncate(self._whole_bytes)
            self._whole_bytes = None

    @property
    def rounds_finished(self) -> int:
        """K where rounds 1 to K are finished; −1 before round 0 is."""
        done = {entry.round for entry in self.entries if entry.step == "finished"}
        finished = -1
        while finished + 1 in done:
            finished += 1
        return finished
