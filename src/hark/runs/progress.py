"""Progress with rate and time left, on stderr: a live line on a terminal, else one now and then."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 10.0
"""How often progress is printed where there is no terminal."""


class ProgressBar:
    """Counts units done; `advance` also shows a few values, such as the loss."""

    def __init__(self, *, total: int | None, label: str, unit: str, start: int = 0) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.done = start
        self._start = start
        self._began = self._printed = time.monotonic()
        self._values = ""

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        if values:
            self._values = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._show()

    def describe(self) -> str:
        """One line: how far, how fast, how long still."""
        elapsed = time.monotonic() - self._began
        rate = (self.done - self._start) / elapsed if elapsed > 0 else 0.0
        of = "" if self.total is None else f"/{self.total}"
        words = [f"{self.label}: {self.done}{of} {self.unit}s", f"{rate:.3g}/s"]
        if self.total is None or self.done >= self.total:
            words.append(_duration(elapsed))
        else:
            left = (self.total - self.done) / rate if rate > 0 else float("inf")
            words.append(f"{_duration(left)} left")
        return "  ".join([*words, self._values]).rstrip()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            print(self.describe(), file=sys.stderr, flush=True)


class _LiveBar(ProgressBar):
    def __init__(self, live: Progress, task: TaskID, **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self._live, self._task = live, task

    def _show(self) -> None:
        self._live.update(self._task, completed=self.done, values=f"{self._rate()}  {self._values}")

    def _rate(self) -> str:
        elapsed = time.monotonic() - self._began
        return f"{(self.done - self._start) / elapsed:.3g} {self.unit}s/s" if elapsed > 0 else ""


class _NoBar(ProgressBar):
    def _show(self) -> None:
        return


def is_first_process() -> bool:
    """Whether this process speaks to people: of those that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def process_count() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def progress(
    *, total: int | None, label: str, unit: str = "step", start: int = 0
) -> Iterator[ProgressBar]:
    """Show the progress of `total` units (None: nobody knows), of which `start` were done before.

    Work of under a few seconds prints nothing where there is no terminal.
    """
    if not is_first_process():
        yield _NoBar(total=total, label=label, unit=unit, start=start)
        return
    if not sys.stderr.isatty():
        bar = ProgressBar(total=total, label=label, unit=unit, start=start)
        yield bar
        if time.monotonic() - bar._began >= SECONDS_BETWEEN_LINES:
            print(bar.describe(), file=sys.stderr, flush=True)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as live:
        task = live.add_task(label, total=total, completed=start, values="")
        yield _LiveBar(live, task, total=total, label=label, unit=unit, start=start)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
