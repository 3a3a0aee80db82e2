"""Rounds with simulated labelers, driven from outside: for recipes, and for kill drills.

`hark loop round` runs in a process of its own; a drill kills it, the server, the models' server and
the labelers with SIGKILL while labels come in, gives the same command again, and holds in the end
what labelers were told against the server's log and the exports. Drills need Linux: a process is
told from another with the same number by when it started.
"""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hark.errors import RunError
from hark.feedback.events import LABELS
from hark.feedback.judgements import COMPARES
from hark.loop.online.labelers import kept_ledger, ledger_path
from hark.loop.online.place import Loop
from hark.loop.online.processes import ToldProcess, running, started_at
from hark.loop.online.votes import read_events
from hark.loop.simulation.characters import CrowdSettings
from hark.loop.simulation.ledger import held_against
from hark.runs.files import write_json

POLL_SECONDS: Final = 0.05
LOOP, SERVER, MODELS, LABELERS = "loop", "server", "models", "labelers"
KILLS: Final = "kills.json"


@dataclass(kw_only=True)
class Killer:
    """Kills processes of a loop in turn, each after another label was acknowledged.

    How often is kept in the loop's directory, so that a drill may be gone on with.
    """

    loop_path: Path
    left: list[str]
    """Names of those still to be killed, in order."""
    killed: collections.Counter[str] = field(default_factory=collections.Counter)
    _labels_then: int = 0
    _done_to: set[ToldProcess] = field(default_factory=set)

    @classmethod
    def going_on(cls, loop_path: Path, names: Sequence[str]) -> Killer:
        """One that leaves out what was killed before."""
        killed = kills_so_far(loop_path)
        left = list(names)
        for name in killed.elements():
            if name in left:
                left.remove(name)
        return cls(loop_path=loop_path, left=left, killed=killed)

    def look(self, driver: int) -> None:
        """Kill the next one if labels have come in since the last kill.

        driver: the process of `hark loop round`, a child that nobody has waited for yet.
        """
        if not self.left or self._labels() <= self._labels_then:
            return
        name = self.left[0]
        found = running(self.loop_path / "server")
        own = ToldProcess(pid=driver, started=started_at(driver))
        process = own if name == LOOP else found.get(name)
        # All that is to be killed is at work again after the last kill.
        if process is None or process in self._done_to or LABELERS not in found:
            return
        if not process.kill():
            return
        self._done_to.add(process)
        self.killed[name] += 1
        write_json(self.loop_path / KILLS, dict(self.killed))
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


def kills_so_far(loop_path: Path) -> collections.Counter[str]:
    """How often each process of a loop was killed by drills."""
    try:
        return collections.Counter(json.loads((loop_path / KILLS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return collections.Counter()


def drive(
    loop: Loop, *, rounds: int, population: CrowdSettings, kills: Sequence[str] = ()
) -> dict[str, int]:
    """Go on until so many rounds are finished; how often each process was killed, in all.

    kills: names of processes to kill, in order; those that were killed before are left out, and
    those that there was no label left to kill at are not in the answer.
    Raises: RunError if a round fails by itself, or is killed by somebody else.
    """
    dials = {name: value for name, value in population.given().items() if name != "labelers"}
    command = [
        "loop", "round", str(loop.path), "--rounds", str(rounds),
        "--simulate", str(population.labelers),
        *(part for name, value in dials.items() for part in ("--crowd", f"{name}={value}")),
        "--json",
    ]  # fmt: skip
    killer = Killer.going_on(loop.path, kills)
    while True:
        before = killer.killed[LOOP]
        status = run_once(command, killer)
        if status == 0:
            return dict(killer.killed)
        if status == -signal.SIGKILL and killer.killed[LOOP] > before:
            continue
        if status == -signal.SIGKILL:
            raise RunError(
                "`hark loop round` was killed from outside (memory may have run out): see to that, "
                "then continue the run"
            )
        raise RunError(f"`hark loop round` ended with status {status}: see its messages above")


def run_once(command: Sequence[str], killer: Killer) -> int:
    """The exit status of a hark command that a killer looks at; −9 if it was killed."""
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


def held_receipts(loop: Loop) -> dict[str, dict[str, int]]:
    """What simulated labelers were told, held against what was kept, as counts.

    `steps`: every step against the server's log, when its study was closed. `exported_labels`:
    labels against the exports, which have no messages.
    """
    steps: collections.Counter[str] = collections.Counter()
    for entry in loop.journal.entries:
        if entry.step.endswith(": closed"):
            steps.update(entry.facts["receipts"])
    labels: collections.Counter[str] = collections.Counter()
    for facts in loop.exports().values():
        if ledger_path(loop, facts["study"]).exists():
            labels.update(_held_export(loop, facts))
    counted = ("acknowledged", "lost", "doubled", "unasked")
    return {
        "steps": {name: steps[name] for name in counted},
        "exported_labels": {name: labels[name] for name in counted},
    }


def _held_export(loop: Loop, facts: Mapping[str, Any]) -> dict[str, int]:
    with kept_ledger(loop, facts["study"]) as ledger:
        receipts = [one for one in ledger.receipts.values() if one.kind in LABELS]
    ours = {one.labeler for one in receipts}
    events = [one.to_json() for one in read_events(Path(facts["path"])) if one.author in ours]
    return held_against(receipts, events, LABELS)
