"""hark commands in processes of their own, started again whenever they end. No torch.

They end with this process, however that ends: their standard input is a pipe from here
(`hark.cli.child`).
"""

from __future__ import annotations

import collections
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from hark.errors import RunError
from hark.runs.files import write_json

FAILURES_BEFORE_GIVING_UP: Final = 20
"""In a row, without having become ready; a port may still be held by a process that is ending."""
PAUSE_SECONDS: Final = 0.5
LINES_KEPT: Final = 20
PROCESSES: Final = "processes.json"


class KeptProcess:
    """One command. `hark serve` and its like say on stdout, in a line of JSON, when they are ready;
    another command is done once it has ended with status 0."""

    def __init__(
        self, name: str, command: Sequence[str], *, folder: Path, serves: bool, way_out: str = ""
    ) -> None:
        """folder: where its process id is told, and its stderr kept.

        serves: whether it is ready when it says so, and never done.
        way_out: what may help if it cannot be started.
        """
        self.name, self.command, self.folder, self.serves = name, list(command), folder, serves
        self._way_out = way_out
        self.said: dict[str, Any] = {}
        """The first line of a server."""
        self.starts = 0
        self._child: subprocess.Popen[str] | None = None
        self._ending = False
        self._lock = threading.Lock()
        self._ready, self._done = threading.Event(), threading.Event()
        self._failure = ""
        self._last_lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        self._thread = threading.Thread(target=self._keep, name=f"hark-{name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ending = True
            if self._child is not None:
                self._child.kill()
        self._thread.join()
        tell_process(self.folder, self.name, None)

    def wait_ready(self) -> dict[str, Any]:
        """What a server says once requests are answered. Raises: RunError if it fails."""
        while not self._ready.wait(PAUSE_SECONDS):
            self.check()
        return self.said

    @property
    def done(self) -> bool:
        """Whether a command that does not serve has ended well."""
        return self._done.is_set()

    def check(self) -> None:
        """Raises: RunError if it cannot be started."""
        if self._failure:
            raise RunError(self._failure)

    def _keep(self) -> None:
        failures = 0
        while not self._ending and not self._done.is_set():
            was_ready, status = self._run_once()
            if status == 0 and not self.serves:
                self._done.set()
                return
            failures = 0 if was_ready else failures + 1
            # What a signal ended may well go better the next time, but not for ever.
            hopeless = status >= 0 and not self.serves
            if failures > FAILURES_BEFORE_GIVING_UP or (failures and hopeless):
                self._failure = self._why(status)
                return
            if failures:
                time.sleep(PAUSE_SECONDS)

    def _why(self, status: int) -> str:
        """Why it was given up."""
        command = f"`hark {self.command[0]}`"
        if status < 0:
            name = signal.Signals(-status).name
            memory = " (memory may have run out)" if name == "SIGKILL" else ""
            return f"{command} was ended by {name} again and again{memory}{self._way_out}"
        last = " ".join(self._last_lines)[-500:]
        return f"{command} ended with status {status}: {last}{self._way_out}"

    def _run_once(self) -> tuple[bool, int]:
        """Whether it became ready, and its exit status."""
        with self._lock:
            if self._ending:
                return True, 0
            self._child = child = subprocess.Popen(
                [sys.executable, "-m", "hark.cli.child", *self.command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                start_new_session=True,  # Ctrl-C is for us, and we end the child.
            )  # fmt: skip
        self.starts += 1
        tell_process(self.folder, self.name, child.pid)
        listener = threading.Thread(target=self._listen, args=(child,), daemon=True)
        listener.start()
        assert child.stdout is not None
        ready = False
        for line in child.stdout:
            if self.serves and not ready:
                ready = self._take(line)
        status = child.wait()
        listener.join()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        return ready, status

    def _take(self, line: str) -> bool:
        try:
            self.said = json.loads(line)
        except ValueError:
            return False
        if self.said.get("status") != "ready":
            return False
        self._ready.set()
        return True

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stderr is not None
        with (self.folder / f"{self.name}.log").open("a", encoding="utf-8") as log:
            for line in child.stderr:
                self._last_lines.append(line.strip())
                log.write(line)
                log.flush()


_TELLING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldProcess:
    """A process as it was told; its number alone may be another's by now."""

    pid: int
    started: int | None
    """When, in ticks since the machine was; None where the system does not say (no /proc)."""

    @property
    def is_there(self) -> bool:
        """Whether it still runs, and is no other that got its number."""
        return self.started is not None and started_at(self.pid) == self.started

    def kill(self) -> bool:
        """End it with SIGKILL; False if it is not there any more."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The handle stays with one process, so that nobody's can come in between.
            if not self.is_there:
                return False
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since the machine did; None if there is none that runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is a name in parentheses, which may hold anything; proc(5) counts from 1.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[22 - 4])


def tell_process(folder: Path, name: str, pid: int | None) -> None:
    """Write down which process does what, for whoever has to end one; None: it has ended."""
    with _TELLING:
        told = {key: asdict(one) for key, one in _told(folder).items()}
        told.pop(name, None)
        if pid is not None:
            told[name] = asdict(ToldProcess(pid=pid, started=started_at(pid)))
        write_json(folder / PROCESSES, told)


def forget_processes(folder: Path) -> None:
    """Tell of none: whoever was told of worked for a command that is over."""
    with _TELLING:
        (folder / PROCESSES).unlink(missing_ok=True)


def running(folder: Path) -> dict[str, ToldProcess]:
    """Name → process, of those told that still run."""
    return {name: one for name, one in _told(folder).items() if one.is_there}


def _told(folder: Path) -> dict[str, ToldProcess]:
    try:
        found = json.loads((folder / PROCESSES).read_text(encoding="utf-8"))
        return {name: ToldProcess(**one) for name, one in found.items()}
    except (OSError, ValueError, TypeError):
        return {}


def kept_port(folder: Path, name: str, host: str, wanted: int, *, secret: bool = False) -> int:
    """The port of a server: the one wanted, else a free one, the same from then on.

    secret: nobody outside knows it, so that another is chosen if it was taken in the meantime.
    """
    if wanted:
        return wanted
    path = port_file(folder, name)
    if not path.exists() or (secret and _is_taken(host, int(path.read_text()))):
        with socket.create_server((host, 0)) as free:
            port = free.getsockname()[1]
        aside = path.with_name(f".{path.name}.partial")
        aside.write_text(str(port))
        aside.replace(path)
    return int(path.read_text())


def port_file(folder: Path, name: str) -> Path:
    """Where the port of a server is kept."""
    return folder / f"{name}-port"


def _is_taken(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False
