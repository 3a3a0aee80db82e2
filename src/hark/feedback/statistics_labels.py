"""Labels as statistics read them: who, of what, what was on the screen, what was said."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from hark.feedback import events
from hark.feedback.accounts import Role
from hark.feedback.answers import JUDGES_CANDIDATES
from hark.feedback.events import Event
from hark.feedback.gold import Gold
from hark.feedback.judgements import COMPARES, ranks_of
from hark.feedback.tables import items, people

ON_THE_WAY: Final = frozenset({"notes", "description", "message"})
"""Kinds of step that lead to a label of the same item; they are not counted as labels."""
FOLLOWED: Final = events.LABELS | {"message", "retraction"}
READ_FOR: Final = {
    "ranking": ("prompt",),
    "vote": ("prompt",),
    "summary": ("title", "post"),
    "axes": ("title", "post"),
    "demonstration": ("prompt",),
    "edit": ("prompt",),
    "review": ("description", "transcript"),
    "audit": ("behaviour", "question", "answers"),
    "qa_answer": ("passage", "question", "options"),
}
"""For each kind of label, the fields of its task that a labeler reads for it, beside candidates."""
WRITTEN: Final = ("text", "response", "prompt", "examples", "notes")
"""The fields of answers that labelers write in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label that stands, without the texts."""

    id: str
    kind: str
    author: str
    item_id: str
    assignment_id: str
    """The event's own id where it was imported."""
    created_at: float
    use: str
    late: bool
    answer: dict[str, Any]
    candidate_ids: tuple[str, ...]
    """In the item's order."""
    snapshots: tuple[str | None, ...]
    display_order: tuple[int, ...] | None
    """Places in the item's order, as they stood on the screen; None if an import does not tell."""
    ranks: tuple[int, ...] | None
    """How good each candidate is, 1 is best, whatever the task asks for; None: not compared."""
    phase: str
    seconds: float | None
    """Of activity; None where the browser did not say."""
    read_characters: int
    """Shown for the first time with this step."""
    written_characters: int
    pasted_characters: int
    """At most `written_characters`."""
    claimed_at: float | None = None
    """When the item was handed out, by the server's clock; None if that was not kept, or if it had
    gone back in between."""
    names_model: bool = False
    """Whether a response says which model wrote it, so that ratings leave the label out."""

    @property
    def counts(self) -> bool:
        """Whether it is a label rather than a step on the way to one."""
        return self.kind not in ON_THE_WAY


def label_of(event: Event | Row[Any]) -> Label:
    """What statistics need of an event, or of its row."""
    body = event.body
    candidates: list[dict[str, Any]] = body["candidates"]
    ids = tuple(one["id"] for one in candidates)
    client = body.get("client", {})
    milliseconds = client.get("ms_active")
    answer = body["answer"]
    written = sum(_length(answer[name]) for name in WRITTEN if name in answer)
    assert event.item_id is not None
    order = body["display_order"]
    return Label(
        id=event.id,
        kind=event.kind,
        author=event.author,
        item_id=event.item_id,
        assignment_id=event.assignment_id or event.id,
        created_at=event.created_at,
        use=body["use"],
        late=body["late"],
        answer=answer,
        candidate_ids=ids,
        snapshots=tuple(one["snapshot"] for one in candidates),
        display_order=None if order is None else tuple(order),
        ranks=ranks_of(event, ids) if event.kind in COMPARES else None,
        phase=body["context"].get("phase") or "",
        seconds=None if milliseconds is None else milliseconds / 1000,
        read_characters=_read(event),
        written_characters=written,
        pasted_characters=min(written, client.get("pasted_characters") or 0),
        claimed_at=body.get("claimed_at"),
        names_model=bool(body.get("names_model")),
    )


def _read(event: Event | Row[Any]) -> int:
    task = event.body["context"]["task"]
    again = event.kind == "qa_answer" and event.body["context"]["phase"] != task["phases"][0]
    length = 0 if again else sum(_length(task[name]) for name in READ_FOR.get(event.kind, ()))
    if event.kind in JUDGES_CANDIDATES - {"summary"}:  # Summaries were read for the notes.
        length += sum(len(one["text"]) for one in event.body["candidates"])
    return length


def _length(value: Any) -> int:
    """Characters of a text, of the content of a turn, or of many of them."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return _length(value["content"] if "role" in value else list(value.values()))
    return sum(map(_length, value)) if isinstance(value, list | tuple) else 0


def roles(connection: Connection) -> dict[str, Role]:
    """Pseudonym → role, of everybody."""
    return {row.pseudonym: row.role for row in connection.execute(select(people))}


def known_answers(
    connection: Connection, study_id: str, *, uses: Collection[str] = ("gold", "screening")
) -> dict[str, tuple[str, Gold]]:
    """Item → its use and its known answer, of the items of these uses that have one."""
    wanted = (items.c.study_id == study_id) & items.c.use.in_(uses)
    return dict(_known(row) for row in connection.execute(select(items).where(wanted)) if row.gold)


def _known(row: Any) -> tuple[str, tuple[str, Gold]]:
    return row.id, (row.use, Gold.model_validate(row.gold))


def preferences(label: Label) -> Iterator[tuple[int, int, int]]:
    """For each two candidates their places i < j, and 1 if i is better, −1 if j is, 0 for a tie."""
    ranks = label.ranks or ()
    for i in range(len(ranks)):
        for j in range(i + 1, len(ranks)):
            yield i, j, (ranks[i] < ranks[j]) - (ranks[i] > ranks[j])
