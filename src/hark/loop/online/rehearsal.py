"""Rounds with simulated labelers, driven from outside: for recipes, and for trying kills.

`hark loop round` runs in a process of its own; a rehearsal kills it, the server, the models' server
and the labelers with SIGKILL while labels come in, gives the same command again, and holds in the
end what labelers were told against what the exports have.
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hark.errors import HarkError, RunError
from hark.feedback.judgements import COMPARES
from hark.loop.online.labelers import STEPS, kept_ledger, ledger_path
from hark.loop.online.place import Loop
from hark.loop.online.processes import running
from hark.loop.online.votes import read_events
from hark.loop.simulation.characters import CrowdSettings
from hark.loop.simulation.ledger import held_against

POLL_SECONDS: Final = 0.05
LOOP, SERVER, MODELS, LABELERS = "loop", "server", "models", "labelers"


@dataclass(kw_only=True)
class Killer:
    """Kills processes of a loop in turn, each after another label was acknowledged."""

    loop_path: Path
    left: list[str]
    """Names of those still to be killed, in order."""
    killed: collections.Counter[str] = field(default_factory=collections.Counter)
    _labels_then: int = 0
    _pids: set[int] = field(default_factory=set)

    def look(self, driver: int) -> None:
        """Kill the next one if labels have come in since the last kill.

        driver: the process of `hark loop round`.
        """
        if not self.left or self._labels() <= self._labels_then:
            return
        name = self.left[0]
        found = running(self.loop_path / "server")
        pid = driver if name == LOOP else found.get(name)
        # All that is to be killed is at work again after the last kill.
        if pid is None or pid in self._pids or LABELERS not in found:
            return
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._pids.add(pid)
        self.killed[name] += 1
        self.left.pop(0)
        self._labels_then = self._labels()

    def _labels(self) -> int:
        """Acknowledged labels in all ledgers."""
        marks = [f'"kind": "{kind}"'.encode() for kind in sorted(COMPARES)]
        return sum(
            line.startswith(b'{"what": "receipt"') and any(mark in line for mark in marks)
            for path in (self.loop_path / "labelers").glob("*.jsonl")
            for line in path.read_bytes().split(b"\n")
        )


def drive(
    loop: Loop, *, rounds: int, population: CrowdSettings, kills: Sequence[str] = ()
) -> dict[str, int]:
    """Go on until so many rounds are finished; how often each process was killed.

    kills: names of processes to kill, in order.
    Raises: RunError if a round fails by itself, or there was nothing left to kill them at.
    """
    dials = {name: value for name, value in population.given().items() if name != "labelers"}
    command = [
        "loop", "round", str(loop.path), "--rounds", str(rounds),
        "--simulate", str(population.labelers),
        *(part for name, value in dials.items() for part in ("--crowd", f"{name}={value}")),
        "--json",
    ]  # fmt: skip
    killer = Killer(loop_path=loop.path, left=list(kills))
    while True:
        status = _run(command, killer)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise RunError(f"`hark loop round` ended with status {status}: see its messages above")
    if killer.left:
        raise RunError(f"the rounds were over before {', '.join(killer.left)} could be killed")
    return dict(killer.killed)


def _run(command: Sequence[str], killer: Killer) -> int:
    start = [sys.executable, "-m", "hark.cli.child", *command]
    with subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        try:
            while child.poll() is None:
                killer.look(child.pid)
                time.sleep(POLL_SECONDS)
        except BaseException:
            child.kill()
            raise
    return child.returncode


def check_exports(loop: Loop) -> dict[str, int]:
    """What simulated labelers were told against the events of all exports.

    Raises: HarkError if something was lost or doubled, or is there that nobody sent.
    """
    total: collections.Counter[str] = collections.Counter()
    for facts in loop.exports().values():
        if ledger_path(loop, facts["study"]).exists():
            total.update(_check_export(loop, facts))
    if total["lost"] or total["doubled"] or total["unasked"]:
        raise HarkError(f"labels were not kept as they were acknowledged: {dict(total)}")
    return dict(total)


def _check_export(loop: Loop, facts: Mapping[str, Any]) -> dict[str, int]:
    with kept_ledger(loop, facts["study"]) as ledger:
        receipts = list(ledger.receipts.values())
    ours = {one.labeler for one in receipts}
    events = [one.to_json() for one in read_events(Path(facts["path"])) if one.author in ours]
    return held_against(receipts, events, STEPS)
