"""A claim finds the next item by index, and whatever comes back or opens up is found again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, update
from tests.feedback.workshop import Clock, Workshop, vote_item

from hark.feedback import assignment, items, labelling, studies
from hark.feedback.assignment import Assignment, Nothing
from hark.feedback.identifiers import new_id
from hark.feedback.records import Candidate
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.feedback.tables import assignments
from hark.feedback.tables import items as items_table
from hark.feedback.tables import studies as studies_table

PER_TICK = 20


@contextmanager
def counting_work(store: Store) -> Iterator[list[int]]:
    """The steps of SQLite's machine meanwhile, in twenties: work that no other process slows."""
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(count, PER_TICK)

    event.listen(store.engine, "checkout", watch)
    try:
        yield steps
    finally:
        event.remove(store.engine, "checkout", watch)
        with store.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.set_progress_handler(None, 0)


def fill(workshop: Workshop, study: Study, person_id: str, count: int) -> None:
    """Items of two places each; the labeler has done the first half, and nobody else any."""
    (example,) = workshop.votes(study, 1)
    with workshop.store.write() as connection:
        table = items_table
        row = connection.execute(table.select().where(table.c.id == example)).one()._asdict()
        names = [new_id() for _ in range(count)]
        half = count // 2
        rows = [
            {**row, "id": name, "position": n, "queue": n + 1, "taken": int(n <= half)}
            | {"fill": "begun" if n <= half else "fresh", "source_id": None}
            for n, name in enumerate(names, start=1)
        ]
        connection.execute(insert(table), rows)
        done = [
            {"id": new_id(), "study_id": study.id, "item_id": name, "person_id": person_id}
            | {"state": "done", "slot": 0, "leased_at": 0.0, "expires_at": 0.0, "keyed": True}
            for name in names[:half]
        ]
        connection.execute(insert(assignments), done)
        counted = update(studies_table).where(studies_table.c.id == study.id)
        connection.execute(counted.values(queued=count + 1))


def label_next(workshop: Workshop, study: Study, person_id: str) -> Assignment:
    held = assignment.claim(workshop.store, study.id, person_id)
    assert isinstance(held, Assignment)
    labelling.submit(
        workshop.store, held.id, person_id, "vote", {"chosen": None}, client_key=new_id()
    )
    return held


def work_of_claims(tmp_path: Path, clock: Clock, count: int) -> int:
    """The most that one of five claims takes.

    The first claim is not measured: it passes, once, what was done before there was a queue.
    """
    with Store(tmp_path / f"{count}.db", clock=clock) as store:
        workshop = Workshop(store)
        study = workshop.study(overlap=2)
        person = workshop.labeler(study)
        fill(workshop, study, person.id, count)
        first = assignment.claim(store, study.id, person.id)
        assert isinstance(first, Assignment)
        most = 0
        for _ in range(5):
            assignment.skip(store, first.id, person.id, "no", client_key=new_id())
            with counting_work(store) as steps:
                first = assignment.claim(store, study.id, person.id)
            assert isinstance(first, Assignment)
            most = max(most, steps[0])
        return most


def test_a_claim_does_not_walk_past_what_a_labeler_has_done(tmp_path: Path, clock: Clock) -> None:
    """100 000 items, half of them done: a claim takes at most twice the work of one among 1000."""
    few, many = (work_of_claims(tmp_path, clock, count) for count in (1000, 100_000))
    assert 0 < many <= 2 * few, (few, many)


def test_what_others_begin_comes_first_in_the_order_in_which_they_began(
    workshop: Workshop,
) -> None:
    study = workshop.study(overlap=2)
    workshop.votes(study, 4)
    one, other, third = (workshop.labeler(study) for _ in range(3))
    firsts = [label_next(workshop, study, one.id).item_id for _ in range(3)]
    assert [label_next(workshop, study, other.id).item_id for _ in range(3)] == firsts
    last = label_next(workshop, study, third.id).item_id
    assert last not in firsts
    assert label_next(workshop, study, one.id).item_id == last
    assert isinstance(assignment.claim(workshop.store, study.id, other.id), Nothing)


def test_what_is_given_back_is_found_by_those_who_had_passed_its_place(
    workshop: Workshop, clock: Clock
) -> None:
    study = workshop.study(overlap=1)
    workshop.votes(study, 3)
    one, other = workshop.labeler(study), workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, one.id)
    assert isinstance(held, Assignment)
    for _ in range(2):
        label_next(workshop, study, other.id)
    assert isinstance(assignment.claim(workshop.store, study.id, other.id), Nothing)
    clock.now = held.expires_at + 1
    assert label_next(workshop, study, other.id).item_id == held.item_id
    assert isinstance(assignment.claim(workshop.store, study.id, one.id), Nothing)


def test_ones_own_item_that_went_back_is_found_again(workshop: Workshop) -> None:
    study = workshop.study(overlap=2)
    workshop.votes(study, 2)
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    assignment.release(workshop.store, held.id, person.id)
    label_next(workshop, study, person.id)
    assert label_next(workshop, study, person.id).item_id == held.item_id


def test_what_one_agrees_to_later_or_what_is_added_later_is_found(workshop: Workshop) -> None:
    store = workshop.store
    study = workshop.study(categories={"violence": "Violent."})
    (sensitive,) = workshop.votes(study, 1, categories=["violence"])
    (plain,) = workshop.votes(study, 1)
    person = workshop.labeler(study)
    assert label_next(workshop, study, person.id).item_id == plain
    assert isinstance(assignment.claim(store, study.id, person.id), Nothing)
    studies.opt_in(store, study.id, person.id, "violence", client_key="yes")
    assert label_next(workshop, study, person.id).item_id == sensitive
    assert isinstance(assignment.claim(store, study.id, person.id), Nothing)
    broken = vote_item(id="later").model_copy(update={"candidates": ()})
    (later,) = items.add_items(store, study.id, [broken], by=workshop.owner.id)
    assert isinstance(assignment.claim(store, study.id, person.id), Nothing)
    items.put_candidates(store, later, [Candidate(text=text) for text in "ab"])
    assert label_next(workshop, study, person.id).item_id == later


def test_a_daily_cap_passes_nothing_for_good(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study(categories={"violence": "Violent."}, maximum_sensitive_per_day=1)
    person = workshop.labeler(study)
    studies.opt_in(workshop.store, study.id, person.id, "violence", client_key="yes")
    first, second = workshop.votes(study, 2, categories=["violence"])
    (plain,) = workshop.votes(study, 1)
    assert label_next(workshop, study, person.id).item_id == first
    assert label_next(workshop, study, person.id).item_id == plain
    assert isinstance(assignment.claim(workshop.store, study.id, person.id), Nothing)
    clock.now += 86401
    assert label_next(workshop, study, person.id).item_id == second
