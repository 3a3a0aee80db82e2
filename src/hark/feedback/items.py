"""Items: what is to be labelled, and the responses that are judged in them.

A response that failed or was cut off makes its item unvotable: nobody is given it, and all its
responses are drawn again, so that no comparison is between a fresh and a stale one. Responses that
can be read are never replaced, for there may be labels of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, model_validator
from sqlalchemy import Connection, Row, Table, func, insert, select, update

from hark.feedback import accounts
from hark.feedback.gold import Gold, check_gold
from hark.feedback.identifiers import new_id
from hark.feedback.queue import next_numbers, requeue
from hark.feedback.records import Candidate, Name, Record
from hark.feedback.refusals import ConflictError, InvalidLabelError, NotFoundError
from hark.feedback.store import Store
from hark.feedback.studies import (
    MANAGERS,
    MAXIMUM_OVERLAP,
    Study,
    StudySettings,
    lock_study,
)
from hark.feedback.tables import assignments, candidates, item_categories, items
from hark.feedback.tasks import TASK, AnyTask, DialogueTask, Task

Use = Literal["train", "test", "gold", "screening"]
WITHOUT_LIMIT: Final = frozenset({"gold", "screening"})
"""Every labeler may do these; the others want as many labelers as the overlap says."""


class NewItem(Record):
    """An item as a file or a client gives it."""

    task: AnyTask
    candidates: tuple[Candidate, ...] = ()
    """In an order that means nothing; none if they are still to be drawn."""
    use: Use = "train"
    """"test" is for evaluation and never exported for training; "gold" has a known answer;
    "screening" is given to those who want to join."""
    categories: tuple[Name, ...] = ()
    """Shown only to those who have agreed to each."""
    gold: Gold | None = None
    overlap: Annotated[int, Field(ge=1, le=MAXIMUM_OVERLAP)] | None = None
    """Labelers for this item, in place of the study's."""
    id: Name | None = None
    """What the sender calls it; given again, it is not added again."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.task.candidate_counts
        if self.candidates and (self.task.live or not low <= len(self.candidates) <= high):
            wanted = (
                "none: models answer live" if self.task.live or not high else f"{low} to {high}"
            )
            raise ValueError(
                f"{len(self.candidates)} candidates for a task of kind '{self.task.kind}', "
                f"which takes {wanted}"
            )
        if self.use == "gold" and self.gold is None:
            raise ValueError("an item of use 'gold' needs its known answer in 'gold'")
        if self.gold is not None:
            check_gold(self.gold, self.task, len(self.candidates))
        if self.overlap is not None and self.use in WITHOUT_LIMIT:
            raise ValueError(f"an item of use '{self.use}' is for every labeler: leave out overlap")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item as it is kept."""

    id: str
    study_id: str
    position: int
    use: Use
    task: AnyTask
    gold: Gold | None
    votable: bool
    slots: int | None
    """How many labelers it wants; None is no limit."""
    taken: int
    """How many have it, or have done it."""


def add_items(store: Store, study_id: str, new: Iterable[NewItem], *, by: str) -> list[str]:
    """Add items, all or none; return their ids. One whose `id` is there already keeps its own.

    Raises: NotAllowedError; ConflictError for another kind of task or an unknown category.
    """
    now = store.clock()
    with store.write() as connection:
        accounts.require(connection, by, MANAGERS)
        return put_items(connection, lock_study(connection, study_id), new, now=now)


def put_items(
    connection: Connection, study: Study, new: Iterable[NewItem], *, now: float
) -> list[str]:
    """`add_items` within a transaction that holds the study."""
    known, position = known_ids(connection, study.id), next_position(connection, study.id)
    ids: list[str] = []
    added: list[ItemRows] = []
    for item in new:
        check_fits(study.settings, item)
        item_id = None if item.id is None else known.get(item.id)
        if item_id is None:
            rows = rows_of(study, item, position + len(added), now)
            added.append(rows)
            item_id = rows.item["id"]
            if item.id is not None:
                known[item.id] = item_id
        ids.append(item_id)
    insert_rows(connection, added)
    return ids


def check_fits(settings: StudySettings, item: NewItem) -> None:
    """Raises: ConflictError if an item does not belong to a study of these settings.

    A screening test may have items of other kinds, as InstructGPT's asks the same people for
    rankings with flags and for demonstrations; none that models answer live.
    """
    of_test = item.use == "screening" and not item.task.live
    if item.task.kind != settings.task and not of_test:
        raise ConflictError(
            f"an item of kind '{item.task.kind}' does not belong to study "
            f"'{settings.name}', whose items are of kind '{settings.task}'"
        )
    if isinstance(item.task, DialogueTask) and item.task.mode == "redteam" and not item.categories:
        raise ConflictError(
            "a red-team item needs a category, whose warning its labelers read before they agree: "
            f"name one of study '{settings.name}'"
        )
    for category in item.categories:
        if category not in settings.categories:
            raise ConflictError(
                f"study '{settings.name}' has no warning for category '{category}'; "
                "add it to its categories first"
            )


def known_ids(connection: Connection, study_id: str) -> dict[str, str]:
    """What senders call the items of a study → their ids."""
    named = (items.c.study_id == study_id) & items.c.source_id.is_not(None)
    rows = connection.execute(select(items.c.source_id, items.c.id).where(named))
    return {name: item_id for name, item_id in rows if name is not None}


def next_position(connection: Connection, study_id: str) -> int:
    """Where the next item of a study goes."""
    last = connection.execute(
        select(func.max(items.c.position)).where(items.c.study_id == study_id)
    ).scalar_one()
    return 0 if last is None else int(last) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRows:
    """An item as the rows of the tables, before they are kept."""

    item: dict[str, Any]
    categories: list[dict[str, Any]]
    candidates: list[dict[str, Any]]
    kept: list[Candidate]
    """The candidates with their ids."""


def rows_of(study: Study, item: NewItem, position: int, now: float) -> ItemRows:
    """The rows of a new item, which nobody has."""
    item_id = new_id()
    limited = item.use not in WITHOUT_LIMIT
    row = {
        "id": item_id,
        "study_id": study.id,
        "position": position,
        "use": item.use,
        "content": item.task.to_json(),
        "gold": None if item.gold is None else item.gold.to_json(),
        "source_id": item.id,
        "votable": is_votable(item.task, item.candidates),
        "slots": (item.overlap or study.settings.overlap) if limited else None,
        "taken": 0,
        "fill": "fresh",
    }
    categories = [{"item_id": item_id, "category": one} for one in sorted(set(item.categories))]
    kept = _with_ids(item.candidates)
    drawn = _generation(item_id, None, 0, 0, kept, now)
    return ItemRows(item=row, categories=categories, candidates=drawn, kept=kept)


def insert_rows(connection: Connection, rows: Sequence[ItemRows]) -> None:
    """Keep new items of a study, which is locked."""
    if rows:
        numbers = next_numbers(connection, rows[0].item["study_id"], len(rows))
        for one, number in zip(rows, numbers, strict=True):
            one.item["queue"] = number
    tables: list[tuple[Table, list[dict[str, Any]]]] = [
        (items, [one.item for one in rows]),
        (item_categories, [category for one in rows for category in one.categories]),
        (candidates, [candidate for one in rows for candidate in one.candidates]),
    ]
    for table, given in tables:
        if given:
            connection.execute(insert(table), given)


def is_votable(task: Task, given: Sequence[Candidate]) -> bool:
    """Whether the item can be handed out: its responses are there and whole, or come live."""
    low, high = task.candidate_counts
    if task.live or high == 0:
        return True
    return low <= len(given) <= high and all(one.readable for one in given)


def put_candidates(
    store: Store,
    item_id: str,
    given: Sequence[Candidate],
    *,
    assignment_id: str | None = None,
    turn: int = 0,
) -> list[Candidate]:
    """Keep freshly drawn responses, with ids of their own, in place of unusable ones.

    assignment_id, turn: of a live dialogue, where each labeler has responses of their own.
    Raises: ConflictError if there are readable ones already; InvalidLabelError for a wrong number.
    """
    now = store.clock()
    with store.write() as connection:
        item = get_item(connection, item_id)
        lock_study(connection, item.study_id)
        _check_live(connection, item, assignment_id)
        low, high = item.task.candidate_counts if assignment_id is None else _drawn(item.task)
        if not low <= len(given) <= high:
            raise InvalidLabelError(
                f"{len(given)} responses for item '{item_id}', which takes {low} to {high}"
            )
        now_there, generation = candidates_of(connection, item_id, assignment_id, turn)
        if now_there and all(one.readable for one in now_there):
            raise ConflictError(
                f"item '{item_id}' has readable responses, of which there may be labels; "
                "they are not replaced"
            )
        kept = _insert_generation(
            connection, item_id, assignment_id, turn, generation + 1, given, now
        )
        if assignment_id is None:
            votable = is_votable(item.task, given)
            connection.execute(update(items).where(items.c.id == item_id).values(votable=votable))
            requeue(connection, item.study_id, [item_id])
        return kept


def _drawn(task: Task) -> tuple[int, int]:
    """How many responses a live turn has: two to choose from, or one answer to a question."""
    low, high = task.candidate_counts
    return (low, high) if high else (1, 1)


def _check_live(connection: Connection, item: Item, assignment_id: str | None) -> None:
    if item.task.live != (assignment_id is not None):
        what = "belong to an assignment" if item.task.live else "belong to the item itself"
        raise ConflictError(f"responses of a task of kind '{item.task.kind}' {what}")
    if assignment_id is not None:
        ours = (assignments.c.id == assignment_id) & (assignments.c.item_id == item.id)
        if connection.execute(select(assignments.c.id).where(ours)).one_or_none() is None:
            raise NotFoundError(f"there is no assignment '{assignment_id}' of item '{item.id}'")


def _with_ids(given: Sequence[Candidate]) -> list[Candidate]:
    # Labelers see these ids: ones that sort by age would tell in what order responses are kept.
    return [one.model_copy(update={"id": str(uuid.uuid4())}) for one in given]


def _generation(
    item_id: str,
    assignment_id: str | None,
    turn: int,
    generation: int,
    kept: Sequence[Candidate],
    now: float,
) -> list[dict[str, Any]]:
    """The rows of responses that have ids."""
    return [
        {
            "id": one.id,
            "item_id": item_id,
            "assignment_id": assignment_id,
            "turn": turn,
            "generation": generation,
            "place": place,
            "body": one.to_json(),
            "created_at": now,
        }
        for place, one in enumerate(kept)
    ]


def _insert_generation(
    connection: Connection,
    item_id: str,
    assignment_id: str | None,
    turn: int,
    generation: int,
    given: Sequence[Candidate],
    now: float,
) -> list[Candidate]:
    kept = _with_ids(given)
    rows = _generation(item_id, assignment_id, turn, generation, kept, now)
    connection.execute(insert(candidates), rows)
    return kept


def candidates_of(
    connection: Connection, item_id: str, assignment_id: str | None = None, turn: int = 0
) -> tuple[list[Candidate], int]:
    """The responses in force and their generation; none and -1 if there are none yet."""
    here = (
        (candidates.c.item_id == item_id)
        & (candidates.c.assignment_id.is_not_distinct_from(assignment_id))
        & (candidates.c.turn == turn)
    )
    rows = connection.execute(
        select(candidates).where(here).order_by(candidates.c.generation.desc(), candidates.c.place)
    ).all()
    if not rows:
        return [], -1
    newest = rows[0].generation
    found = [Candidate.model_validate(row.body) for row in rows if row.generation == newest]
    return found, newest


def to_draw(store: Store, study_id: str, *, limit: int = 100) -> list[Item]:
    """Items that wait for responses, because they have none or some of theirs cannot be read."""
    return list_items(store, study_id, waiting=True, limit=limit)


def list_items(
    store: Store, study_id: str, *, waiting: bool = False, after: int = -1, limit: int = 100
) -> list[Item]:
    """Items in their order, those after a position; `waiting`: as `to_draw`."""
    wanted = select(items).where(items.c.study_id == study_id, items.c.position > after)
    if waiting:
        # Found first and put in order then, by the index that leads to the few among many.
        here = (items.c.study_id == study_id) & items.c.use.in_(get_args(Use))
        wanted = wanted.where(items.c.id.in_(select(items.c.id).where(here, ~items.c.votable)))
    with store.read() as connection:
        rows = connection.execute(wanted.order_by(items.c.position).limit(limit)).all()
        return [_item(row) for row in rows]


def get_item(connection: Connection, item_id: str) -> Item:
    """Raises: NotFoundError."""
    row = connection.execute(select(items).where(items.c.id == item_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no item '{item_id}'")
    return _item(row)


def warnings_of(
    connection: Connection, study: Study, item_ids: Collection[str]
) -> dict[str, dict[str, str]]:
    """For each item its categories, each with its study's warning; none for a harmless one."""
    those = item_categories.c.item_id.in_(list(item_ids))
    found: dict[str, dict[str, str]] = {item_id: {} for item_id in item_ids}
    rows = select(item_categories).where(those).order_by(item_categories.c.category)
    for row in connection.execute(rows):
        found[row.item_id][row.category] = study.settings.categories.get(row.category, "")
    return found


def _item(row: Row[Any]) -> Item:
    return Item(
        id=row.id,
        study_id=row.study_id,
        position=row.position,
        use=row.use,
        task=TASK.validate_python(row.content),
        gold=None if row.gold is None else Gold.model_validate(row.gold),
        votable=row.votable,
        slots=row.slots,
        taken=row.taken,
    )
