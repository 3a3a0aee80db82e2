"""Which item a labeler gets next, and when it is enough."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, func, select, true

from hark.feedback import queue
from hark.feedback.chance import Chance
from hark.feedback.items import Use
from hark.feedback.queue import Fill
from hark.feedback.studies import Member, Study
from hark.feedback.tables import assignments, item_categories, items, member_categories

DAY_SECONDS: Final = 86400.0


def quota_reached(connection: Connection, study: Study, person_id: str) -> bool:
    """Whether the labeler has done as many items as the study allows each."""
    most = study.settings.maximum_labels
    return most is not None and quota_used(connection, study, person_id) >= most


def quota_used(connection: Connection, study: Study, person_id: str) -> int:
    """Items that the labeler has done and that count: not those with known answers."""
    return connection.execute(
        select(func.count())
        .select_from(assignments.join(items, assignments.c.item_id == items.c.id))
        .where(
            assignments.c.study_id == study.id,
            assignments.c.person_id == person_id,
            assignments.c.state.in_(("done", "late")),
            items.c.use.in_(("train", "test")),
        )
    ).scalar_one()


def next_item(
    connection: Connection, chance: Chance, study: Study, member: Member, now: float
) -> Row[Any] | None:
    """The row of the item a labeler is to have next; the study is locked.

    What others have begun comes first, so that overlaps fill.
    """
    sensitive = _sensitive_allowed(connection, study, member, now)
    for use in _uses(connection, chance, study, member):
        item = _next_of(connection, study, member, use, sensitive)
        if item is not None:
            return item
    return None


def rests(connection: Connection, study: Study, member: Member, now: float) -> bool:
    """Whether all that is left for a labeler is sensitive, and they have had enough for a day."""
    if _sensitive_allowed(connection, study, member, now):
        return False
    return count_waiting(connection, study, member, now, capped=False) > 0


def count_waiting(
    connection: Connection, study: Study, member: Member, now: float, *, capped: bool = True
) -> int:
    """Items that a labeler could be given: of the screening test, or to label.

    capped: leave out the sensitive ones if they have had enough of them for a day.
    """
    sensitive = not capped or _sensitive_allowed(connection, study, member, now)
    main: tuple[Use, ...] = ("test",) if member.held_out else ("train", "test")
    uses: tuple[Use, ...] = ("screening",) if member.state == "screening" else main
    statement = (
        select(func.count())
        .select_from(items)
        .where(
            items.c.use.in_(uses),
            items.c.fill.in_(("begun", "fresh")),
            *_open_to(study, member, sensitive),
        )
    )
    return connection.execute(statement).scalar_one()


def _uses(connection: Connection, chance: Chance, study: Study, member: Member) -> list[Use]:
    """The uses of the items this labeler may get, in the order in which to look."""
    if member.state == "screening":
        return ["screening"]
    main: list[Use] = ["test"] if member.held_out else ["train", "test"]
    if not study.settings.gold_fraction:
        return main
    mine = (assignments.c.study_id == study.id) & (assignments.c.person_id == member.person_id)
    count = connection.execute(select(func.count()).where(mine)).scalar_one()
    drawn = chance.uniform("gold", study.id, member.person_id, count)
    return ["gold", *main] if drawn < study.settings.gold_fraction else main


def _next_of(
    connection: Connection, study: Study, member: Member, use: Use, sensitive: bool
) -> Row[Any] | None:
    """The first item of this use that has room and that the labeler may see and has not had."""
    fills: tuple[Fill, ...] = ("begun", "fresh")
    for fill in fills:
        before = queue.passed(connection, study.id, member.person_id, use, fill)
        # How much of sensitive items somebody has had today is no reason to pass any for good.
        first = _first(connection, study, member, use, fill, before, sensitive=True)
        after = queue.last_number(connection, study.id) if first is None else first.queue - 1
        if after > before:
            queue.put_passed(connection, study.id, member.person_id, use, fill, after)
        if first is not None and not sensitive:
            first = _first(connection, study, member, use, fill, after, sensitive=False)
        if first is not None:
            return first
    return None


def _first(
    connection: Connection,
    study: Study,
    member: Member,
    use: Use,
    fill: Fill,
    after: int,
    *,
    sensitive: bool,
) -> Row[Any] | None:
    """The first in the queue behind a number."""
    statement = (
        select(items)
        .where(
            items.c.use == use,
            items.c.fill == fill,
            items.c.queue > after,
            *_open_to(study, member, sensitive),
        )
        .order_by(items.c.queue)
        .limit(1)
    )
    return connection.execute(statement).one_or_none()


def _open_to(study: Study, member: Member, sensitive: bool) -> list[ColumnElement[bool]]:
    """Conditions under which an item of the study may be given to this labeler."""
    had = select(assignments.c.id).where(
        assignments.c.item_id == items.c.id,
        assignments.c.person_id == member.person_id,
        assignments.c.state != "expired",
    )
    conditions = [
        items.c.study_id == study.id,
        items.c.votable == true(),
        ~had.exists(),
        ~_unwanted(study, member, sensitive),
    ]
    if study.settings.task == "review":
        own_attack = select(assignments.c.id).where(
            assignments.c.id == items.c.source_id, assignments.c.person_id == member.person_id
        )
        conditions.append(~own_attack.exists())
    return conditions


def _unwanted(study: Study, member: Member, sensitive: bool) -> ColumnElement[bool]:
    """Whether an item is of a category that the labeler has not agreed to, or not now."""
    agreed = select(member_categories.c.category).where(
        member_categories.c.study_id == study.id,
        member_categories.c.person_id == member.person_id,
    )
    of_item = select(item_categories.c.item_id).where(item_categories.c.item_id == items.c.id)
    if sensitive:
        of_item = of_item.where(item_categories.c.category.not_in(agreed))
    return of_item.exists()


def _sensitive_allowed(connection: Connection, study: Study, member: Member, now: float) -> bool:
    """Whether the labeler may be given another item of any category today, in whichever study they
    were given the others."""
    most = study.settings.maximum_sensitive_per_day
    if most is None or not study.settings.categories:
        return True
    of_item = select(item_categories.c.item_id).where(
        item_categories.c.item_id == assignments.c.item_id
    )
    seen = connection.execute(
        select(func.count())
        .select_from(assignments)
        .where(
            assignments.c.person_id == member.person_id,
            assignments.c.leased_at > now - DAY_SECONDS,
            of_item.exists(),
        )
    ).scalar_one()
    return seen < most
