"""Invite links: how everyone but the first owner gets an account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from hark.feedback import accounts, events, studies
from hark.feedback.accounts import Person, Role
from hark.feedback.identifiers import hash_of_secret, new_id, new_secret
from hark.feedback.refusals import NotAllowedError, NotFoundError
from hark.feedback.store import Store
from hark.feedback.tables import invites, people
from hark.feedback.tables import studies as studies_table

MAY_INVITE: Final[dict[str, tuple[Role, ...]]] = {
    "owner": accounts.ROLES,
    "researcher": ("reviewer", "labeler"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """What a link is good for."""

    role: Role
    study_id: str | None
    held_out: bool
    expires_at: float


def invite(
    store: Store,
    *,
    by: str,
    role: Role = "labeler",
    study_id: str | None = None,
    held_out: bool = False,
    uses: int = 1,
    days: float = 14.0,
) -> str:
    """The secret of a link, told once and never again; kept as an event, without the secret.

    Raises: NotAllowedError.
    """
    secret, invite_id, now = new_secret(), new_id(), store.clock()
    with store.write() as connection:
        person = accounts.require(connection, by, MAY_INVITE)
        if role not in MAY_INVITE[person.role]:
            raise NotAllowedError(f"a {person.role} may not invite a {role}")
        if study_id is not None:
            studies.lock_study(connection, study_id)
        row = {
            "id": invite_id,
            "token_hash": hash_of_secret(secret),
            "role": role,
            "study_id": study_id,
            "held_out": held_out,
            "uses_left": uses,
            "created_by": by,
            "created_at": now,
            "expires_at": now + days * 86400,
        }
        connection.execute(insert(invites).values(row))
        body = {"invite": invite_id, "role": role, "uses": uses, "held_out": held_out}
        events.append_change(
            connection, "invited", body, by=person.pseudonym, now=now, study_id=study_id
        )
    return secret


def revoke(store: Store, invite_id: str, *, by: str) -> None:
    """Let a link be good for nothing any more, whoever has it; kept as an event.

    Raises: NotAllowedError unless one might make it; NotFoundError.
    """
    ours = invites.c.id == invite_id
    with store.write() as connection:
        person = accounts.require(connection, by, MAY_INVITE)
        row = connection.execute(select(invites).where(ours)).one_or_none()
        if row is None:
            raise NotFoundError(
                f"there is no invite '{invite_id}': the list of links has their ids"
            )
        if row.role not in MAY_INVITE[person.role]:
            raise NotAllowedError(f"a {person.role} may not revoke the invite of a {row.role}")
        if row.study_id is not None:
            studies.lock_study(connection, row.study_id)
        used_up = update(invites).where(ours, invites.c.uses_left > 0).values(uses_left=0)
        if connection.execute(used_up).rowcount:
            events.append_change(
                connection,
                "invite_revoked",
                {"invite": invite_id, "role": row.role},
                by=person.pseudonym,
                now=store.clock(),
                study_id=row.study_id,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInvite:
    """A link that can still be used; its secret is not kept."""

    id: str
    role: Role
    study: str | None
    """The name of the study that it leads into, if it does."""
    held_out: bool
    uses_left: int
    expires_at: float


def list_invites(store: Store) -> list[OpenInvite]:
    """Links that are still good, the newest first."""
    into = studies_table.c
    statement = (
        select(invites, into.name)
        .outerjoin(studies_table, into.id == invites.c.study_id)
        .where(still_good(store.clock()))
        .order_by(invites.c.created_at.desc())
    )
    with store.read() as connection:
        return [
            OpenInvite(
                id=row.id,
                role=row.role,
                study=row.name,
                held_out=row.held_out,
                uses_left=row.uses_left,
                expires_at=row.expires_at,
            )
            for row in connection.execute(statement)
        ]


def invite_first_owner(store: Store) -> str | None:
    """The secret of a link for the first owner of a store; None if an owner can sign in.

    Links that were made so before, and not used, end.
    """
    now = store.clock()
    with store.write() as connection:
        if accounts.has_owner(connection):
            return None
        server = accounts.server_person(connection, now)
        earlier = (invites.c.created_by == server.id) & (invites.c.role == "owner")
        connection.execute(update(invites).where(earlier).values(uses_left=0))
    return invite(store, by=server.id, role="owner")


def look_at(store: Store, secret: str) -> Invite:
    """What a link is good for, without using it. Raises: NotFoundError."""
    with store.read() as connection:
        row = connection.execute(
            select(invites).where(_usable(secret, store.clock()))
        ).one_or_none()
    if row is None:
        raise NotFoundError("this invite is used up, has expired, or never was: ask for another")
    return Invite(
        role=row.role, study_id=row.study_id, held_out=row.held_out, expires_at=row.expires_at
    )


def accept(store: Store, secret: str, login: str, password: str) -> Person:
    """Make an account by an invite, and join its study.

    Raises: NotFoundError for a link that is no good; ConflictError for a login that is taken.
    """
    look_at(store, secret)  # Before a hash is computed for whoever asks.
    hashed = accounts.hash_password(password, login)
    with store.write() as connection:
        now = store.clock()
        used = _use(connection, secret, now)
        person = accounts.insert_person(connection, login, hashed, used.role, now)
        _join(connection, used, person, now)
    return person


def accept_as(store: Store, secret: str, person_id: str) -> None:
    """Join the study of an invite with the account one has; its role stays."""
    with store.write() as connection:
        now = store.clock()
        person = accounts.require(connection, person_id, accounts.ROLES)
        _join(connection, _use(connection, secret, now), person, now)


def _use(connection: Connection, secret: str, now: float) -> Invite:
    row = connection.execute(
        update(invites)
        .where(_usable(secret, now))
        .values(uses_left=invites.c.uses_left - 1)
        .returning(invites)
    ).one_or_none()
    if row is None:
        raise NotFoundError("this invite is used up, has expired, or never was: ask for another")
    return Invite(
        role=row.role, study_id=row.study_id, held_out=row.held_out, expires_at=row.expires_at
    )


def _join(connection: Connection, used: Invite, person: Person, now: float) -> None:
    if used.study_id is not None:
        studies.admit(connection, used.study_id, person.id, held_out=used.held_out, now=now)


def _usable(secret: str, now: float) -> ColumnElement[bool]:
    return (invites.c.token_hash == hash_of_secret(secret)) & still_good(now)


def still_good(now: float) -> ColumnElement[bool]:
    """Whether an invite can be used: one is good only while its maker might make it again.

    Else who is put out could come back by a link they made before.
    """
    entitled = or_(
        *((people.c.role == role) & invites.c.role.in_(may) for role, may in MAY_INVITE.items())
    )
    maker = select(people.c.id).where(
        people.c.id == invites.c.created_by, ~people.c.disabled, entitled
    )
    return (invites.c.uses_left > 0) & (invites.c.expires_at > now) & maker.exists()
