"""A run read back from its directory: what it was, what it measured, what it found."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from hark.errors import RunError
from hark.runs.manifest import Manifest
from hark.runs.metrics import read_metrics
from hark.runs.timing import TimeSpent


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run directory."""

    path: Path
    manifest: Manifest
    metrics: tuple[dict[str, Any], ...] = ()
    """Records of metrics.jsonl, in order."""
    time: TimeSpent | None = None
    """Where the time of its steps went; None for a run without steps."""
    results: dict[str, Any] = field(default_factory=dict)
    """results.json; empty while the run is not complete."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises: RunError if it is no run directory or a file in it is damaged."""
        manifest = Manifest.read(path)
        try:
            metrics = read_metrics(path / "metrics.jsonl")
            time = TimeSpent.read(path)
            results_path = path / "results.json"
            results = json.loads(results_path.read_text("utf-8")) if results_path.exists() else {}
        except (OSError, ValueError) as error:
            raise RunError(f"the run '{path}' has a damaged file: {error}") from None
        return cls(path=path, manifest=manifest, metrics=tuple(metrics), time=time, results=results)

    @property
    def settings(self) -> dict[str, Any]:
        """The effective settings it was made with.

        Raises: RunError if its config.json cannot be read.
        """
        try:
            return dict(json.loads((self.path / "config.json").read_text("utf-8"))["effective"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"the run '{self.path}' has no readable config.json: {error}") from None

    def made(self, model: str) -> RunRecord | None:
        """The run that made a model named in the settings; None for one that no run of ours made.

        A path that was relative to where the command was given is looked for beside this run too.
        Raises: RunError for a directory that is in neither place.
        """
        for path in (Path(model), self.path.parent / Path(model).name):
            if (path / "manifest.json").is_file():
                return RunRecord.read(path)
        was_local = any(Path(name).is_relative_to(model) for name in self.manifest.inputs)
        if was_local and not Path(model).exists():
            raise RunError(
                f"'{self.path}' was made from '{model}', which is not there; call hark from where "
                "the run was made, or keep the runs in one directory"
            )
        return None

    @property
    def label(self) -> str:
        """What a figure calls it: its name, or its stage where it has none."""
        return self.manifest.name or self.manifest.stage

    @property
    def command(self) -> str:
        """The command that made it, ready to paste into a shell."""
        return shlex.join(self.manifest.command)

    @property
    def code(self) -> str:
        """The commit it ran from, and whether that was changed."""
        if self.manifest.commit is None:
            return f"hark {self.manifest.versions.get('hark', '?')}, not from a checkout"
        return self.manifest.commit[:12] + (", with local changes" if self.manifest.dirty else "")

    @property
    def duration(self) -> str:
        """How long it took by the clock, interruptions included; empty while it is running."""
        if self.manifest.finished is None:
            return ""
        began = datetime.fromisoformat(self.manifest.started)
        seconds = round((datetime.fromisoformat(self.manifest.finished) - began).total_seconds())
        hours, minutes = seconds // 3600, seconds // 60 % 60
        if hours:
            return f"{hours} h {minutes:02d} min"
        return f"{minutes} min {seconds % 60:02d} s" if minutes else f"{seconds} s"

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of a metric, where it was logged and is a number."""
        pairs = [
            (float(record["step"]), float(record[name]))
            for record in self.metrics
            if isinstance(record.get(name), int | float)
        ]
        return [step for step, _ in pairs], [value for _, value in pairs]
