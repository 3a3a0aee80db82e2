"""Fifty labelers at once, and a server that is killed ten times under their hands."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.feedback.workshop import Workshop

from hark.feedback import events, items, sign_in
from hark.feedback.store import Store
from hark.loop.simulation.characters import Character, CrowdSettings, crowd
from hark.loop.simulation.crowd import Outcome, WorkSettings, timed_client, work
from hark.loop.simulation.findings import kept
from hark.loop.simulation.items import playground_items
from hark.loop.simulation.latency import Timed
from hark.web.client import FeedbackClient, Patience

LABELERS, ITEMS, OVERLAP, KILLS = 50, 100, 5, 10
PATIENCE = Patience(seconds=120, first_wait_seconds=0.05, longest_wait_seconds=0.5)

SERVERS = """
import os, socket, sys
from hark.feedback.store import Store
from hark.web.application import build_application
from hark.web.server import make_server

def serve():
    listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    application = build_application(Store(sys.argv[1]))
    make_server(application, lambda: None).run(sockets=[listening])

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        serve()
        os._exit(1)
    print(child, flush=True)
    os.waitpid(child, 0)
"""
"""Starts a server for each line, once the one before is dead; what is imported is imported once."""


class Servers:
    """One server after another over one store, at one port; each dies by SIGKILL."""

    def __init__(self, place: Path, port: int) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, "-c", SERVERS, str(place), str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.kills = 0
        self.start()

    def start(self) -> None:
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write("start\n")
        self.child = int(self.parent.stdout.readline())

    def kill(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        self.kills += 1

    def close(self) -> None:
        self.kill()
        self.parent.communicate()


class Notes(list[Timed]):
    """Notes of requests; at every so many labels that are acknowledged, the server is killed."""

    def __init__(self, servers: Servers, every: int) -> None:
        super().__init__()
        self.servers, self.every = servers, every
        self.acknowledged, self.lock = 0, threading.Lock()

    def append(self, one: Timed) -> None:
        super().append(one)
        if one.status != 200 or not one.route.endswith("/steps"):
            return
        with self.lock:
            self.acknowledged += 1
            if self.acknowledged % self.every == 0 and self.servers.kills < KILLS:
                self.servers.kill()
                self.servers.start()


def test_fifty_labelers_lose_and_double_nothing_though_the_server_is_killed_ten_times(
    tmp_path: Path,
) -> None:
    place = tmp_path / "feedback.db"
    characters = crowd(CrowdSettings(labelers=LABELERS))
    with Store(place) as store:
        workshop = Workshop(store)
        study = workshop.study(overlap=OVERLAP)
        added = items.add_items(
            store, study.id, playground_items("vote", ITEMS), by=workshop.owner.id
        )
        people = [workshop.labeler(study) for _ in characters]
        tokens = [sign_in.create_api_token(store, one.id, "test") for one in people]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    servers = Servers(place, port)
    notes = Notes(servers, every=ITEMS * OVERLAP // (KILLS + 2))

    def seat(character: Character) -> FeedbackClient:
        token = tokens[character.index]
        return timed_client(f"http://127.0.0.1:{port}", notes, token, patience=PATIENCE)

    try:
        outcome = work(
            characters, seat, study.settings.name, WorkSettings(away_seconds=0.1), notes=notes
        )
    finally:
        servers.close()
    assert servers.kills == KILLS + 1  # The last one was in the end.
    assert any(one.status is None for one in outcome.notes)
    with Store(place) as store, store.read() as connection:
        records = [one.to_json() for one in events.iterate(connection, study_id=study.id)]
    check(outcome, records, places=len(added) * OVERLAP)


def check(outcome: Outcome, records: list[dict[str, Any]], *, places: int) -> None:
    """No errors; labels are those that were acknowledged, each once, and none too many."""
    assert outcome.errors == []
    assert kept(outcome, records) == {"lost": 0, "doubled": 0, "altered": 0}
    votes = [one for one in records if one["kind"] == "vote"]
    assert sorted(one["event_id"] for one in votes) == sorted(
        one.event_id for one in outcome.receipts
    )
    assert len({one["event_id"] for one in votes}) == len(votes) > 0.8 * places
    assert max(Counter((one["task_id"], one["labeler"]) for one in votes).values()) == 1
    on_items = Counter(one["task_id"] for one in votes if not one["late"] and one["use"] == "train")
    assert max(on_items.values()) <= OVERLAP
    assert len({one["labeler"] for one in votes}) > LABELERS / 2
