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
        self._first: tuple[float, int] | None = None
        """When the first units were done, and how many: they may have waited for a compiler."""
        self._values = ""

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        if self._first is None:
            self._first = time.monotonic(), self.done
        if values:
            self._values = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._show()

    def describe(self) -> str:
        """One line: how far, how fast, how long still."""
        elapsed = time.monotonic() - self._began
        of = "" if self.total is None else f"/{self.total}"
        words = [f"{self.label}: {self.done}{of} {self.unit}s"]
        if self.total is None or self.done >= self.total:
            rate = (self.done - self._start) / elapsed if elapsed > 0 else 0.0
            words += [f"{rate:.3g}/s", _duration(elapsed)]
        elif rate := self._rate():
            words += [f"{rate:.3g}/s", f"{_duration((self.total - self.done) / rate)} left"]
        return "  ".join([*words, self._values]).rstrip()

    def _rate(self) -> float:
        """Units a second after the first; 0 while there are no others."""
        if self._first is None:
            return 0.0
        since, done = self._first
        elapsed = time.monotonic() - since
        return (self.done - done) / elapsed if elapsed > 0 else 0.0

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
        rate = self._rate()
        words = f"{rate:.3g} {self.unit}s/s" if rate else ""
        self._live.update(self._task, completed=self.done, values=f"{words}  {self._values}")


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
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
