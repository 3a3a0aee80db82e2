"""A labeler's own side of their studies: what waits for them, and how much they have done."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from hark.feedback import studies
from hark.feedback.selection import DAY_SECONDS, count_waiting, quota_used
from hark.feedback.store import Store
from hark.feedback.studies import Member, Study
from hark.feedback.tables import assignments, members


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A study as it stands for one of its labelers."""

    study: Study
    member: Member
    waiting: int
    """Items that they could be given; the share of gold items is not told."""
    holds_one: bool
    """Whether an item is in their hands."""
    done: int
    done_today: int
    """In the last 24 hours."""
    skipped: int
    of_quota: int
    """Items done that count against the most that the study allows each."""

    @property
    def may_work(self) -> bool:
        """Whether there is something to do now."""
        taking_part = self.member.state in ("active", "screening")
        return self.study.state == "open" and taking_part and (self.holds_one or self.waiting > 0)


def desks_of(store: Store, person_id: str) -> list[Desk]:
    """Every study that a person takes part in, those with work first."""
    with store.read() as connection:
        mine = select(members.c.study_id).where(members.c.person_id == person_id)
        ids = connection.execute(mine.order_by(members.c.joined_at)).scalars().all()
        found = [_desk(connection, study_id, person_id, store.clock()) for study_id in ids]
    return sorted(found, key=lambda desk: not desk.may_work)


def desk_of(store: Store, study_id: str, person_id: str) -> Desk:
    """One study. Raises: NotFoundError; NotAllowedError if the person does not take part."""
    with store.read() as connection:
        return _desk(connection, study_id, person_id, store.clock())


def _desk(connection: Connection, study_id: str, person_id: str, now: float) -> Desk:
    study = studies.get_study(connection, study_id)
    member = studies.get_member(connection, study_id, person_id)
    used, most = quota_used(connection, study, person_id), study.settings.maximum_labels
    full = member.state == "active" and most is not None and used >= most
    counts = _counts(connection, study_id, person_id)
    return Desk(
        study=study,
        member=member,
        waiting=0 if full else count_waiting(connection, study, member, now),
        holds_one=counts.get("open", 0) > 0,
        done=counts.get("done", 0) + counts.get("late", 0),
        done_today=sum(_counts(connection, study_id, person_id, since=now - DAY_SECONDS).values()),
        skipped=counts.get("skipped", 0),
        of_quota=used,
    )


def _counts(
    connection: Connection, study_id: str, person_id: str, *, since: float | None = None
) -> dict[str, int]:
    """Assignments in each state; with `since`, only those done from then on."""
    statement = select(assignments.c.state, func.count().label("items")).where(
        assignments.c.study_id == study_id, assignments.c.person_id == person_id
    )
    if since is not None:
        finished = assignments.c.finished_at > since
        statement = statement.where(finished, assignments.c.state.in_(("done", "late")))
    rows = connection.execute(statement.group_by(assignments.c.state)).all()
    return {row.state: row.items for row in rows}
