"""The stages of a recipe in several processes at once, each as soon as what it reads is there.

Many small models train faster side by side, with a share of the cores each, than one after the
other with all of them. What a stage does, leaves and finds again is the same either way.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self, TextIO

import torch

from hark.errors import RunError
from hark.loop.stages import StageOutcome, run_stage
from hark.runs.settings import StageSettings


@dataclass(frozen=True, kw_only=True)
class Task:
    """One stage for a worker."""

    label: str
    """What every line of it on stderr begins with."""
    kind: str
    settings: StageSettings
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a task."""

    task: Task
    outcome: StageOutcome | Exception
    seconds: float


class Workers:
    """Processes that each run one stage at a time.

    As a context: on leaving, those still at work are interrupted, as by Ctrl-C, and waited for. If
    this process is killed they end too, and the stages continue from their checkpoints.
    """

    def __init__(self, count: int) -> None:
        threads = max(1, torch.get_num_threads() // count)
        self._workers = [_Worker(threads) for _ in range(count)]

    @property
    def idle(self) -> int:
        """How many could begin a stage now."""
        return sum(worker.task is None for worker in self._workers)

    @property
    def busy(self) -> bool:
        return any(worker.task is not None for worker in self._workers)

    def begin(self, task: Task) -> None:
        """Give a stage to an idle worker. Raises: StopIteration if none is idle."""
        next(worker for worker in self._workers if worker.task is None).begin(task)

    def wait(self) -> Ended:
        """The next stage to end. Raises: RunError if its process was killed."""
        at_work = {worker.connection: worker for worker in self._workers if worker.task is not None}
        (first, *_) = wait(list(at_work))
        return at_work[first].take()  # type: ignore[index]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.leave()
        try:
            for worker in self._workers:
                worker.process.join()
        except KeyboardInterrupt:  # Asked twice, nobody waits.
            for worker in self._workers:
                worker.process.kill()
            raise


class _Worker:
    def __init__(self, threads: int) -> None:
        # Spawned: a forked copy of a process that has computed with threads may hang.
        context = multiprocessing.get_context("spawn")
        self.connection, its = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(its, threads))
        self.process.start()
        its.close()
        self.task: Task | None = None
        self._began = 0.0

    def begin(self, task: Task) -> None:
        self.task, self._began = task, time.monotonic()
        # If it was killed while it had nothing to do, `take` says so.
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def take(self) -> Ended:
        task, self.task = self.task, None
        assert task is not None
        try:
            outcome = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            status = self.process.exitcode or 0
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else "ended"
            raise RunError(
                f"the process of {task.label} {how}; the same command continues where it stopped "
                "(and if memory ran out, fewer --jobs need less)"
            ) from None
        return Ended(task=task, outcome=outcome, seconds=time.monotonic() - self._began)

    def leave(self) -> None:
        if self.task is not None and self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)
        else:
            with contextlib.suppress(OSError):
                self.connection.send(None)


def _work(connection: Connection, threads: int) -> None:
    """Run stages until None comes."""
    # Ctrl-C reaches the group of the terminal; the first process passes it on, once. A shell has
    # what it starts in the background ignore it, and this would be inherited.
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        while (task := tasks.get()) is not None:
            connection.send(_outcome(task))


def _receive(connection: Connection, tasks: queue.SimpleQueue[Task | None]) -> None:
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        # Nobody waits for the result any more.
        os._exit(1)


def _outcome(task: Task) -> StageOutcome | Exception:
    with contextlib.redirect_stderr(Labelled(sys.stderr, f"{task.label}: ")):
        try:
            return run_stage(
                task.kind, task.settings, command=list(task.command), reuse_complete=True
            )
        except Exception as error:
            return _portable(error)


def _portable(error: Exception) -> Exception:
    """The error as it can cross to another process, where it has no traceback of its own."""
    told = "".join(traceback.format_exception(error))
    error.add_note(told)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(told)
    return error


class Labelled(io.TextIOBase):
    """A stream whose every line begins with a label, written when it is whole."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream, self._label, self._begun = stream, label, ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        if whole:
            self._stream.write("".join(f"{self._label}{line}\n" for line in whole))
            self._stream.flush()
        return len(text)
