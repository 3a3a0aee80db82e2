"""How far studies are: a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from hark.feedback import events, studies
from hark.feedback.agreement import percent_agreement
from hark.feedback.judgements import preference_units
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.feedback.tables import assignments, items
from hark.feedback.tables import studies as studies_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One study."""

    study: str
    state: str
    task: str
    items: int
    """To be labelled for training or tests."""
    full: int
    """Of these, with as many labelers as they want."""
    labels: int
    """As they stand, without those corrected or retracted."""
    labelers: int
    """Who gave them."""
    working: int
    """Items that somebody holds now."""
    agreement: float | None
    """Share of the pairs of labelers who say the same of two responses; None if undefined."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def overview(store: Store, name: str | None = None) -> list[Overview]:
    """One study, or all in the order in which they were made. Raises: NotFoundError."""
    with store.read() as connection:
        if name is not None:
            found: Sequence[str] = [studies.find_study(store, name).id]
        else:
            ordered = select(studies_table.c.id).order_by(studies_table.c.created_at)
            found = connection.execute(ordered).scalars().all()
        return [_overview(connection, studies.get_study(connection, one)) for one in found]


def _overview(connection: Connection, study: Study) -> Overview:
    wanted = (items.c.study_id == study.id) & items.c.use.in_(("train", "test"))
    held = (assignments.c.study_id == study.id) & (assignments.c.state == "open")

    def count(table: Any, condition: Any) -> int:
        statement = select(func.count()).select_from(table).where(condition)
        return int(connection.execute(statement).scalar_one())

    kept = events.iterate(connection, study_id=study.id, kinds=events.LABELS, current=True)
    labels = [one for one in kept if one.body["use"] in ("train", "test")]
    return Overview(
        study=study.settings.name,
        state=study.state,
        task=study.settings.task,
        items=count(items, wanted),
        full=count(items, wanted & (items.c.fill == "full")),
        labels=len(labels),
        labelers=len({one.author for one in labels}),
        working=count(assignments, held),
        agreement=percent_agreement(preference_units(labels)).value,
    )
