from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from hark.errors import RunError
from hark.loop.online import processes
from hark.loop.online.processes import (
    KeptProcess,
    ToldProcess,
    forget_processes,
    kept_port,
    port_file,
    running,
    started_at,
    tell_process,
)
from hark.runs.files import write_json


def test_a_process_told_of_is_found_and_killed(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    tell_process(tmp_path, "server", sleeper.pid)
    told = running(tmp_path)["server"]
    assert told.pid == sleeper.pid
    assert told.kill()
    assert sleeper.wait() == -9
    assert running(tmp_path) == {}
    assert not told.kill()


def test_a_stranger_with_the_number_of_an_ended_process_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    started = started_at(sleeper.pid)
    assert started is not None
    ended = ToldProcess(pid=sleeper.pid, started=started - 1)
    write_json(tmp_path / processes.PROCESSES, {"server": asdict(ended)})
    assert running(tmp_path) == {}
    assert not ended.kill()
    assert sleeper.poll() is None


def test_who_ended_and_was_not_waited_for_does_not_run(
    sleeper: subprocess.Popen[bytes],
) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert started_at(sleeper.pid) is None


def test_a_command_that_begins_forgets_what_was_told(tmp_path: Path) -> None:
    tell_process(tmp_path, "loop", os.getpid())
    assert set(running(tmp_path)) == {"loop"}
    forget_processes(tmp_path)
    assert running(tmp_path) == {}
    forget_processes(tmp_path)


def test_a_secret_port_that_another_took_is_chosen_anew(tmp_path: Path) -> None:
    first = kept_port(tmp_path, "server", "127.0.0.1", 0)
    assert kept_port(tmp_path, "server", "127.0.0.1", 0, secret=True) == first
    with socket.create_server(("127.0.0.1", first)):
        assert kept_port(tmp_path, "server", "127.0.0.1", 0) == first
        second = kept_port(tmp_path, "server", "127.0.0.1", 0, secret=True)
    assert second != first
    assert port_file(tmp_path, "server").read_text() == str(second)
    assert kept_port(tmp_path, "server", "127.0.0.1", 8080, secret=True) == 8080


class Killed(KeptProcess):
    """One that somebody kills at every start."""

    def _run_once(self) -> tuple[bool, int]:
        self.starts += 1
        return False, -9


def test_who_is_killed_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(processes, "FAILURES_BEFORE_GIVING_UP", 3)
    kept = Killed("labelers", ["loop"], folder=tmp_path, serves=False, way_out="; do this")
    kept._keep()
    with pytest.raises(RunError, match="SIGKILL again and again .*; do this"):
        kept.check()
    assert kept.starts == 4
