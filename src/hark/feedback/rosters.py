"""Who takes part in which study."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, select

from hark.feedback import accounts, studies
from hark.feedback.accounts import Person
from hark.feedback.refusals import NotFoundError
from hark.feedback.store import Store
from hark.feedback.studies import Member, Study
from hark.feedback.tables import member_categories, members, people
from hark.feedback.tables import studies as studies_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A member and who they are."""

    member: Member
    person: Person
    joined_at: float


def list_studies(store: Store, person_id: str) -> list[tuple[Study, Member | None]]:
    """The studies of a person, newest first: those they take part in; for managers, all."""
    with store.read() as connection:
        wanted = select(studies_table.c.id).order_by(studies_table.c.created_at.desc())
        if accounts.get_person(connection, person_id).role not in studies.MANAGERS:
            wanted = wanted.join(members).where(members.c.person_id == person_id)
        return [
            (
                studies.get_study(connection, study_id),
                studies.find_member(connection, study_id, person_id),
            )
            for study_id in connection.execute(wanted).scalars().all()
        ]


def find_own_study(store: Store, name: str, person_id: str) -> Study:
    """A study that the person takes part in.

    Raises: NotFoundError, the same for one that is not theirs as for none.
    """
    theirs = (
        select(studies_table.c.id)
        .join(members)
        .where(members.c.person_id == person_id, studies_table.c.name == name)
    )
    with store.read() as connection:
        study_id = connection.execute(theirs).scalar_one_or_none()
        if study_id is None:
            raise NotFoundError(f"you take part in no study '{name}'")
        return studies.get_study(connection, study_id)


def list_members(store: Store, study_id: str) -> list[Listed]:
    """Everyone in a study, in the order in which they joined; those forgotten as well."""
    with store.read() as connection:
        return members_of(connection, study_id)


def find_listed(store: Store, study_id: str, person_id: str) -> Listed:
    """One of them. Raises: NotFoundError."""
    with store.read() as connection:
        found = members_of(connection, study_id, person_id)
    if not found:
        raise NotFoundError(f"nobody '{person_id}' takes part in this study")
    return found[0]


def members_of(connection: Connection, study_id: str, person_id: str | None = None) -> list[Listed]:
    """`list_members` within a transaction; of one person if it is said, none if they are not in."""
    held = member_categories.c
    agreements = select(held.person_id, held.category).where(held.study_id == study_id)
    takes_part = (
        select(members, people)
        .join(people, members.c.person_id == people.c.id)
        .where(members.c.study_id == study_id)
        .order_by(members.c.joined_at, people.c.id)
    )
    if person_id is not None:
        agreements = agreements.where(held.person_id == person_id)
        takes_part = takes_part.where(members.c.person_id == person_id)
    agreed = defaultdict[str, set[str]](set)
    for row in connection.execute(agreements):
        agreed[row.person_id].add(row.category)
    rows = connection.execute(takes_part)
    return [
        Listed(
            member=Member(
                study_id=study_id,
                person_id=row.id,
                state=row.state,
                held_out=row.held_out,
                categories=frozenset(agreed[row.id]),
            ),
            person=accounts.person_of(row),
            joined_at=row.joined_at,
        )
        for row in rows
    ]
