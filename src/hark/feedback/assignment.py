"""Who gets which item, and for how long.

An item is lent: `claim` gives it out, a sign of life (`heartbeat`, or any step) prolongs the lease,
and a lease that runs out returns the item to the others. Every item has as many places ("slots") as
labelers are wanted, and a labeler holds one from the claim on and keeps it with the label.

What cannot happen, however many ask at once: the database itself refuses a second holder of a place
and a second assignment of one item to one labeler. Whatever gives out or takes back places holds
the lock of the study (`studies.lock_study`), so that nobody has to run into those refusals.

A label that comes after its lease ran out is never thrown away: it takes its place again if there
is one, and else is kept as "late", beyond the overlap and left out of exports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from hark.feedback import accounts, events, studies
from hark.feedback.chance import chance_of
from hark.feedback.identifiers import new_id
from hark.feedback.items import Item, get_item
from hark.feedback.queue import fill_of, requeue
from hark.feedback.records import FreeText, Record
from hark.feedback.refusals import ConflictError, NotAllowedError, NotFoundError
from hark.feedback.selection import next_item, quota_reached, rests
from hark.feedback.store import Store
from hark.feedback.studies import Member, Study
from hark.feedback.tables import assignments, item_categories, items, member_categories

State = Literal["open", "done", "late", "skipped", "expired"]
NothingBecause = Literal[
    "nothing left", "quota reached", "screening undecided", "enough sensitive items today"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """An item in the hands of a labeler."""

    id: str
    study_id: str
    item_id: str
    person_id: str
    state: State
    slot: int | None
    lease: int
    """How often it was handed out to this labeler."""
    expires_at: float
    step_started_at: float | None
    """When a timed step was opened."""


class Skip(Record):
    """Why an item is left to others, in the labeler's words or from a list of the page."""

    reason: FreeText


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """There is nothing to hand out."""

    because: NothingBecause


def claim(store: Store, study_id: str, person_id: str) -> Assignment | Nothing:
    """An item for a labeler: the one they hold, or else the next one.

    Asking twice gives the same item. What others have begun comes first, so that overlaps fill.
    Raises: NotAllowedError if they do not take part (any more); ConflictError if the study is not
    open.
    """
    chance = chance_of(store)
    with store.write() as connection:
        now = store.clock()
        study = studies.lock_study(connection, study_id)
        accounts.require(connection, person_id, accounts.ROLES)
        member = studies.get_member(connection, study_id, person_id)
        _check_may_label(study, member)
        expire_leases(connection, study_id, now)
        _give_back_unwanted(connection, study_id, person_id)
        if held := _held(connection, study_id, person_id):
            return held
        if member.state == "active" and quota_reached(connection, study, person_id):
            return Nothing(because="quota reached")
        item = next_item(connection, chance, study, member, now)
        if item is not None:
            return _hand_out(connection, study, item, person_id, now)
        if member.state == "screening":
            return Nothing(because="screening undecided")
        rested = rests(connection, study, member, now)
        return Nothing(because="enough sensitive items today" if rested else "nothing left")


def _check_may_label(study: Study, member: Member) -> None:
    if study.state != "open":
        raise ConflictError(f"study '{study.settings.title}' is {study.state}; come back later")
    if member.state in ("rejected", "paused"):
        raise NotAllowedError(f"your part in this study is {member.state}: ask its owner")


def check_takes_part(connection: Connection, study_id: str, person_id: str) -> None:
    """Who was turned away adds nothing, not even to an item in hand; who is paused may end it."""
    if studies.get_member(connection, study_id, person_id).state == "rejected":
        raise NotAllowedError(
            "your part in this study has ended, so that this answer is not taken: ask its owner"
        )


def expire_leases(connection: Connection, study_id: str, now: float) -> int:
    """Return items whose lease ran out; the study is locked. Return how many."""
    # The condition is looked at once more as each row changes: a heartbeat meanwhile wins.
    over = (assignments.c.study_id == study_id) & (assignments.c.expires_at <= now)
    return return_items(connection, over)


def _give_back_unwanted(connection: Connection, study_id: str, person_id: str) -> None:
    """Return what a labeler holds of a category that they agree to no more."""
    agreed = select(member_categories.c.category).where(
        member_categories.c.study_id == study_id, member_categories.c.person_id == person_id
    )
    unwanted = select(item_categories.c.item_id).where(
        item_categories.c.item_id == assignments.c.item_id,
        item_categories.c.category.not_in(agreed),
    )
    theirs = (assignments.c.study_id == study_id) & (assignments.c.person_id == person_id)
    return_items(connection, theirs & unwanted.exists())


def return_items(connection: Connection, which: ColumnElement[bool]) -> int:
    """Return the items of open assignments; the study is locked. Return how many."""
    returned = (
        connection.execute(
            update(assignments)
            .where(which, assignments.c.state == "open")
            .values(state="expired", slot=None)
            .returning(assignments.c.item_id)
        )
        .scalars()
        .all()
    )
    for item_id in returned:
        _count_holder(connection, item_id, -1)
    return len(returned)


def _count_holder(connection: Connection, item_id: str, change: Literal[1, -1]) -> None:
    """One holder more or less of an item, and how full it is then; the study is locked."""
    this = items.c.id == item_id
    item = connection.execute(select(items).where(this)).one()
    taken = item.taken + change
    fill = fill_of(taken, item.slots)
    connection.execute(update(items).where(this).values(taken=taken, fill=fill))
    if change == -1 or fill != item.fill:
        requeue(connection, item.study_id, [item_id])


def _held(connection: Connection, study_id: str, person_id: str) -> Assignment | None:
    row = connection.execute(
        select(assignments)
        .where(
            assignments.c.study_id == study_id,
            assignments.c.person_id == person_id,
            assignments.c.state == "open",
        )
        # A sum, so that SQLite finds the few by their state, and not all in the order of time.
        .order_by(assignments.c.leased_at + 0)
        .limit(1)
    ).one_or_none()
    return None if row is None else _assignment(row)


def _hand_out(
    connection: Connection, study: Study, item: Row[Any], person_id: str, now: float
) -> Assignment:
    values = {
        "state": "open",
        "slot": _take_slot(connection, item.id, item.slots),
        "leased_at": now,
        "expires_at": now + lease_seconds(study),
    }
    # The clock of a step that was opened runs on: giving an item back buys no time.
    ours = (assignments.c.item_id == item.id) & (assignments.c.person_id == person_id)
    again = connection.execute(
        update(assignments)
        .where(ours, assignments.c.state == "expired")
        .values(**values, lease=assignments.c.lease + 1)
        .returning(assignments)
    ).one_or_none()
    if again is not None:
        return _assignment(again)
    row = {
        "id": new_id(),
        "study_id": study.id,
        "item_id": item.id,
        "person_id": person_id,
        "lease": 1,
        "keyed": True,
        **values,
    }
    kept = connection.execute(insert(assignments).values(row).returning(assignments)).one()
    return _assignment(kept)


def _take_slot(connection: Connection, item_id: str, slots: int | None) -> int | None:
    """Count one more holder of an item that has room, and give them the first free place."""
    _count_holder(connection, item_id, 1)
    if slots is None:
        return None
    held = (assignments.c.item_id == item_id) & assignments.c.slot.is_not(None)
    used = set(connection.execute(select(assignments.c.slot).where(held)).scalars())
    return next(slot for slot in range(slots) if slot not in used)


def lease_seconds(study: Study) -> float:
    """How long an item is lent without a sign of life."""
    return study.settings.lease_minutes * 60


def heartbeat(store: Store, assignment_id: str, person_id: str) -> float:
    """A sign of life; return when the lease now runs out.

    Raises: NotFoundError; ConflictError if the item has gone back (a label can still be sent).
    """
    with store.write() as connection:
        now = store.clock()
        row = own_row(connection, assignment_id, person_id)
        study = studies.get_study(connection, row.study_id)
        until = now + lease_seconds(study)
        still = (assignments.c.id == assignment_id) & (assignments.c.state == "open")
        prolonged = connection.execute(
            update(assignments).where(still).values(expires_at=until).returning(assignments.c.id)
        ).one_or_none()
    if prolonged is None:
        raise ConflictError(f"this item is not yours any more: it is {row.state}")
    return until


def open_step(store: Store, assignment_id: str, person_id: str) -> float | None:
    """The labeler looks at the next step: a time limit begins, once; return when it ends, if ever.

    Raises: NotFoundError; ConflictError if the item has gone back.
    """
    with store.write() as connection:
        now = store.clock()
        row = own_row(connection, assignment_id, person_id)
        studies.lock_study(connection, row.study_id)
        row = own_row(connection, assignment_id, person_id)
        # A late one is gone on with, beyond the overlap: what was answered is kept, so is the rest.
        if row.state not in ("open", "late"):
            raise ConflictError(f"this item is not yours any more: it is {row.state}")
        item = get_item(connection, row.item_id)
        seconds = item.task.seconds_for(step_kinds(steps_of(connection, assignment_id)))
        if seconds is None:
            return None
        started = now if row.step_started_at is None else row.step_started_at
        ours = assignments.c.id == assignment_id
        connection.execute(update(assignments).where(ours).values(step_started_at=started))
        return started + seconds


def release(store: Store, assignment_id: str, person_id: str) -> None:
    """Give an item back at once, as when logging out; one that is not held is no error."""
    with store.write() as connection:
        row = own_row(connection, assignment_id, person_id)
        studies.lock_study(connection, row.study_id)
        return_items(connection, assignments.c.id == assignment_id)


def skip(
    store: Store, assignment_id: str, person_id: str, reason: str, *, client_key: str
) -> events.Event:
    """Leave an item to others, without penalty: it counts against no quota and never comes back.

    Raises: NotFoundError; NotAllowedError for whoever was turned away; ConflictError if it is
    answered already.
    """
    with store.write() as connection:
        now = store.clock()
        row = own_row(connection, assignment_id, person_id)
        studies.lock_study(connection, row.study_id)
        row = own_row(connection, assignment_id, person_id)
        skipped = Skip.read({"reason": reason}, what="this skip").to_json()
        kept = events.append(
            connection,
            events.NewEvent(
                kind="skip",
                author=accounts.get_person(connection, person_id).pseudonym,
                client_key=client_key,
                study_id=row.study_id,
                item_id=row.item_id,
                assignment_id=assignment_id,
                body={"skip_reason": skipped["reason"]},
                request=skipped,
            ),
            now=now,
        )
        if kept.repeated:
            return kept
        check_takes_part(connection, row.study_id, person_id)
        if row.state not in ("open", "expired"):
            raise ConflictError(f"this item is {row.state} and cannot be skipped")
        end(connection, row, "skipped", now)
        return kept


def end(connection: Connection, row: Row[Any], state: State, now: float) -> None:
    """End an assignment; only one that is done keeps its place. The study is locked."""
    values: dict[str, Any] = {"state": state, "finished_at": now}
    if state != "done":
        values["slot"] = None
        if row.state == "open":
            _count_holder(connection, row.item_id, -1)
    connection.execute(update(assignments).where(assignments.c.id == row.id).values(values))


def regain(connection: Connection, study: Study, row: Row[Any], now: float) -> Row[Any]:
    """An expired assignment in the hands of its labeler again, or "late" if there is no room."""
    item = get_item(connection, row.item_id)
    room = item.slots is None or item.taken < item.slots
    values: dict[str, Any] = {"state": "late"}
    if room:
        values = {
            "state": "open",
            "slot": _take_slot(connection, item.id, item.slots),
            "expires_at": now + lease_seconds(study),
        }
    ours = assignments.c.id == row.id
    return connection.execute(
        update(assignments).where(ours).values(values).returning(assignments)
    ).one()


def own_row(connection: Connection, assignment_id: str, person_id: str) -> Row[Any]:
    """The row of an assignment. Raises: NotFoundError, for somebody else's as for none."""
    ours = (assignments.c.id == assignment_id) & (assignments.c.person_id == person_id)
    row = connection.execute(select(assignments).where(ours)).one_or_none()
    if row is None:
        raise NotFoundError(f"you have no assignment '{assignment_id}'")
    return row


def find(store: Store, assignment_id: str, person_id: str) -> tuple[Assignment, Item]:
    """An assignment of this labeler and its item. Raises: NotFoundError."""
    with store.read() as connection:
        row = own_row(connection, assignment_id, person_id)
        return _assignment(row), get_item(connection, row.item_id)


def steps_of(connection: Connection, assignment_id: str) -> list[events.Event]:
    """What was done in an assignment, in order, without corrections of it."""
    all_events = events.iterate(connection, assignment_id=assignment_id)
    return [one for one in all_events if one.supersedes is None]


def step_kinds(steps: list[events.Event]) -> list[str]:
    """The kinds of the steps, as `Task.next_steps` reads them."""
    return [one.kind for one in steps]


def _assignment(row: Row[Any]) -> Assignment:
    return Assignment(
        id=row.id,
        study_id=row.study_id,
        item_id=row.item_id,
        person_id=row.person_id,
        state=row.state,
        slot=row.slot,
        lease=row.lease,
        expires_at=row.expires_at,
        step_started_at=row.step_started_at,
    )
