"""People: who they are, what they may do, and how they are forgotten.

Nothing but this module's table knows a name. Everything that a person does is kept under a
pseudonym that is drawn, so that forgetting someone is erasing one row's name and secrets: the
labels stay, and nothing leads back from them.
"""

from __future__ import annotations

import functools
import os
import threading
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from hark.feedback import events
from hark.feedback.identifiers import hash_of_secret, new_id, new_pseudonym
from hark.feedback.refusals import (
    ConflictError,
    InvalidLabelError,
    NotAllowedError,
    NotFoundError,
)
from hark.feedback.store import Store
from hark.feedback.tables import assignments, login_attempts, people, tokens

Role = Literal["owner", "researcher", "reviewer", "labeler"]
ROLES: Final[tuple[Role, ...]] = ("owner", "researcher", "reviewer", "labeler")
PASSWORD_CHARACTERS: Final = (10, 1000)
LOGIN_CHARACTERS: Final = (2, 254)

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""Argon2id with the least that OWASP's Password Storage Cheat Sheet recommends (19 MiB, two passes,
one lane). argon2-cffi's own default takes seven times as long, which fifty people who sign in at
once would wait for (docs/log.md)."""
_HASHING_AT_ONCE = threading.BoundedSemaphore(max(1, (os.cpu_count() or 1) // 2))
"""A rush of logins waits rather than fill the memory, and leaves half of the cores to those who
label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account."""

    id: str
    pseudonym: str
    """All that events, exports and other labelers ever see."""
    role: Role
    login: str | None
    """None once forgotten."""
    disabled: bool
    created_at: float


def create_owner(store: Store, login: str, password: str) -> Person:
    """The first account of a new store. Raises: ConflictError if there is any account."""
    hashed = hash_password(password, login)
    with store.write() as connection:
        if connection.execute(select(func.count()).select_from(people)).scalar_one():
            raise ConflictError("this store has accounts already: ask its owner for an invite")
        return insert_person(connection, login, hashed, "owner", store.clock())


def first_owner(store: Store) -> Person:
    """Who has owned the store for longest. Raises: NotFoundError if nobody does."""
    active = (people.c.role == "owner") & ~people.c.disabled
    with store.read() as connection:
        found = connection.execute(select(people).where(active).order_by(people.c.created_at))
        row = found.first()
    if row is None:
        raise NotFoundError(
            "this store has no owner yet: make one with `hark feedback owner LOGIN`"
        )
    return person_of(row)


def server_person(connection: Connection, now: float) -> Person:
    """The account in whose name a server acts while there is no owner: no login leads to it."""
    ours = people.c.login.is_(None) & people.c.forgotten_at.is_(None)
    # Two servers that start on an empty store at once make two, which is one too many but no harm.
    row = connection.execute(select(people).where(ours).order_by(people.c.id)).first()
    if row is not None:
        return person_of(row)
    person_id = new_id()
    new = {
        "id": person_id,
        "pseudonym": new_pseudonym(),
        "role": "owner",
        "disabled": False,
        "created_at": now,
    }
    connection.execute(insert(people).values(new))
    return get_person(connection, person_id)


def has_owner(connection: Connection) -> bool:
    """Whether an owner can sign in."""
    known = (people.c.role == "owner") & ~people.c.disabled & people.c.login.is_not(None)
    return bool(connection.execute(select(func.count()).where(known)).scalar_one())


def insert_person(
    connection: Connection, login: str, password_hash: str, role: Role, now: float
) -> Person:
    """A new account. Raises: ConflictError if the login is taken."""
    login = normal_login(login)
    taken = connection.execute(select(people.c.id).where(people.c.login == login)).one_or_none()
    if taken:
        raise ConflictError(f"the login '{login}' is taken; choose another")
    person_id = new_id()
    row = {
        "id": person_id,
        "pseudonym": new_pseudonym(),
        "role": role,
        "login": login,
        "password_hash": password_hash,
        "disabled": False,
        "created_at": now,
    }
    connection.execute(insert(people).values(row))
    return get_person(connection, person_id)


def normal_login(login: str) -> str:
    """Logins are the same whatever their case and composition. Raises: InvalidLabelError."""
    normal = unicodedata.normalize("NFKC", login).strip().casefold()
    low, high = LOGIN_CHARACTERS
    if not low <= len(normal) <= high or not normal.isprintable():
        raise InvalidLabelError(f"a login has {low} to {high} printable characters")
    return normal


def hash_password(password: str, login: str) -> str:
    """What is kept of a password (argon2id). Raises: InvalidLabelError for one that is too weak."""
    low, high = PASSWORD_CHARACTERS
    if not low <= len(password) <= high:
        raise InvalidLabelError(f"a password has {low} to {high} characters, not {len(password)}")
    if password.strip().casefold() == normal_login(login):
        raise InvalidLabelError("the password is the login; choose another")
    with _HASHING_AT_ONCE:
        return _HASHER.hash(password)


def is_password(password: str, password_hash: str) -> bool:
    """Whether it is the one behind the hash."""
    if len(password) > PASSWORD_CHARACTERS[1]:
        return False
    try:
        with _HASHING_AT_ONCE:
            return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def hash_anew(password: str, password_hash: str) -> str | None:
    """The hash of a password that is right, if it was hashed with other parameters than today's."""
    if not _HASHER.check_needs_rehash(password_hash):
        return None
    with _HASHING_AT_ONCE:
        return _HASHER.hash(password)


@functools.cache
def hash_of_nobody() -> str:
    """Verified for a login that does not exist, which takes as long as for one that does."""
    return _HASHER.hash("the password of nobody")


def set_role(store: Store, person_id: str, role: Role, *, by: str) -> Person:
    """Give somebody a role; kept as an event.

    Raises: NotAllowedError; ConflictError for the last owner.
    """
    with store.write() as connection:
        owner = require(connection, by, ("owner",))
        person = get_person(connection, person_id)
        if person.role == "owner" and role != "owner":
            _check_another_owner(connection)
        return _change(connection, person, owner, "role", role, store.clock())


def disable(store: Store, person_id: str, *, by: str, disabled: bool = True) -> Person:
    """Keep someone out, or let them in again; their labels stay, their sessions end.

    Kept as an event. Raises: NotAllowedError; ConflictError for the last owner.
    """
    with store.write() as connection:
        owner = require(connection, by, ("owner",))
        person = get_person(connection, person_id)
        if disabled and person.role == "owner":
            _check_another_owner(connection)
        connection.execute(delete(tokens).where(tokens.c.person_id == person_id))
        return _change(connection, person, owner, "disabled", disabled, store.clock())


def _change(
    connection: Connection,
    person: Person,
    by: Person,
    what: Literal["role", "disabled"],
    value: Role | bool,
    now: float,
) -> Person:
    before = getattr(person, what)
    if before != value:
        connection.execute(update(people).where(people.c.id == person.id).values({what: value}))
        body = {"labeler": person.pseudonym, "what": what, "before": before, "after": value}
        events.append_change(connection, "person_changed", body, by=by.pseudonym, now=now)
    return get_person(connection, person.id)


def forget(store: Store, person_id: str, *, by: str) -> None:
    """Erase who somebody else is, for owners. Their labels stay under a pseudonym of nobody's.

    What they are holding goes back to the others. It cannot be undone.
    Raises: NotAllowedError unless `by` is another person, an owner; ConflictError for the last
    owner.
    """
    if by == person_id:
        raise NotAllowedError(
            "erase yourself on the page of your account, or with DELETE /me: it asks for your "
            "password"
        )
    erase(store, person_id, by=by, roles=("owner",))


def erase(store: Store, person_id: str, *, by: str, roles: Collection[str]) -> None:
    """`forget` for whoever has one of these roles; `sign_in.forget_me` asks for the password."""
    now = store.clock()
    with store.write() as connection:
        author = require(connection, by, roles).pseudonym
        row = _row(connection, person_id)
        if row.role == "owner":
            _check_another_owner(connection)
        if row.login is not None:
            key = attempt_key("login", row.login)
            connection.execute(delete(login_attempts).where(login_attempts.c.key_hash == key))
        # Before the person's row is locked, for a claim locks them in this order too.
        held = (assignments.c.person_id == person_id) & (assignments.c.state == "open")
        connection.execute(update(assignments).where(held).values(expires_at=now))
        erased = {"login": None, "password_hash": None, "disabled": True, "forgotten_at": now}
        connection.execute(update(people).where(people.c.id == person_id).values(erased))
        connection.execute(delete(tokens).where(tokens.c.person_id == person_id))
        body = {"labeler": row.pseudonym}
        events.append_change(connection, "forgotten", body, by=author, now=now)
    store.overwrite_deleted()


def attempt_key(kind: Literal["login", "address"], value: str) -> str:
    """Under which failed attempts are counted; not the value itself."""
    return hash_of_secret(f"{kind}\n{value}")


def require(connection: Connection, person_id: str, roles: Collection[str]) -> Person:
    """The person, who must have one of these roles. Raises: NotAllowedError."""
    person = get_person(connection, person_id)
    if person.disabled:
        raise NotAllowedError("this account is disabled: ask the owner")
    if person.role not in roles:
        raise NotAllowedError(f"a {person.role} may not do this; it takes: {' or '.join(roles)}")
    return person


def get_person(connection: Connection, person_id: str) -> Person:
    """Raises: NotFoundError."""
    return person_of(_row(connection, person_id))


def list_people(store: Store) -> list[Person]:
    """Everyone with an account, in the order in which they came; not those forgotten."""
    with store.read() as connection:
        known = select(people).where(people.c.login.is_not(None)).order_by(people.c.created_at)
        return [person_of(row) for row in connection.execute(known)]


def person_of(row: Row[Any]) -> Person:
    """A row of the table, without its secrets."""
    return Person(
        id=row.id,
        pseudonym=row.pseudonym,
        role=row.role,
        login=row.login,
        disabled=row.disabled,
        created_at=row.created_at,
    )


def _row(connection: Connection, person_id: str) -> Row[Any]:
    row = connection.execute(select(people).where(people.c.id == person_id)).one_or_none()
    if row is None:
        raise NotFoundError("there is no such person")
    return row


def _check_another_owner(connection: Connection) -> None:
    # The server's own account is no owner that anybody could ask.
    active = (people.c.role == "owner") & ~people.c.disabled & people.c.login.is_not(None)
    if len(connection.execute(select(people.c.id).where(active).with_for_update()).all()) < 2:
        raise ConflictError("this is the last owner; make somebody else an owner first")
