"""Within a study, events become visible in the order of their positions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from tests.feedback.workshop import Workshop

from hark.feedback import assignment, events, items, labelling, qualification, studies
from hark.feedback.assignment import Assignment
from hark.feedback.events import NewEvent
from hark.feedback.items import NewItem


@pytest.mark.parametrize("what", ["correct", "grade", "assess"])
def test_an_event_waits_for_those_that_were_begun_before_it(workshop: Workshop, what: str) -> None:
    """Else a reader who has seen the later one would never see the earlier one."""
    store, owner = workshop.store, workshop.owner
    study = workshop.study("demonstration")
    new = NewItem.read({"task": {"kind": "demonstration", "style": "plain"}}, what="a test")
    items.add_items(store, study.id, [new], by=owner.id)
    person = workshop.labeler(study)
    held = assignment.claim(store, study.id, person.id)
    assert isinstance(held, Assignment)
    answer = {"prompt": "p", "response": "r"}
    label = labelling.submit(
        store, held.id, person.id, "demonstration", answer, client_key="k"
    ).event
    keep: dict[str, Callable[[], events.Event]] = {
        "correct": lambda: labelling.correct(store, label.id, person.id, None, client_key="c"),
        "grade": lambda: qualification.grade_demonstration(
            store, label.id, 5, by=owner.id, client_key="c"
        ),
        "assess": lambda: qualification.assess_self(store, study.id, person.id, 5, client_key="c"),
    }
    begun = threading.Event()

    def later() -> events.Event:
        begun.set()
        return keep[what]()

    with ThreadPoolExecutor(1) as pool:
        with store.write() as connection:
            studies.lock_study(connection, study.id)
            earlier = events.append(
                connection,
                NewEvent(kind="message", author="anon", client_key="m", study_id=study.id),
                now=1.0,
            )
            kept = pool.submit(later)
            assert begun.wait(30)
            if not store.is_sqlite:  # where writers wait for each other from the beginning
                waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                while not connection.execute(waiting).scalar_one():
                    assert not kept.done(), "it did not wait"
            assert not kept.done()
        assert kept.result(30).position > earlier.position
