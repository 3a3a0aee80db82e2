"""Models of ours in a process of its own: `hark serve-model`, ended with this process.

The web process loads no torch. A child that ends is told, and started again if it has served; one
that never served is not, for it would fail again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hark.errors import ModelError
from hark.web.live.endpoints import LiveModel, LiveModels

GETTING_READY: Final = "the models are getting ready: this takes a few minutes"
Paths = Mapping[str, str]
"""Name → model directory or run."""


class LocalModels:
    """The processes behind models that this server serves itself."""

    def __init__(
        self,
        models: LiveModels,
        find_paths: Callable[[Callable[[Sequence[str]], dict[str, Any]]], Paths],
        *,
        say: Callable[[str], None],
        on_ready: Callable[[list[str]], None],
    ) -> None:
        """models: where they are put once they answer.

        find_paths: which; it is handed a function that runs a hark command in a process of its own
        and returns what that prints with `--json`.
        say: told each line that a child writes for people; on_ready: told the names.
        """
        self.models, self.find_paths, self.say, self.on_ready = models, find_paths, say, on_ready
        models.getting_ready = GETTING_READY
        self._child: subprocess.Popen[str] | None = None
        self._ending = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="hark-local-models", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def end(self) -> None:
        """End the processes, and wait for that."""
        with self._lock:
            self._ending = True
            if self._child is not None:
                self._child.kill()
        self._thread.join()

    def _work(self) -> None:
        try:
            paths = self.find_paths(self._run)
            while not self._ending:
                self._serve(paths)
                if not self._ending:
                    self.say("the models' process has ended; it is started again")
        except ModelError as error:
            if not self._ending:
                self.models.getting_ready = (
                    "the models could not be started: the server's output says why"
                )
                self.say(str(error))

    def _run(self, command: Sequence[str]) -> dict[str, Any]:
        """The JSON object that a command ends with. Raises: ModelError if it fails."""
        with self._started(command) as child:
            last, heard = "", _Listener(child, self.say)
            assert child.stdout is not None
            for line in child.stdout:
                last = line
            self._check_ended_well(child, command, heard)
        try:
            found: dict[str, Any] = json.loads(last)
        except ValueError:
            raise ModelError(f"`hark {command[0]}` did not end with JSON: {last[:200]}") from None
        return found

    def _serve(self, paths: Paths) -> None:
        """Serve until the process ends. Raises: ModelError if it ends before it has served."""
        named = [f"{name}={path}" for name, path in paths.items()]
        command = ["serve-model", *named, "--port", "0", "--json"]
        with self._started(command) as child:
            heard = _Listener(child, self.say)
            assert child.stdout is not None
            try:
                url = json.loads(child.stdout.readline())["url"]
            except (ValueError, KeyError):
                self._check_ended_well(child, command, heard)
                raise ModelError("`hark serve-model` did not say where it serves") from None
            self.models.put([LiveModel(name, f"{url}#{name}") for name in paths])
            self.on_ready(list(paths))
            child.wait()
            heard.join()

    def _started(self, command: Sequence[str]) -> subprocess.Popen[str]:
        with self._lock:
            if self._ending:
                raise ModelError("the server ends")
            self._child = subprocess.Popen(
                [sys.executable, "-m", "hark.cli.child", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for us, and we end the child.
            )
            return self._child

    def _check_ended_well(
        self, child: subprocess.Popen[str], command: Sequence[str], heard: _Listener
    ) -> None:
        status = child.wait()
        heard.join()
        if status != 0 or self._ending:
            raise ModelError(f"`hark {command[0]}` ended with status {status}: no model answers")


class _Listener(threading.Thread):
    """Repeats what a child says for people."""

    def __init__(self, child: subprocess.Popen[str], say: Callable[[str], None]) -> None:
        super().__init__(name="hark-child-errors", daemon=True)
        self.child, self.say = child, say
        self.start()

    def run(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.say(line.rstrip())
