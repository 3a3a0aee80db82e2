"""What owners and researchers did to people, members and invitations: read from the log.

Everybody is named by their pseudonym, so that forgetting somebody forgets them here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import or_, select

from hark.feedback import events as log
from hark.feedback.store import Store
from hark.feedback.tables import events, studies

SHOWN: Final = 50
"""Changes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change."""

    event_id: str
    kind: str
    """One of `events.CHANGES`."""
    at: float
    by: str
    """Pseudonym of whoever did it."""
    study: str | None
    """Its name, if it concerns one."""
    about: Mapping[str, Any]
    """What and whom: `labeler` is a pseudonym; `what` was changed from `before` to `after`."""


def list_changes(store: Store, *, before: str | None = None, limit: int = SHOWN) -> list[Change]:
    """Changes of the whole store, newest first.

    before: the event of one of them; those from it on are left out. Raises: NotFoundError.
    """
    # By studies, so that the index finds the few among many labels.
    in_any = or_(events.c.study_id.is_(None), events.c.study_id.in_(select(studies.c.id)))
    wanted = (
        select(events, studies.c.name)
        .outerjoin(studies, studies.c.id == events.c.study_id)
        .where(in_any, events.c.kind.in_(sorted(log.CHANGES)))
        .order_by(events.c.position.desc())
        .limit(limit)
    )
    with store.read() as connection:
        if before is not None:
            wanted = wanted.where(events.c.position < log.get(connection, before).position)
        return [
            Change(
                event_id=row.id,
                kind=row.kind,
                at=row.created_at,
                by=row.author,
                study=row.name,
                about=row.body,
            )
            for row in connection.execute(wanted)
        ]
