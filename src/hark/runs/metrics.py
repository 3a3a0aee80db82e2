"""Append-only JSON lines: one record a step, each name defined in docs/metrics.md."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from hark.runs.files import explain_disk_errors


class MetricsWriter:
    """Appends records to one file; after a resume, `rewind` drops what the checkpoint never saw."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def log(self, *, step: int, **values: float | int | str | None) -> None:
        """Append one record. A value that is not finite is written as null: it is undefined."""
        record = {"step": step} | {name: _finite(value) for name, value in values.items()}
        with explain_disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def rewind(self, step: int) -> None:
        """Keep the records up to and including `step`; a half-written last line goes too."""
        if not self.path.exists():
            return
        kept = [record for record in read_metrics(self.path) if record["step"] <= step]
        aside = self.path.with_name(f".{self.path.name}.partial")
        with explain_disk_errors(self.path):
            with aside.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)


class SilentWriter(MetricsWriter):
    """Writes nothing: for a process that is not the first of its run."""

    def log(self, *, step: int, **values: float | int | str | None) -> None:
        return

    def rewind(self, step: int) -> None:
        return


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the whole records of a metrics file; a last line cut by a crash is left out."""
    records: list[dict[str, Any]] = []
    if not path.exists():
        return records
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                break
            records.append(json.loads(line))
    return records


def _finite(value: float | int | str | None) -> float | int | str | None:
    if value is None or isinstance(value, str | int):
        return value
    value = float(value)
    return value if math.isfinite(value) else None
