"""A labeler's own labels, as they may see them."""

from __future__ import annotations

import pytest
import sqlalchemy
from tests.feedback.workshop import Clock, Workshop

from hark.feedback import assignment, history, items, labelling, studies
from hark.feedback.assignment import Assignment
from hark.feedback.items import NewItem
from hark.feedback.refusals import NotFoundError
from hark.feedback.studies import Study


def give(workshop: Workshop, study: Study, person_id: str) -> Assignment:
    claimed = assignment.claim(workshop.store, study.id, person_id)
    assert isinstance(claimed, Assignment)
    return claimed


def test_a_task_is_shown_as_far_as_it_is_done(workshop: Workshop) -> None:
    """The record of the first answer holds the right one, which is not due before the last."""
    study = workshop.study("question")
    task = {"kind": "question", "question": "2 + 2?", "options": ["3", "4"], "answer": 1}
    new = [NewItem.read({"task": task}, what="a test")]
    items.add_items(workshop.store, study.id, new, by=workshop.owner.id)
    person = workshop.labeler(study)
    held = give(workshop, study, person.id)
    answer = {"choice": 0, "confidence": 60}
    for phase, known in enumerate((False, True)):
        labelling.submit(
            workshop.store, held.id, person.id, "qa_answer", answer, client_key=str(phase)
        )
        labels = history.own_labels(workshop.store, study.id, person.id)
        assert len(labels) == phase + 1
        assert [("answer" in one.task) for one in labels] == [known] * len(labels)


def test_labels_come_newest_first_in_pages_as_they_stand(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study(overlap=2)
    workshop.votes(study, 5)
    person, other = workshop.labeler(study), workshop.labeler(study)
    kept = []
    for number in range(5):
        held = give(workshop, study, person.id)
        clock.now += 1
        receipt = labelling.submit(
            workshop.store, held.id, person.id, "vote", {"chosen": None}, client_key=str(number)
        )
        kept.append(receipt.event.id)
    labelling.correct(workshop.store, kept[1], person.id, None, client_key="c")
    theirs = history.own_labels(workshop.store, study.id, person.id, limit=2)
    assert [one.event_id for one in theirs] == [kept[4], kept[3]]
    rest = history.own_labels(workshop.store, study.id, person.id, before=kept[3])
    assert [one.event_id for one in rest] == [kept[2], kept[0]]
    assert history.own_labels(workshop.store, study.id, other.id) == []
    with pytest.raises(NotFoundError):
        history.own_labels(workshop.store, study.id, other.id, before=kept[3])


def test_candidates_are_in_the_order_shown_and_without_their_model(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    person = workshop.labeler(study)
    held = give(workshop, study, person.id)
    shown = labelling.view(workshop.store, held.id, person.id).candidates
    labelling.submit(workshop.store, held.id, person.id, "vote", {"chosen": None}, client_key="k")
    (label,) = history.own_labels(workshop.store, study.id, person.id)
    assert label.candidates == shown


def test_ones_own_labels_are_found_without_reading_everybodys(workshop: Workshop) -> None:
    """The page of one's own labels goes by oneself: a study has a million others."""
    store = workshop.store
    if not store.is_sqlite:
        return  # PostgreSQL plans by its statistics.
    study, person = workshop.study(), workshop.labeler()
    studies.join(store, study.id, person.id)
    read: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        read.append(statement)

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", note)
    history.own_labels(store, study.id, person.id)
    sqlalchemy.event.remove(store.engine, "before_cursor_execute", note)
    asked = next(one for one in read if "FROM events" in one)
    with store.read() as connection:
        rows = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {asked}", ("x",) * asked.count("?")
        ).all()
    steps = [str(row[3]) for row in rows]
    assert "(author=?" in steps[0] or "(assignment_id=?" in steps[0], steps
