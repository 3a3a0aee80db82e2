"""The dashboard of a study with a hundred thousand labels, or a million: how long, and how much.

    python -m benchmarks.feedback_dashboard --labels 100000

A store is filled by bulk inserts: votes of a hundred labelers on pairs of four models, five on each
item, one item in fifty with a known answer, one label in a hundred corrected, and a preference
model's scores. Then, in a process of its own, everything that a dashboard shows is asked for over
the API: cold, as it is, and after one more label. Nothing here loads torch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import insert

from hark.feedback import accounts, assignment, events, labelling, sign_in, studies, tables
from hark.feedback.assignment import Assignment
from hark.feedback.events import NewEvent
from hark.feedback.store import Store
from hark.feedback.studies import Study, StudySettings
from hark.web import results
from hark.web.application import build_application

STUDY, OVERLAP, LABELERS, MODELS = "many", 5, 100, 4
GOLD_EVERY, CORRECTED_EVERY = 50, 100
AT_ONCE = 2000
PARTS = ("progress", "agreement", "labelers", "votes")
START = 1_700_000_000.0


def fill(store: Store, count: int) -> None:
    """A study with so many labels, and one item more that waits for one."""
    owner = accounts.create_owner(store, "owner", "a password of a benchmark")
    asked = {"name": STUDY, "title": STUDY, "task": "vote", "instructions": "Choose."}
    study = studies.create_study(
        store, StudySettings.parse({**asked, "overlap": OVERLAP, "pay_per_hour": 20}), by=owner.id
    )
    studies.set_state(store, study.id, "open", by=owner.id)
    labelers = []
    for number in range(LABELERS):
        with store.write() as connection:
            person = accounts.insert_person(connection, f"l{number}", "x", "labeler", START)
        studies.join(store, study.id, person.id)
        labelers.append((person.id, person.pseudonym))
    draw = random.Random(0)
    numbers = range(count // OVERLAP + 1)
    for start in range(0, len(numbers), AT_ONCE):
        _fill_part(store, study, labelers, numbers[start : start + AT_ONCE], draw, len(numbers))


def _fill_part(
    store: Store,
    study: Study,
    labelers: list[tuple[str, str]],
    numbers: range,
    draw: random.Random,
    total: int,
) -> None:
    rows: dict[Any, list[dict[str, Any]]] = {
        table: []
        for table in (tables.items, tables.candidates, tables.candidate_scores, tables.assignments)
    }
    kept: list[NewEvent] = []
    for number in numbers:
        new = _item(study, number, draw, last=number == total - 1)
        rows[tables.items].append(new)
        shown = [_candidate(new["id"], place, draw) for place in range(2)]
        rows[tables.candidates] += shown
        rows[tables.candidate_scores] += [
            {"model": "pm", "candidate_id": one["id"], "score": draw.gauss(0, 1), "created_at": 0.0}
            for one in shown
        ]
        if new["fill"] == "full":
            for slot, (person_id, pseudonym) in enumerate(draw.sample(labelers, OVERLAP)):
                place = None if new["slots"] is None else slot
                held = _assignment(study, new["id"], person_id, place, draw)
                rows[tables.assignments].append(held)
                kept.append(_vote(study, new, shown, held, pseudonym, draw))
    with store.write() as connection:
        for table, these in rows.items():
            if these:
                connection.execute(insert(table), these)
        events.append_fresh(connection, kept, now=START + 40 * numbers.start)
        for one in events.iterate(connection, study_id=study.id, kinds=("vote",), newest_first=True,
                                  limit=len(kept) // CORRECTED_EVERY):  # fmt: skip
            again = NewEvent(kind="vote", author=one.author, client_key=f"c{one.id}",
                             study_id=study.id, item_id=one.item_id, body=one.body,
                             assignment_id=one.assignment_id, supersedes=one.id)  # fmt: skip
            events.append(connection, again, now=one.created_at)


def _item(study: Study, number: int, draw: random.Random, *, last: bool) -> dict[str, Any]:
    gold = number % GOLD_EVERY == 0 and not last
    prompt = " ".join(draw.choices(WORDS, k=60))
    return {
        "id": f"i{number:028d}", "study_id": study.id, "position": number,
        "use": "gold" if gold else "train", "source_id": None, "votable": True,
        "content": {"kind": "vote", "prompt": [{"role": "user", "content": prompt}]},
        "gold": {"chosen": "0"} if gold else None, "slots": None if gold else OVERLAP,
        "taken": 0 if last else OVERLAP, "fill": "fresh" if last else "full",
    }  # fmt: skip


def _candidate(item_id: str, place: int, draw: random.Random) -> dict[str, Any]:
    name = f"{item_id}-{place}"
    body = {
        "id": name, "text": " ".join(draw.choices(WORDS, k=80)), "finish": "stop",
        "snapshot": f"model-{draw.randrange(MODELS)}", "sampling": None, "logprob": None,
        "error": None,
    }  # fmt: skip
    return {"id": name, "item_id": item_id, "assignment_id": None, "turn": 0, "generation": 0,
            "place": place, "body": body, "created_at": START}  # fmt: skip


def _assignment(
    study: Study, item_id: str, person_id: str, slot: int | None, draw: random.Random
) -> dict[str, Any]:
    return {"id": f"a{draw.getrandbits(112):028x}", "study_id": study.id, "item_id": item_id,
            "person_id": person_id, "state": "done", "slot": slot, "lease": 1,
            "leased_at": START, "expires_at": START + 900, "step_started_at": None,
            "finished_at": START + 60}  # fmt: skip


def _vote(
    study: Study, item: dict[str, Any], shown: list[dict[str, Any]], held: dict[str, Any],
    pseudonym: str, draw: random.Random,
) -> NewEvent:  # fmt: skip
    place = draw.choices((0, 1, None), (5, 4, 1))[0]
    body = {
        "round": 0, "use": item["use"], "gold": item["use"] == "gold", "late": False,
        "context": {"task": item["content"]}, "candidates": [one["body"] for one in shown],
        "display_order": draw.choice(([0, 1], [1, 0])),
        "answer": {"chosen": None if place is None else shown[place]["id"], "strength": None},
        "client": {"ms_active": draw.randrange(5_000, 60_000)},
    }  # fmt: skip
    return NewEvent(kind="vote", author=pseudonym, client_key=held["id"], study_id=study.id,
                    item_id=item["id"], assignment_id=held["id"], body=body)  # fmt: skip


WORDS = [f"word{number}" for number in range(500)]


def look(place: Path) -> Iterator[tuple[str, float]]:
    """Seconds for each part cold, again, and after one label; then the memory it took, in MB."""
    with Store(place) as store:
        owner = accounts.first_owner(store)
        client = TestClient(build_application(store))
        token = sign_in.create_api_token(store, owner.id, "benchmark")
        client.headers["Authorization"] = f"Bearer {token}"
        before = _resident()
        for phase in ("cold", "again", "after a label"):
            if phase == "after a label":
                _label(store)
                yield "seconds before it would be counted", _end_rest()
            for part in PARTS:
                start, used = time.perf_counter(), time.process_time()
                response = client.get(f"/api/v1/studies/{STUDY}/{part}")
                assert response.status_code == 200, response.text
                yield f"{phase}, {part}, s", time.perf_counter() - start
                yield f"{phase}, {part}, s of processor", time.process_time() - used
        yield "memory held, MB", _resident() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        yield "memory at the peak, MB", peak - before


def _end_rest() -> float:
    """What is shown of many labels is as of a while ago: count anew now; say how long that is."""
    rests = 0.0
    for watched in getattr(results, "_WATCHED", {}).values():
        for watch in watched.values():
            rests = watch.results.seconds_to_next
            watch.wake()
    return rests


def _label(store: Store) -> None:
    study = studies.find_study(store, STUDY)
    with store.write() as connection:
        person = accounts.insert_person(connection, f"l{time.time()}", "x", "labeler", START)
    studies.join(store, study.id, person.id)
    held = assignment.claim(store, study.id, person.id)
    assert isinstance(held, Assignment)
    labelling.submit(store, held.id, person.id, "vote", {"chosen": None}, client_key="k")


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _look(place: Path, told: Any) -> None:
    for name, value in look(place):
        told.send((name, value))
    told.close()


def main() -> None:
    """Measure and print; with --json, one line more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--store", type=Path, help="kept, and used again if it is there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = options.store or Path(folder) / "feedback.db"
        if not place.exists():
            start = time.perf_counter()
            with Store(place) as store:
                fill(store, options.labels)
            print(f"filled in {time.perf_counter() - start:.0f} s", flush=True)
        here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
        child = multiprocessing.get_context("spawn").Process(target=_look, args=(place, there))
        child.start()
        there.close()
        found: dict[str, float] = {}
        try:
            while True:
                name, value = here.recv()
                found[name] = value
                print(f"{name:42}{value:10.3f}", flush=True)
        except EOFError:
            child.join()
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
