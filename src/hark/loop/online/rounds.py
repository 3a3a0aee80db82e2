"""The rounds of a loop: the algorithm (2204.05862), one journalled step after another.

round 0:  merge static; train preference model and policy; measure
round K:  previous and new snapshots answer → collect → merge all tranches → train preference
          model and policy from their checkpoints → measure, compare → finished
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hark.loop.online.application import application
from hark.loop.online.collecting import Waiting, fetch_export, open_study, wait_for_labels
from hark.loop.online.labelers import check_receipts
from hark.loop.online.place import START, Loop
from hark.loop.online.processes import KeptProcess
from hark.loop.online.settings import QuotaSettings
from hark.loop.online.training import compare, measure, merge, train
from hark.loop.pipeline import say
from hark.loop.simulation.characters import CrowdSettings
from hark.loop.stages import STAGES, run_stage

ONLINE, REJECTION = "online", "rejection"


@dataclass(frozen=True, kw_only=True)
class Request:
    """How far to go, and who labels."""

    rounds: int | None = None
    """Until so many are finished; None: the one under way, or the next."""
    population: CrowdSettings | None = None
    """Simulated labelers; None: people."""
    stays: bool = False
    """Wait for people."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One study of a round."""

    tranche: str
    study: str
    task: str
    quota: QuotaSettings
    answering: dict[str, str]
    """Name → model of the snapshots."""
    best_of: int = 1

    @property
    def live(self) -> bool:
        """Whether they answer while people work."""
        return self.task == "dialogue"


def go_on(loop: Loop, request: Request) -> Waiting | None:
    """Go on with a loop that this process holds; what waits for people, if that is where it stops.

    Raises: HarkError of the stage or server that failed.
    """
    wanted = request.rounds
    if wanted is None:
        wanted = max(1, loop.journal.rounds_finished + 1)
    for number in range(loop.journal.rounds_finished + 1, wanted + 1):
        waiting = run_round(loop, number, request)
        if waiting is not None:
            return waiting
    return None


def run_round(loop: Loop, number: int, request: Request) -> Waiting | None:
    """One round; every step that the journal has is left out."""
    journal = loop.journal
    if number > 0:
        waiting = collect(loop, number, request)
        if waiting is not None:
            return waiting
    journal.once(number, "merged", _said(number, "merge", lambda: merge(loop, number)))
    made = journal.once(
        number, "preference",
        _said(number, "preference model", lambda: train(loop, "preference", number)),
    )  # fmt: skip
    journal.once(
        number, "policy",
        _said(number, "policy", lambda: train(loop, "ppo", number, preference=made["run"])),
    )  # fmt: skip
    journal.once(number, "measured", _said(number, "measure", lambda: measure(loop, number)))
    journal.once(number, "compared", _said(number, "compare", lambda: compare(loop, number)))
    journal.once(number, "finished", dict)
    say(f"round {number} is finished")
    return None


def _said(
    number: int, what: str, do: Callable[[], Mapping[str, Any]]
) -> Callable[[], Mapping[str, Any]]:
    def said() -> Mapping[str, Any]:
        say(f"[round {number}] {what}")
        return do()

    return said


def collections_of(loop: Loop, number: int) -> list[Collection]:
    """The studies of a round, in their order."""
    settings = loop.settings
    found: list[Collection] = []
    if settings.rejection is not None and number <= settings.rejection.rounds:
        best_of = settings.rejection.best_of
        found.append(
            Collection(
                tranche=f"{REJECTION}-{number}",
                study=f"{settings.name}-round-{number}-{REJECTION}",
                task="vote",
                quota=settings.rejection,
                answering={f"{loop.snapshot(START)}-best-of-{best_of}": settings.start},
                best_of=best_of,
            )
        )
    # Policies of this round and later ones do not exist yet where it is gone through again.
    known = [loop.snapshot(START), *(loop.snapshot(each) for each in range(number))]
    models = loop.snapshots()
    found.append(
        Collection(
            tranche=f"{ONLINE}-{number}",
            study=f"{settings.name}-round-{number}",
            task=settings.collect.task,
            quota=settings.collect,
            answering={name: models[name] for name in known[-settings.collect.snapshots :]},
        )
    )
    return found


def collect(loop: Loop, number: int, request: Request) -> Waiting | None:
    """Every study of a round, closed and exported."""
    for one in collections_of(loop, number):
        if loop.journal.find(number, f"{one.tranche}: exported") is not None:
            continue
        waiting = collect_one(loop, number, one, request)
        if waiting is not None:
            return waiting
    return None


def collect_one(loop: Loop, number: int, one: Collection, request: Request) -> Waiting | None:
    """Items → opened → closed → exported."""
    journal, settings = loop.journal, loop.settings

    def step(name: str, do: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        return journal.once(number, f"{one.tranche}: {name}", do)

    made = step("items", _said(number, f"{one.tranche}: items", lambda: _items(loop, number, one)))
    live = one.answering if one.live else {}
    study = settings.study(one.study, round=number, task=one.task, live=tuple(live))
    say(f"[round {number}] {one.tranche}: study '{one.study}'")
    with contextlib.ExitStack() as stack:
        there = request.stays or request.population is not None
        people = request.population is None
        reached = stack.enter_context(application(loop, live, stays=there, people=people))
        client = reached.client
        opened = step("opened", lambda: open_study(client, study, _read_items(loop, made, one)))
        if journal.find(number, f"{one.tranche}: closed") is None:
            crowd = _labelers(loop, one.study, request.population)
            labelers = None if crowd is None else stack.enter_context(crowd)
            closed = wait_for_labels(
                reached, opened, one.quota, labelers=labelers, stays=request.stays
            )
            if isinstance(closed, Waiting):
                return closed
            checked = check_receipts(loop, one.study, client)
            step("closed", lambda: {**closed, "receipts": checked})
        graded = one.live
        exported = step(
            "exported",
            lambda: fetch_export(
                client, one.study, loop.path / "exports",
                minimum_strength=settings.collect.minimum_strength if graded else 0,
            ),
        )  # fmt: skip
    say(f"[round {number}] {one.tranche}: {exported['labels']} labels in {exported['path']}")
    return None


def _items(loop: Loop, number: int, one: Collection) -> dict[str, Any]:
    """What is put into the study: sampled by a stage; of dialogues, only their number."""
    settings = loop.settings
    if one.live:
        return {"items": one.quota.items, "snapshots": one.answering}
    best = one.best_of > 1
    collected = settings.collect
    values: dict[str, Any] = {
        "name": f"{settings.name}-{one.tranche}",
        "snapshots": {
            name: {"model": model, "best_of": one.best_of} for name, model in one.answering.items()
        },
        "data": [str(path) for path in (settings.rejection_prompts if best else collected.prompts)],
        "task": one.task,
        "responses": 2 if best else collected.responses,
        "start": (number - 1) * one.quota.items,
        "limit": one.quota.items,
        "sampling": {
            "temperature": collected.sampling.temperature,
            "top_p": collected.sampling.top_p,
            "max_response_tokens": collected.max_response_tokens,
        },
        "seed": settings.seed + 1000 * number + (500 if best else 0),
        "device": settings.device,
        "dtype": settings.dtype,
        "output": str(loop.runs),
    }
    if best:
        values["scorer"] = loop.journal.facts(number - 1, "preference")["run"]
    parsed = STAGES["items"].settings.parse(values, where=f"items of '{one.tranche}'")
    done = run_stage("items", parsed, command=["hark", *sys.argv[1:]], reuse_complete=True)
    return {
        "items": done.results["items"],
        "snapshots": one.answering,
        "run": str(done.run_path),
        "left_out": done.results["left_out"],
    }


def _read_items(loop: Loop, made: Mapping[str, Any], one: Collection) -> list[dict[str, Any]]:
    if not one.live:
        lines = (Path(made["run"]) / "data" / "items.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in lines.split("\n") if line]
    task = {"kind": "dialogue", "maximum_turns": loop.settings.collect.maximum_turns}
    return [{"id": f"{one.study}-{place}", "task": task} for place in range(made["items"])]


def _labelers(loop: Loop, study: str, population: CrowdSettings | None) -> KeptProcess | None:
    if population is None:
        return None
    dials = {name: value for name, value in population.given().items() if name != "labelers"}
    options = [part for name, value in dials.items() for part in ("--crowd", f"{name}={value}")]
    command = [
        "loop", "simulate", str(loop.path), "--study", study,
        "--labelers", str(population.labelers), *options, "--json",
    ]  # fmt: skip
    return KeptProcess("labelers", command, folder=loop.path / "server", serves=False)
