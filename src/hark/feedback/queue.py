"""The queue in which the items of a study wait for labelers, and how far each labeler is in it.

An item gets a new number, behind all others, whenever a labeler could want it who could not before:
when it is added or becomes readable, when others have begun it, and when it is given back. So
whatever a labeler has passed (had, or will not be given) stays behind them, and a claim looks for
the next item from where the last one ended: by index, however many items the labeler has done.

All of this happens under the lock of the study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from hark.feedback.tables import items, queue_places, studies

Fill = Literal["fresh", "begun", "full"]


def fill_of(taken: int, slots: int | None) -> Fill:
    """How full an item is; one without limit stays fresh."""
    if slots is not None and taken >= slots:
        return "full"
    return "fresh" if slots is None or taken == 0 else "begun"


def next_numbers(connection: Connection, study_id: str, count: int) -> range:
    """So many numbers that nothing in the study has had, in rising order."""
    ours = studies.c.id == study_id
    counted = update(studies).where(ours).values(queued=studies.c.queued + count)
    last = connection.execute(counted.returning(studies.c.queued)).scalar_one()
    return range(last - count + 1, last + 1)


def requeue(connection: Connection, study_id: str, item_ids: Sequence[str]) -> None:
    """Put items behind all others, in this order."""
    if item_ids:
        numbers = next_numbers(connection, study_id, len(item_ids))
        moved = update(items).where(items.c.id == bindparam("item")).values(queue=bindparam("to"))
        places = zip(item_ids, numbers, strict=True)
        connection.execute(moved, [{"item": item_id, "to": number} for item_id, number in places])


def last_number(connection: Connection, study_id: str) -> int:
    """The highest number there has been."""
    counted = select(studies.c.queued).where(studies.c.id == study_id)
    return int(connection.execute(counted).scalar_one())


def passed(connection: Connection, study_id: str, person_id: str, use: str, fill: Fill) -> int:
    """Up to which number a labeler has nothing to look for among these items."""
    here = queue_places.c
    ours = (here.study_id == study_id) & (here.person_id == person_id)
    found = select(here.passed).where(ours, here.use == use, here.fill == fill)
    return connection.execute(found).scalar_one_or_none() or 0


def put_passed(
    connection: Connection, study_id: str, person_id: str, use: str, fill: Fill, number: int
) -> None:
    """Keep it."""
    here = queue_places.c
    key = {"study_id": study_id, "person_id": person_id, "use": use, "fill": fill}
    ours = (here.study_id == study_id) & (here.person_id == person_id)
    moved = update(queue_places).where(ours, here.use == use, here.fill == fill)
    if not connection.execute(moved.values(passed=number)).rowcount:
        connection.execute(insert(queue_places).values(**key, passed=number))


def start_anew(connection: Connection, study_id: str, person_id: str) -> None:
    """Look for everything again: the labeler agrees to more than before."""
    here = queue_places.c
    ours = (here.study_id == study_id) & (here.person_id == person_id)
    connection.execute(delete(queue_places).where(ours))
