"""Sessions, API tokens, and what stands in the way of guessing passwords.

Secrets are 256 random bits and are kept as hashes. A session begins with a new secret at every
login, so that one planted before it is worth nothing. Failed logins are counted for the login and
for the address they come from; after a few, each further one doubles the wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from hark.feedback import accounts
from hark.feedback.accounts import Person, attempt_key
from hark.feedback.events import iso_time
from hark.feedback.identifiers import hash_of_secret, new_id, new_secret
from hark.feedback.refusals import (
    InvalidLabelError,
    NotAllowedError,
    NotSignedInError,
    ThrottledError,
)
from hark.feedback.store import Store
from hark.feedback.tables import login_attempts, people, tokens

SESSION_SECONDS: Final = 14 * 86400.0
FREE_FAILURES: Final = {"login": 5, "address": 50}
"""An address may be a whole office."""
FIRST_WAIT_SECONDS: Final = 15.0
LONGEST_WAIT_SECONDS: Final = 900.0
FORGIVEN_AFTER_SECONDS: Final = 86400.0
API_TOKEN_PREFIX: Final = "hark_"
API_TOKEN_DAYS: Final = 90.0
"""How long an API token is good for unless it is said."""
LONGEST_API_TOKEN_DAYS: Final = 365.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody signed in."""

    person: Person
    secret: str
    """For the cookie."""
    csrf: str
    """To be sent back with every form."""
    expires_at: float


def log_in(store: Store, login: str, password: str, *, address: str) -> Session:
    """Sign in with a password.

    address: where the request comes from.
    Raises: NotSignedInError, the same for an unknown login as for a wrong password;
    ThrottledError after too many failures.
    """
    try:
        login = accounts.normal_login(login)
    except InvalidLabelError:
        login = ""
    with store.read() as connection:
        row = connection.execute(select(people).where(people.c.login == login)).one_or_none()
    known = row if row is not None and not row.disabled else None
    attempt = _Attempt.make(store, login, known, password, address=address)
    with store.write() as connection:
        now = store.clock()
        attempt.count(connection, now)
        if attempt.is_right:
            assert known is not None
            return _start_session(connection, known.id, now)
    raise NotSignedInError("the login or the password is wrong")


def change_password(store: Store, person_id: str, old: str, new: str, *, address: str) -> None:
    """Change one's password; every session and API token ends.

    Raises: NotAllowedError if `old` is wrong; ThrottledError after too many failures.
    """
    login = confirm_password(store, person_id, old, address=address)
    hashed = accounts.hash_password(new, login)
    with store.write() as connection:
        ours = people.c.id == person_id
        connection.execute(update(people).where(ours).values(password_hash=hashed))
        connection.execute(delete(tokens).where(tokens.c.person_id == person_id))


def forget_me(store: Store, person_id: str, password: str, *, address: str) -> None:
    """Erase who one is, as `accounts.forget` does. It cannot be undone.

    Raises: NotAllowedError for a wrong password; ThrottledError; ConflictError for the last owner.
    """
    confirm_password(store, person_id, password, address=address)
    accounts.erase(store, person_id, by=person_id, roles=accounts.ROLES)


def confirm_password(store: Store, person_id: str, password: str, *, address: str) -> str:
    """That somebody signed in is who they say: a session may be stolen. Returns their login.

    Raises: NotAllowedError if the password is wrong; ThrottledError, counted with failed logins.
    """
    with store.read() as connection:
        row = connection.execute(select(people).where(people.c.id == person_id)).one()
    attempt = _Attempt.make(store, row.login or "", row, password, address=address)
    with store.write() as connection:
        attempt.count(connection, store.clock())
    if not attempt.is_right:
        raise NotAllowedError("the present password is wrong")
    return str(row.login)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A password that was tried, and what came of it; not counted yet."""

    keys: dict[str, str]
    """What is counted → under which key."""
    is_right: bool
    hashed: str | None
    """What is kept of the password, if it is right."""
    hashed_anew: str | None
    """With the parameters of today, where it was kept with others."""

    @classmethod
    def make(
        cls, store: Store, login: str, row: Row[Any] | None, password: str, *, address: str
    ) -> Self:
        """Try a password. row: of `people`; None for nobody's login, which takes as long.

        Raises: ThrottledError after too many failures.
        """
        keys = {"login": attempt_key("login", login), "address": attempt_key("address", address)}
        with store.read() as connection:
            check_throttle(connection, keys, store.clock())
        hashed: str | None = None if row is None else row.password_hash
        same = accounts.is_password(password, hashed or accounts.hash_of_nobody())
        right = hashed if same else None
        anew = None if right is None else accounts.hash_anew(password, right)
        return cls(keys=keys, is_right=right is not None, hashed=right, hashed_anew=anew)

    def count(self, connection: Connection, now: float) -> None:
        """Count a failure, or forgive those before a success. Raises: ThrottledError."""
        # Again: many guesses at once would all have passed before the first is counted.
        check_throttle(connection, self.keys, now)
        if not self.is_right:
            _count_failure(connection, list(self.keys.values()), now)
            return
        mine = login_attempts.c.key_hash == self.keys["login"]
        connection.execute(delete(login_attempts).where(mine))
        if self.hashed_anew is not None:  # nothing if it was changed meanwhile
            unchanged = people.c.password_hash == self.hashed
            values = {"password_hash": self.hashed_anew}
            connection.execute(update(people).where(unchanged).values(values))


def check_throttle(connection: Connection, keys: dict[str, str], now: float) -> None:
    """Raises: ThrottledError if one has to wait; what is waited out is not counted."""
    for kind, key in keys.items():
        row = connection.execute(
            select(login_attempts).where(login_attempts.c.key_hash == key)
        ).one_or_none()
        if row is None or now - row.last_at > FORGIVEN_AFTER_SECONDS:
            continue
        left = row.last_at + wait_seconds(row.failures, FREE_FAILURES[kind]) - now
        if left > 0:
            raise ThrottledError(
                f"too many failed logins; try again in {left:.0f} seconds", seconds=left
            )


def wait_seconds(failures: int, free: int) -> float:
    """After so many failures: nothing for those that are free, then doubling."""
    if failures < free:
        return 0.0
    doublings = min(failures - free, 10)
    return min(FIRST_WAIT_SECONDS * 2**doublings, LONGEST_WAIT_SECONDS)


def _count_failure(connection: Connection, keys: Sequence[str], now: float) -> None:
    stale = login_attempts.c.last_at < now - FORGIVEN_AFTER_SECONDS
    connection.execute(delete(login_attempts).where(stale))
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    for key in sorted(keys):
        row = {"key_hash": key, "failures": 1, "last_at": now}
        more = {"failures": login_attempts.c.failures + 1, "last_at": now}
        statement = dialect.insert(login_attempts).values(row)
        connection.execute(statement.on_conflict_do_update(index_elements=["key_hash"], set_=more))


def start_session(store: Store, person_id: str) -> Session:
    """Sign in someone who has just proved who they are otherwise, as by an invite."""
    with store.write() as connection:
        return _start_session(connection, person_id, store.clock())


def _start_session(connection: Connection, person_id: str, now: float) -> Session:
    person = accounts.require(connection, person_id, accounts.ROLES)
    secret, csrf = new_secret(), new_secret()
    row = {
        "id": new_id(),
        "kind": "session",
        "token_hash": hash_of_secret(secret),
        "person_id": person_id,
        "label": "",
        "csrf": csrf,
        "created_at": now,
        "expires_at": now + SESSION_SECONDS,
    }
    # API tokens stay in the list of their owner, who wonders why a program stopped.
    theirs = (tokens.c.person_id == person_id) & (tokens.c.kind == "session")
    over = theirs & (tokens.c.expires_at < now)
    connection.execute(delete(tokens).where(over))
    connection.execute(insert(tokens).values(row))
    return Session(person=person, secret=secret, csrf=csrf, expires_at=now + SESSION_SECONDS)


def find_session(store: Store, secret: str) -> Session:
    """Who is behind a cookie. Raises: NotSignedInError."""
    with store.read() as connection:
        row = connection.execute(
            select(tokens).where(
                tokens.c.token_hash == hash_of_secret(secret),
                tokens.c.kind == "session",
                tokens.c.expires_at > store.clock(),
            )
        ).one_or_none()
        if row is None:
            raise NotSignedInError("you are not signed in, or not any more: log in")
        person = accounts.require(connection, row.person_id, accounts.ROLES)
    return Session(person=person, secret=secret, csrf=row.csrf, expires_at=row.expires_at)


def log_out(store: Store, secret: str) -> None:
    """End a session; one that has ended is no error."""
    with store.write() as connection:
        connection.execute(delete(tokens).where(tokens.c.token_hash == hash_of_secret(secret)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A token for programs, without its secret."""

    label: str
    """What it is for."""
    created_at: float
    expires_at: float


def create_api_token(
    store: Store, person_id: str, label: str, *, expires_at: float | None = None
) -> str:
    """A token for programs, told once and never again.

    label: what it is for. expires_at: by default after `API_TOKEN_DAYS`.
    Raises: InvalidLabelError for a label that is too long.
    """
    if not label.isprintable() or len(label) > 200:
        raise InvalidLabelError("the label of a token has up to 200 printable characters")
    secret, now = API_TOKEN_PREFIX + new_secret(), store.clock()
    with store.write() as connection:
        accounts.require(connection, person_id, accounts.ROLES)
        row = {
            "id": new_id(),
            "kind": "api",
            "token_hash": hash_of_secret(secret),
            "person_id": person_id,
            "label": label,
            "created_at": now,
            "expires_at": now + API_TOKEN_DAYS * 86400 if expires_at is None else expires_at,
        }
        connection.execute(insert(tokens).values(row))
    return secret


def list_api_tokens(store: Store, person_id: str) -> list[ApiToken]:
    """A person's API tokens, oldest first, also those that have expired."""
    theirs = (tokens.c.person_id == person_id) & (tokens.c.kind == "api")
    with store.read() as connection:
        rows = connection.execute(select(tokens).where(theirs).order_by(tokens.c.created_at))
        return [
            ApiToken(label=row.label, created_at=row.created_at, expires_at=row.expires_at)
            for row in rows
        ]


def find_api_token(store: Store, secret: str) -> Person:
    """Who is behind an API token. Raises: NotSignedInError."""
    with store.read() as connection:
        row = connection.execute(
            select(tokens).where(
                tokens.c.token_hash == hash_of_secret(secret), tokens.c.kind == "api"
            )
        ).one_or_none()
        if row is None:
            raise NotSignedInError("the API token is not known, or was revoked")
        if row.expires_at <= store.clock():
            raise NotSignedInError(
                f"the API token '{row.label}' expired on {iso_time(row.expires_at)[:10]}: make "
                "another on the page of your account"
            )
        return accounts.require(connection, row.person_id, accounts.ROLES)


def revoke_api_tokens(store: Store, person_id: str, label: str) -> int:
    """Revoke a person's tokens of this label; return how many there were."""
    theirs = (tokens.c.person_id == person_id) & (tokens.c.kind == "api")
    with store.write() as connection:
        done = connection.execute(delete(tokens).where(theirs, tokens.c.label == label))
        return done.rowcount
