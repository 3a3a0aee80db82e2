"""How far a study is, how fast it goes, and when it will be done.

Progress counts places: an item that wants three labelers has three. Gold and screening items are
for every labeler and have none.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Integer, case, cast, func, select

from hark.feedback.tables import assignments, items

Times = Sequence[float] | NDArray[np.float64]
HOUR: Final = 3600.0
STEPS: Final = (60, 300, 900, HOUR, 6 * HOUR, 24 * HOUR, 7 * 24 * HOUR, 28 * 24 * HOUR)
"""Widths of the bars of a history, in seconds."""
MOST_BARS: Final = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCount:
    """Items of one use."""

    use: str
    items: int
    waiting: int
    """Without responses that can be read, so that nobody is given them."""
    begun: int
    full: int
    labelled: int
    """Assignments that are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Places filled in an hour, at present."""

    per_hour: float | None
    because: str
    """Why there is none; empty if there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Labels in spells of equal length, the last one still running."""

    start: float
    """Seconds since 1970."""
    seconds: float
    """Of each spell."""
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a study is."""

    uses: tuple[UseCount, ...]
    places: int
    filled: int
    """Places whose label is there."""
    open: int
    """Assignments in somebody's hands."""
    skipped: int
    late: int
    labels: int
    labels_last_hour: int
    labels_last_day: int
    pace: Pace
    seconds_left: float | None
    """At the present pace; None if it is undefined."""
    history: History | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """Places whose label is there."""

    places: int
    last_hour: int
    first_at: float | None


def progress(connection: Connection, study_id: str, *, now: float, label_times: Times) -> Progress:
    """Count a study. label_times: when each label was first given, ascending."""
    counted = count_uses(connection, study_id)
    states = _count_states(connection, study_id)
    places = _count_places(connection, study_id)
    filled = _count_filled(connection, study_id, now)
    rate = pace(filled, now)
    left = places - filled.places
    seconds_left = 0.0 if not left else left / rate.per_hour * HOUR if rate.per_hour else None
    return Progress(
        uses=tuple(counted),
        places=places,
        filled=filled.places,
        open=states.get("open", 0),
        skipped=states.get("skipped", 0),
        late=states.get("late", 0),
        labels=len(label_times),
        labels_last_hour=_since(label_times, now - HOUR),
        labels_last_day=_since(label_times, now - 24 * HOUR),
        pace=rate,
        seconds_left=seconds_left if places else None,
        history=history(label_times, now),
    )


def pace(filled: Filled, now: float) -> Pace:
    """How many places were filled in the last hour, or since the first if that is less.

    A minute at least is taken, so that one label does not make sixty an hour.
    """
    if not filled.last_hour or filled.first_at is None:
        return Pace(per_hour=None, because="nothing was finished in the last hour")
    if filled.places < 2:
        return Pace(per_hour=None, because="only one place is filled")
    spell = min(HOUR, max(60.0, now - filled.first_at))
    return Pace(per_hour=filled.last_hour / spell * HOUR, because="")


def history(times: Times, now: float) -> History | None:
    """Counts in up to 48 spells, of the shortest length that covers all; None without times.

    times: ascending.
    """
    if not len(times):
        return None
    seconds = next(
        (float(step) for step in STEPS if (now - times[0]) // step + 2 <= MOST_BARS), STEPS[-1]
    )
    start = times[0] // seconds * seconds
    spells = int((max(now, times[-1]) - start) // seconds) + 1
    counts = np.bincount(((np.asarray(times) - start) // seconds).astype(int), minlength=spells)
    return History(start=float(start), seconds=seconds, counts=tuple(counts.tolist()))


def _since(times: Times, start: float) -> int:
    return len(times) - bisect.bisect_right(times, start)


def count_uses(connection: Connection, study_id: str) -> list[UseCount]:
    """Items and labels of each use."""
    ours = items.c.study_id == study_id
    held = connection.execute(
        select(items.c.use, func.count())
        .join(assignments, assignments.c.item_id == items.c.id)
        .where(assignments.c.study_id == study_id, assignments.c.state == "open")
        .group_by(items.c.use)
    )
    in_hand = {use: count for use, count in held}  # noqa: C416 (rows are not tuples to mypy)
    rows = connection.execute(
        select(
            items.c.use,
            func.count().label("items"),
            func.sum(cast(~items.c.votable, Integer)).label("waiting"),
            func.sum(case((items.c.fill == "begun", 1), else_=0)).label("begun"),
            func.sum(case((items.c.fill == "full", 1), else_=0)).label("full"),
            func.sum(items.c.taken).label("taken"),
        )
        .where(ours)
        .group_by(items.c.use)
    )
    found = {
        row.use: UseCount(
            use=row.use,
            items=row.items,
            waiting=int(row.waiting),
            begun=int(row.begun),
            full=int(row.full),
            labelled=int(row.taken) - in_hand.get(row.use, 0),
        )
        for row in rows
    }
    return [found[use] for use in ("train", "test", "gold", "screening") if use in found]


def _count_states(connection: Connection, study_id: str) -> dict[str, int]:
    rows = connection.execute(
        select(assignments.c.state, func.count())
        .where(assignments.c.study_id == study_id)
        .group_by(assignments.c.state)
    )
    return {state: count for state, count in rows}  # noqa: C416 (rows are not tuples to mypy)


def _count_places(connection: Connection, study_id: str) -> int:
    total = select(func.sum(items.c.slots)).where(items.c.study_id == study_id)
    return int(connection.execute(total).scalar_one() or 0)


def _count_filled(connection: Connection, study_id: str, now: float) -> Filled:
    finished = assignments.c.finished_at
    row = connection.execute(
        select(
            func.count().label("places"),
            func.sum(case((finished > now - HOUR, 1), else_=0)).label("last_hour"),
            func.min(finished).label("first_at"),
        ).where(
            assignments.c.study_id == study_id,
            assignments.c.state == "done",
            assignments.c.slot.is_not(None),
        )
    ).one()
    return Filled(places=row.places, last_hour=int(row.last_hour or 0), first_at=row.first_at)
