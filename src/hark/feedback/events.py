"""Events: what a person did, as it happened, for ever.

An event holds all that is needed to understand it: what was shown, in what order, and the answer.
Events are never changed and never deleted (the database refuses both). A correction is a new event
that supersedes one; a retraction is a correction without an answer. Who did it is a pseudonym.

A client gives each event a key of its own making and sends the event again, with the same key,
until it is acknowledged: one key of one author makes one event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, get_args

from sqlalchemy import ColumnElement, Connection, Row, Select, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from hark.feedback.identifiers import hash_of_json, new_id
from hark.feedback.refusals import ConflictError, InvalidLabelError, NotFoundError
from hark.feedback.tables import events

SCHEMA: Final = 1
"""Of an event's body; raised when the meaning of a field changes."""
SERVER: Final = "server"
"""The author of what nobody did."""
MAXIMUM_KEY_CHARACTERS: Final = 100

LabelKind = Literal[
    "comparison",
    "description",
    "redteam",
    "ranking",
    "demonstration",
    "edit",
    "notes",
    "summary",
    "axes",
    "vote",
    "review",
    "audit",
    "qa_answer",
]
LABELS: Final = frozenset(get_args(LabelKind))
"""Kinds whose body has an answer to something that was shown."""
OTHERS: Final = frozenset(
    {
        "message",  # a turn that the labeler wrote to a model
        "reset",  # the model's context forgotten
        "skip",
        "finish",  # of a dialogue that could have gone on
        "retraction",
        "consent",
        "screening",
        "study_changed",
    }
)
CHANGES: Final = frozenset(
    {
        "person_changed",  # a role, or kept out
        "member_changed",  # admitted, paused, turned away, held out
        "invited",
        "invite_revoked",
        "forgotten",
    }
)
"""What owners and researchers do to people; of a study or of none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event before it is kept."""

    kind: str
    author: str
    """Pseudonym of whoever did it."""
    client_key: str
    """Made by the client, the same for every retry."""
    study_id: str | None = None
    item_id: str | None = None
    assignment_id: str | None = None
    supersedes: str | None = None
    """The event that this one replaces."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """JSON: what was shown and answered."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What the client sent, in the parts that a retry must repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as it is kept."""

    position: int
    """Counts up; the order in which events were kept."""
    id: str
    schema: int
    kind: str
    author: str
    client_key: str
    study_id: str | None
    item_id: str | None
    assignment_id: str | None
    supersedes: str | None
    body: dict[str, Any]
    created_at: float
    """Seconds since 1970, by the server's clock."""
    repeated: bool = False
    """Whether it was there already when it was appended."""

    def to_json(self) -> dict[str, Any]:
        """The canonical record, of which every export format is a view."""
        return {
            "event_id": self.id,
            "schema": self.schema,
            "kind": self.kind,
            "ts": iso_time(self.created_at),
            "study": self.study_id,
            "task_id": self.item_id,
            "assignment_id": self.assignment_id,
            "labeler": self.author,
            **self.body,
            "client": {"key": self.client_key, **self.body.get("client", {})},
            "supersedes": self.supersedes,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, position: int) -> Self:
        """The inverse of `to_json`, which leaves out the position: that in its file.

        Raises: KeyError or ValueError if it is no such record.
        """
        body = dict(values)
        client = dict(body.pop("client"))
        key = str(client.pop("key"))
        return cls(
            position=position,
            id=body.pop("event_id"),
            schema=body.pop("schema"),
            kind=body.pop("kind"),
            created_at=datetime.fromisoformat(body.pop("ts")).timestamp(),
            study_id=body.pop("study"),
            item_id=body.pop("task_id"),
            assignment_id=body.pop("assignment_id"),
            author=body.pop("labeler"),
            supersedes=body.pop("supersedes"),
            client_key=key,
            body={**body, "client": client} if client else body,
        )


def append(connection: Connection, new: NewEvent, *, now: float) -> Event:
    """Keep an event; one that is there already under its author and key is returned as it is.

    Raises: ConflictError if the key was used for something else, or what it supersedes has been
    superseded; NotFoundError if that does not exist; InvalidLabelError for a malformed key.
    """
    assert new.kind in LABELS | OTHERS | CHANGES, new.kind
    key = new.client_key
    if not 0 < len(key) <= MAXIMUM_KEY_CHARACTERS or not key.isprintable():
        raise InvalidLabelError(
            f"the idempotency key has {len(key)} characters; "
            f"send 1 to {MAXIMUM_KEY_CHARACTERS} printable ones, such as a UUID"
        )
    row = _row(new, now)
    request_hash = row["request_hash"]
    if found := find_key(connection, new.author, new.client_key):
        return _repeated(found, request_hash, new)
    if new.supersedes is not None:
        _check_superseded(connection, new)
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    # Two requests with one key at once: the second waits for the first and then finds its event.
    statement = dialect.insert(events).values(row).on_conflict_do_nothing().returning(events)
    kept = connection.execute(statement).one_or_none()
    if kept is not None:
        return _event(kept)
    if found := find_key(connection, new.author, new.client_key):
        return _repeated(found, request_hash, new)
    raise ConflictError(f"event '{new.supersedes}' has been superseded meanwhile; load it again")


def append_change(
    connection: Connection,
    kind: str,
    body: Mapping[str, Any],
    *,
    by: str,
    now: float,
    study_id: str | None = None,
) -> None:
    """Keep one of `CHANGES`, in the transaction that makes it.

    by: pseudonym of whoever does it. study_id: whose lock the caller holds.
    """
    assert kind in CHANGES, kind
    new = NewEvent(kind=kind, author=by, client_key=new_id(), study_id=study_id, body=body)
    append(connection, new, now=now)


def append_fresh(connection: Connection, new: Sequence[NewEvent], *, now: float) -> None:
    """Keep many events at once, whose keys are known to be new and which supersede nothing."""
    assert all(one.kind in LABELS | OTHERS and one.supersedes is None for one in new)
    if new:
        connection.execute(insert(events), [_row(one, now) for one in new])


def _row(new: NewEvent, now: float) -> dict[str, Any]:
    return {
        "id": new_id(),
        "schema_version": SCHEMA,
        "kind": new.kind,
        "author": new.author,
        "client_key": new.client_key,
        "request_hash": _request_hash(new),
        "study_id": new.study_id,
        "item_id": new.item_id,
        "assignment_id": new.assignment_id,
        "supersedes": new.supersedes,
        "body": dict(new.body),
        "created_at": now,
    }


def find_key(connection: Connection, author: str, client_key: str) -> Row[Any] | None:
    """The row of the event that an author has sent under a key."""
    ours = (events.c.author == author) & (events.c.client_key == client_key)
    return connection.execute(select(events).where(ours)).one_or_none()


def get(connection: Connection, event_id: str) -> Event:
    """Raises: NotFoundError if there is no event of this id."""
    row = connection.execute(select(events).where(events.c.id == event_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no event '{event_id}'")
    return _event(row)


def iterate(
    connection: Connection,
    *,
    study_id: str | None = None,
    assignment_id: str | None = None,
    among: Select[tuple[str]] | None = None,
    of_items: Select[tuple[str]] | None = None,
    author: str | None = None,
    kinds: Iterable[str] | None = None,
    after: int = 0,
    before: int | None = None,
    current: bool = False,
    newest_first: bool = False,
    limit: int | None = None,
) -> Iterator[Event]:
    """Events in the order in which they were kept, or the other way round.

    among: ids of the assignments that they are of; quicker than a study where those are few.
    of_items: ids of the items that they are of.
    after, before: positions; the events up to the first and from the second on are left out.
    current: leave out what has been superseded, and retractions.
    limit: at most so many; who needs fewer than all must say so, or leaves a cursor open.
    """
    order = events.c.position.desc() if newest_first else events.c.position
    statement = select(events).where(events.c.position > after).order_by(order)
    if before is not None:
        statement = statement.where(events.c.position < before)
    if study_id is not None:
        statement = statement.where(events.c.study_id == study_id)
    if assignment_id is not None:
        statement = statement.where(events.c.assignment_id == assignment_id)
    if among is not None:
        statement = statement.where(events.c.assignment_id.in_(among))
    if of_items is not None:
        statement = statement.where(events.c.item_id.in_(of_items))
    if author is not None:
        statement = statement.where(events.c.author == author)
    if kinds is not None:
        statement = statement.where(events.c.kind.in_(sorted(kinds)))
    if current:
        statement = _only_current(statement)
    if limit is not None:
        statement = statement.limit(limit)
    for row in connection.execute(statement, execution_options={"yield_per": 500}):
        yield _event(row)


def _only_current(statement: Select[Any]) -> Select[Any]:
    later = events.alias("later")
    superseded = select(later.c.id).where(later.c.supersedes == events.c.id).exists()
    return statement.where(~superseded, events.c.kind != "retraction")


def is_first() -> ColumnElement[bool]:
    """Whether an event supersedes none.

    Said so that SQLite does not take the index of `supersedes` for it: that one leads to nearly
    every event of every study.
    """
    return func.coalesce(events.c.supersedes, "") == ""


def _check_superseded(connection: Connection, new: NewEvent) -> None:
    assert new.supersedes is not None
    get(connection, new.supersedes)
    later = connection.execute(
        select(events.c.id).where(events.c.supersedes == new.supersedes)
    ).scalar_one_or_none()
    if later is not None:
        raise ConflictError(
            f"event '{new.supersedes}' has been superseded by '{later}'; correct that one"
        )


def _request_hash(new: NewEvent) -> str:
    return hash_of_json(
        {
            "kind": new.kind,
            "study": new.study_id,
            "assignment": new.assignment_id,
            "supersedes": new.supersedes,
            "request": dict(new.request),
        }
    )


def _repeated(found: Row[Any], request_hash: str, new: NewEvent) -> Event:
    if found.request_hash != request_hash:
        raise ConflictError(
            f"the idempotency key '{new.client_key}' was used for another {found.kind}; "
            "make a new key for a new request"
        )
    return _event(found, repeated=True)


def _event(row: Row[Any], *, repeated: bool = False) -> Event:
    return Event(
        position=row.position,
        id=row.id,
        schema=row.schema_version,
        kind=row.kind,
        author=row.author,
        client_key=row.client_key,
        study_id=row.study_id,
        item_id=row.item_id,
        assignment_id=row.assignment_id,
        supersedes=row.supersedes,
        body=row.body,
        created_at=row.created_at,
        repeated=repeated,
    )


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as `2026-01-31T14:05:12.345Z`."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
