"""Lists for those who run studies: studies, items, members, transcripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection, func, select

from hark.feedback import events, screening
from hark.feedback.events import Event
from hark.feedback.judgements import DEMONSTRATES
from hark.feedback.rosters import Listed, members_of
from hark.feedback.screening import Measures
from hark.feedback.statistics_labels import ON_THE_WAY
from hark.feedback.store import Store
from hark.feedback.studies import Study, study_of
from hark.feedback.tables import (
    assignments,
    candidates,
    item_categories,
    items,
    members,
    people,
    studies,
)
from hark.feedback.tables import (
    events as events_table,
)

PAGE: Final = 25
"""Rows of a list that are shown at a time."""
ItemState = Literal["waiting", "fresh", "begun", "full"]
"""How far an item is; one that is "waiting" has no responses that can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """A study among others."""

    study: Study
    items: int
    labels: int
    members: int


def list_studies(store: Store) -> list[StudyRow]:
    """All studies, the newest first."""
    with store.read() as connection:
        counted = {
            "items": _count_by_study(connection, items.c.study_id),
            "members": _count_by_study(connection, members.c.study_id),
            "labels": _count_by_study(
                connection,
                events_table.c.study_id,
                events_table.c.kind.in_(sorted(events.LABELS - ON_THE_WAY)),
                events.is_first(),
            ),
        }
        rows = connection.execute(select(studies).order_by(studies.c.created_at.desc())).all()
        return [
            StudyRow(
                study=study_of(row),
                items=counted["items"].get(row.id, 0),
                labels=counted["labels"].get(row.id, 0),
                members=counted["members"].get(row.id, 0),
            )
            for row in rows
        ]


def _count_by_study(connection: Connection, column: Any, *where: Any) -> dict[str, int]:
    statement = select(column, func.count()).where(*where).group_by(column)
    return {row[0]: row[1] for row in connection.execute(statement)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """An item among others."""

    id: str
    position: int
    source_id: str | None
    use: str
    state: ItemState
    taken: int
    slots: int | None
    has_gold: bool
    categories: tuple[str, ...]
    snapshots: tuple[str, ...]
    content: dict[str, Any]
    """The task."""


def list_items(
    store: Store,
    study_id: str,
    *,
    use: str = "",
    state: str = "",
    start: int = 0,
    count: int = PAGE,
) -> tuple[list[ItemRow], int]:
    """Items in their order, and how many there are of this use and state; "" is any."""
    wanted = [items.c.study_id == study_id]
    if use:
        wanted.append(items.c.use == use)
    if state == "waiting":
        wanted.append(~items.c.votable)
    elif state:
        wanted += [items.c.votable, items.c.fill == state]
    with store.read() as connection:
        total = connection.execute(
            select(func.count()).select_from(items).where(*wanted)
        ).scalar_one()
        rows = connection.execute(
            select(items).where(*wanted).order_by(items.c.position).offset(start).limit(count)
        ).all()
        ids = [row.id for row in rows]
        named = _snapshots(connection, ids)
        of_category = defaultdict[str, list[str]](list)
        for row in connection.execute(
            select(item_categories).where(item_categories.c.item_id.in_(ids))
        ):
            of_category[row.item_id].append(row.category)
    return [
        ItemRow(
            id=row.id,
            position=row.position,
            source_id=row.source_id,
            use=row.use,
            state=row.fill if row.votable else "waiting",
            taken=row.taken,
            slots=row.slots,
            has_gold=row.gold is not None,
            categories=tuple(sorted(of_category[row.id])),
            snapshots=tuple(named[row.id]),
            content=row.content,
        )
        for row in rows
    ], total


def _snapshots(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """For each item the models of its candidates in force, those of live dialogues left out."""
    newest: dict[str, int] = {}
    named = defaultdict[str, list[str]](list)
    rows = connection.execute(
        select(candidates)
        .where(candidates.c.item_id.in_(ids), candidates.c.assignment_id.is_(None))
        .order_by(candidates.c.generation.desc(), candidates.c.place)
    )
    for row in rows:
        if newest.setdefault(row.item_id, row.generation) == row.generation:
            named[row.item_id].append(row.body["snapshot"] or "not named")
    return named


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow(Listed):
    """Somebody who takes part in a study, with what they have done."""

    done: int
    """Items of this study."""
    measures: Measures | None
    """Of the screening test; None where the study has none."""
    decision: screening.Decision | None
    because: tuple[str, ...]
    """The measures that the decision rests on."""


def list_members(store: Store, study: Study) -> list[MemberRow]:
    """`rosters.list_members` with what each has done and how their screening test stands."""
    cut_offs = study.settings.screening
    with store.read() as connection:
        finished = connection.execute(
            select(assignments.c.person_id, func.count())
            .where(assignments.c.study_id == study.id, assignments.c.state.in_(("done", "late")))
            .group_by(assignments.c.person_id)
        )
        done = {row[0]: row[1] for row in finished}
        found = []
        for one in members_of(connection, study.id):
            person, measures, decision = one.person, None, None
            because: tuple[str, ...] = ()
            if cut_offs is not None and not one.member.held_out:
                measures = screening.measure(connection, study.id, person.id, person.pseudonym)
                decision, because = screening.decide(measures, cut_offs)
            found.append(
                MemberRow(
                    person=person,
                    member=one.member,
                    joined_at=one.joined_at,
                    done=done.get(person.id, 0),
                    measures=measures,
                    decision=decision,
                    because=because,
                )
            )
        return found


def demonstrations_to_grade(store: Store, study_id: str) -> list[Event]:
    """Demonstrations of screening items that nobody has graded, oldest first."""
    with store.read() as connection:
        graded = {
            event.body.get("event")
            for event in events.iterate(connection, study_id=study_id, kinds=("screening",))
        }
        taken = screening.tests_taken(study_id)
        tests = events.iterate(connection, among=taken, kinds=DEMONSTRATES, current=True)
        return [event for event in tests if event.id not in graded]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptRow:
    """A live dialogue among others."""

    assignment_id: str
    labeler: str
    finished_at: float


def list_transcripts(
    store: Store, study_id: str, *, start: int = 0, count: int = PAGE
) -> tuple[list[TranscriptRow], int]:
    """Dialogues that are over, the newest first, and how many there are."""
    over = (assignments.c.study_id == study_id) & assignments.c.state.in_(("done", "late"))
    with store.read() as connection:
        total = connection.execute(
            select(func.count()).select_from(assignments).where(over)
        ).scalar_one()
        rows = connection.execute(
            select(assignments.c.id, assignments.c.finished_at, people.c.pseudonym)
            .join(people, people.c.id == assignments.c.person_id)
            .where(over)
            .order_by(assignments.c.finished_at.desc())
            .offset(start)
            .limit(count)
        ).all()
    return [
        TranscriptRow(
            assignment_id=row.id, labeler=row.pseudonym, finished_at=row.finished_at or 0.0
        )
        for row in rows
    ], total
