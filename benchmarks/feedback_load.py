"""The feedback application under fifty labelers at once, beside a dashboard that is watched.

    python -m benchmarks.feedback_load

A `hark serve` of its own over a store on disk, simulated labelers and an owner's browser, all on
this machine. First people who think: how long requests take, by route. Then the same without
thought: how many labels a second there can be. Latencies are as clients see them, and the clients
take their share of the processor. Nothing here loads torch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hark.feedback import accounts, sign_in, studies
from hark.feedback.store import Store
from hark.loop.simulation.characters import Character, CrowdSettings, crowd
from hark.loop.simulation.crowd import Invited, Outcome, WorkSettings, timed_client, work
from hark.loop.simulation.findings import kept
from hark.loop.simulation.items import playground_items
from hark.loop.simulation.latency import Timed, by_route
from hark.web.client import FeedbackClient

LOGIN, PASSWORD = "owner", "a password of a benchmark"
REFRESHED = {"progress": 3.0, "results": 5.0}
"""Seconds between two looks at each part of the dashboard, as its page has it."""
OVERLAP = 5
ARRIVAL = 45.0
"""Seconds within which all sign in."""


@contextlib.contextmanager
def serving(place: Path) -> Iterator[str]:
    """The address of a server process over a store."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hark", "serve", "--store", str(place), "--port", str(port)]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def watching(url: str, study: str, notes: list[Timed]) -> Iterator[None]:
    """An owner with the dashboard open."""
    over = threading.Event()

    def look(part: str) -> None:
        while not over.wait(REFRESHED[part]):
            owner.page(f"/manage/{study}/dashboard/{part}")

    with timed_client(url, notes) as owner:
        owner.log_in(LOGIN, PASSWORD)
        threads = [threading.Thread(target=look, args=(part,)) for part in REFRESHED]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def make_study(owner: FeedbackClient, name: str, count: int) -> None:
    """An open study with votes for so many labels."""
    settings = {"name": name, "title": name, "task": "vote", "instructions": "Choose."}
    owner.create_study({**settings, "overlap": OVERLAP, "gold_fraction": 0.05})
    owner.add_items(name, playground_items("vote", count // OVERLAP))
    owner.set_state(name, "open")


def measure(
    url: str, store: Store, characters: tuple[Character, ...], *, pace: float, each: int
) -> dict[str, Any]:
    """Let them work; pace 0: without thought, with API tokens rather than passwords."""
    study = "thinking" if pace else "limit"
    notes: list[Timed] = []
    settings = WorkSettings(
        labels_each=each, pace=pace, pages=pace > 0, arrival_seconds=ARRIVAL if pace else 0.0
    )
    with FeedbackClient(url, login=LOGIN, password=PASSWORD) as owner:
        make_study(owner, study, round(1.5 * each * len(characters)))
        seat = Invited(owner=owner, url=url, study=study, notes=notes)
        with watching(url, study, notes):
            if pace:
                outcome = work(characters, seat, study, settings, notes=notes)
            else:
                tokens = _tokens(store, study, len(characters))
                outcome = work(
                    characters,
                    lambda one: timed_client(url, notes, tokens[one.index]),
                    study,
                    settings,
                    notes=notes,
                )
        return told(outcome, list(owner.events(study)))


def _tokens(store: Store, study: str, count: int) -> list[str]:
    """Accounts that are ready, so that no password is checked while labels are counted."""
    found = studies.find_study(store, study)
    tokens = []
    for number in range(count):
        with store.write() as connection:
            person = accounts.insert_person(
                connection, f"labeler-{number}", "x", "labeler", store.clock()
            )
        studies.join(store, found.id, person.id)
        tokens.append(sign_in.create_api_token(store, person.id, "benchmark"))
    return tokens


def told(outcome: Outcome, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates, percentiles, and that nothing went wrong."""
    ends = len(outcome.notes)
    return {
        "seconds": outcome.seconds,
        "labels": len(outcome.receipts),
        "labels_per_second": len(outcome.receipts) / outcome.seconds,
        "requests_per_second": ends / outcome.seconds,
        "errors": len(outcome.errors),
        **kept(outcome, records),
        "routes": by_route(outcome.notes),
    }


def show(name: str, found: dict[str, Any]) -> None:
    """A table for a person."""
    print(
        f"\n{name}: {found['labels']} labels in {found['seconds']:.0f} s, "
        f"{found['labels_per_second']:.1f} a second; {found['requests_per_second']:.0f} requests "
        f"a second; errors {found['errors']}, lost {found['lost']}, doubled {found['doubled']}"
    )
    print(f"{'route':45}{'requests':>9}{'p50':>7}{'p95':>7}{'p99':>7} ms")
    for line in found["routes"]:
        shown = "".join(f"{line[f'p{share}_ms']:7.0f}" for share in (50, 95, 99))
        print(f"{line['route']:45}{line['requests']:9}{shown}")


def main() -> None:
    """Measure and print; with --json, one line more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labelers", type=int, default=50)
    parser.add_argument("--pace", type=float, default=0.3, help="seconds waited for each thought")
    parser.add_argument("--each", type=int, default=14, help="labels of each who thinks")
    parser.add_argument("--rush", type=int, default=20, help="labels of each who does not")
    parser.add_argument("--directory", type=Path, help="where the store is; a disk, not memory")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    characters = crowd(CrowdSettings(labelers=options.labelers))
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        place = Path(name) / "feedback.db"
        with Store(place) as store:
            accounts.create_owner(store, LOGIN, PASSWORD)
            with serving(place) as url:
                found = {
                    "thinking": measure(
                        url, store, characters, pace=options.pace, each=options.each
                    ),
                    "limit": measure(url, store, characters, pace=0.0, each=options.rush),
                }
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    for phase, result in found.items():
        show(phase, result)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
