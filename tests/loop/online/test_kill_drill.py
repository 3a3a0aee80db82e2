from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hark.errors import RunError
from hark.loop.online import kill_drill
from hark.loop.online.journal import Journal
from hark.loop.online.kill_drill import KILLS, LABELERS, LOOP, SERVER, Killer, drive
from hark.loop.online.place import Loop
from hark.loop.online.processes import tell_process
from hark.loop.online.settings import LoopSettings
from hark.loop.simulation.characters import CrowdSettings


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A loop's directory in which a label was acknowledged, and labelers are at work."""
    for name in ("server", "labelers"):
        (tmp_path / name).mkdir()
    acknowledge(tmp_path)
    tell_process(tmp_path / "server", LABELERS, os.getpid())
    return tmp_path


def acknowledge(place: Path) -> None:
    with (place / "labelers" / "study.jsonl").open("a") as file:
        file.write(json.dumps({"what": "receipt", "kind": "comparison"}) + "\n")


def test_kills_are_kept_and_not_done_again(place: Path, sleeper: subprocess.Popen[bytes]) -> None:
    tell_process(place / "server", SERVER, sleeper.pid)
    killer = Killer.going_on(place, [SERVER, LOOP])
    killer.look(driver=os.getpid())
    assert sleeper.wait() == -9
    assert json.loads((place / KILLS).read_text()) == {SERVER: 1}
    killer.look(driver=os.getpid())  # No label has come in since: the loop is left alone.
    again = Killer.going_on(place, [SERVER, LOOP])
    assert again.left == [LOOP]
    assert again.killed == {SERVER: 1}


def test_a_process_told_of_before_and_gone_is_no_target(
    place: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    tell_process(place / "server", SERVER, sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    killer = Killer.going_on(place, [SERVER])
    killer.look(driver=os.getpid())
    assert killer.left == [SERVER]
    assert not (place / KILLS).exists()


def test_only_kills_of_our_own_are_a_reason_to_begin_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = {"model": "gpt2"}, {"data": ["prompts.jsonl"]}
    settings = LoopSettings.parse(
        {
            "preference": model, "policy": {**model, **data}, "static": data, "measure": data,
            "collect": {"labels": 1},
        }
    )  # fmt: skip
    loop = Loop(path=place, settings=settings, journal=Journal(place / "journal.jsonl"))
    outcomes = iter([True, False])

    def killed(command: Sequence[str], killer: Killer) -> int:
        killer.killed[LOOP] += next(outcomes)
        return -9

    monkeypatch.setattr(kill_drill, "run_once", killed)
    with pytest.raises(RunError, match="killed from outside"):
        drive(loop, rounds=1, population=CrowdSettings(), kills=[LOOP])
    assert next(outcomes, None) is None
