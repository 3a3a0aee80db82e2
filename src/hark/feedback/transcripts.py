"""Live dialogues that are over, as they went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from hark.feedback import events
from hark.feedback.events import Event
from hark.feedback.records import Turn
from hark.feedback.tables import assignments


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What the person wrote, the reply that was chosen, and the one that was not."""

    message: str
    chosen: dict[str, Any]
    other: dict[str, Any]
    strength: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A dialogue from its first turn to its last."""

    assignment_id: str
    item_id: str
    labeler: str
    mode: str
    theme: str
    description: str
    opening: tuple[dict[str, str], ...]
    exchanges: tuple[Exchange, ...]
    """With the choices as they stand now; a choice that was taken back is left out."""
    messages: tuple[Turn, ...]
    """As the dialogue went: on from the first choice, whatever was corrected later."""
    success: int | None
    """The attacker's own rating, 0 to 4."""


def read_transcripts(
    connection: Connection, study_id: str, assignment_ids: Collection[str]
) -> dict[str, Transcript]:
    """The dialogues of these assignments, by assignment, in one query.

    Those without a comparison that stands, and those of another study, are not among them.
    """
    ours = select(assignments.c.id).where(
        assignments.c.study_id == study_id, assignments.c.id.in_(list(assignment_ids))
    )
    steps: dict[str, list[Event]] = defaultdict(list)
    for event in events.iterate(connection, among=ours):
        steps[str(event.assignment_id)].append(event)
    found = {name: _transcript(name, those) for name, those in steps.items()}
    return {name: one for name, one in found.items() if one is not None}


def _transcript(assignment_id: str, steps: Sequence[Event]) -> Transcript | None:
    superseded = {one.supersedes for one in steps}
    current = [one for one in steps if one.id not in superseded and one.kind != "retraction"]
    compared = [one for one in current if one.kind == "comparison"]
    if not compared:
        return None
    compared.sort(key=lambda one: one.body["context"]["turn"])
    task = compared[0].body["context"]["task"]
    said = {
        one.kind: one.body["answer"] for one in current if one.kind in ("description", "redteam")
    }
    return Transcript(
        assignment_id=assignment_id,
        item_id=str(compared[0].item_id),
        labeler=compared[0].author,
        mode=task["mode"],
        theme=task["theme"],
        description=said.get("description", {}).get("text", ""),
        opening=tuple(task["opening"]),
        exchanges=tuple(_exchange(one) for one in compared),
        messages=_messages([one for one in steps if one.supersedes is None]),
        success=said.get("redteam", {}).get("success"),
    )


def _exchange(event: Event) -> Exchange:
    chosen, other = _chosen_first(event)
    return Exchange(
        message=event.body["context"]["messages"][-1]["content"],
        chosen=chosen,
        other=other,
        strength=event.body["answer"]["strength"],
    )


def _chosen_first(event: Event) -> list[dict[str, Any]]:
    chosen = event.body["answer"]["chosen"]
    return sorted(event.body["candidates"], key=lambda one: bool(one["id"] != chosen))


def _messages(first_steps: Sequence[Event]) -> tuple[Turn, ...]:
    last = [one for one in first_steps if one.kind == "comparison"][-1]
    before = [Turn.model_validate(one) for one in last.body["context"]["messages"]]
    reply = _chosen_first(last)[0]["text"]
    return (*before, Turn(role="assistant", content=reply))
