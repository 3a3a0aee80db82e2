"""A labeler's own labels as they stand, to be looked at and corrected.

They are shown as labels are shown anywhere: no model's name, no gold, and of a task only what may
be seen after the steps that are done, since the record of a label holds more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from hark.feedback import accounts, events, studies
from hark.feedback.events import Event, iso_time
from hark.feedback.items import warnings_of
from hark.feedback.refusals import NotFoundError
from hark.feedback.store import Store
from hark.feedback.tables import assignments
from hark.feedback.tables import events as events_table
from hark.feedback.tasks import TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLabel:
    """A label as its author may see it."""

    event_id: str
    kind: str
    ts: str
    """When it was kept."""
    assignment_id: str
    task: dict[str, Any]
    """As far as it may be seen now."""
    messages: tuple[dict[str, str], ...]
    """Of a live dialogue, up to the label."""
    candidates: tuple[dict[str, str], ...]
    """Ids and texts, in the order that was shown."""
    categories: dict[str, str]
    """Of the item: category → its warning; one that has any is not shown before one asks for it."""
    answer: dict[str, Any]


def own_labels(
    store: Store, study_id: str, person_id: str, *, before: str | None = None, limit: int = 20
) -> list[OwnLabel]:
    """The labels of a person in a study that nothing has superseded, newest first.

    before: the id of one of them; those up to it are left out.
    Raises: NotFoundError for another's.
    """
    with store.read() as connection:
        author = accounts.get_person(connection, person_id).pseudonym
        theirs = select(assignments.c.id).where(
            assignments.c.person_id == person_id, assignments.c.study_id == study_id
        )
        newest = events.iterate(
            connection,
            among=theirs,
            author=author,
            kinds=events.LABELS,
            before=None if before is None else _position(connection, before, author),
            current=True,
            newest_first=True,
            limit=limit,
        )
        labels = list(newest)
        return _shown(connection, study_id, labels)


def own_label(store: Store, event_id: str, person_id: str) -> OwnLabel:
    """One label. Raises: NotFoundError for another's, for none, and for one that was superseded."""
    with store.read() as connection:
        author = accounts.get_person(connection, person_id).pseudonym
        place = _position(connection, event_id, author)
        found = list(
            events.iterate(
                connection, author=author, kinds=events.LABELS, after=place - 1, before=place + 1,
                current=True,
            )
        )  # fmt: skip
        if not found:
            raise NotFoundError(f"label '{event_id}' has been corrected or taken back")
        return _shown(connection, str(found[0].study_id), found)[0]


def _position(connection: Connection, event_id: str, author: str) -> int:
    event = events.get(connection, event_id)
    if event.author != author:
        raise NotFoundError(f"you have no label '{event_id}'")
    return event.position


def _done(
    connection: Connection, assignment_ids: Collection[str | None]
) -> dict[str | None, list[str]]:
    """The kinds of the steps of each assignment, in order, as `Task.shown` reads them."""
    e = events_table.c
    steps = connection.execute(
        select(e.assignment_id, e.kind)
        .where(e.assignment_id.in_(list(assignment_ids)), events.is_first())
        .order_by(e.position)
    )
    done: dict[str | None, list[str]] = defaultdict(list)
    for assignment_id, kind in steps:
        done[assignment_id].append(kind)
    return done


def _shown(connection: Connection, study_id: str, labels: Sequence[Event]) -> list[OwnLabel]:
    study = studies.get_study(connection, study_id)
    done = _done(connection, {one.assignment_id for one in labels})
    warnings = warnings_of(connection, study, {str(one.item_id) for one in labels})
    return [_own_label(one, done[one.assignment_id], warnings[str(one.item_id)]) for one in labels]


def _own_label(event: Event, done: list[str], categories: dict[str, str]) -> OwnLabel:
    body, context = event.body, event.body["context"]
    candidates = body["candidates"]
    return OwnLabel(
        event_id=event.id,
        kind=event.kind,
        ts=iso_time(event.created_at),
        assignment_id=event.assignment_id or "",
        task=TASK.validate_python(context["task"]).shown(done),
        messages=tuple(context.get("messages", ())),
        candidates=tuple(
            {"id": candidates[place]["id"], "text": candidates[place]["text"]}
            for place in body["display_order"]
        ),
        categories=categories,
        answer=body["answer"],
    )
