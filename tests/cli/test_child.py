"""A command that ends with whoever started it, and by itself when it is done."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hark.cli.child", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_command_that_is_done_ends_well_while_its_parent_lives() -> None:
    with started("--version") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.wait(60) == 0, child.stderr.read()
        assert child.stderr.read() == ""


def test_a_command_that_runs_ends_with_its_parent(tmp_path: Path) -> None:
    store = str(tmp_path / "feedback.db")
    with started("serve", "--store", store, "--port", "0", "--json") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["status"] == "ready"
        child.stdin.close()
        assert child.wait(20) == 0
