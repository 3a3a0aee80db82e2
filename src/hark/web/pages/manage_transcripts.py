"""Live dialogues that are over, for those who look at what people and models said.

Who reviews a transcript is not told which model spoke.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection, select

from hark.feedback import events, registers
from hark.feedback.refusals import NotFoundError
from hark.feedback.tables import assignments
from hark.web.api.descriptions import Id
from hark.web.identity import Place, Staff
from hark.web.pages.manage_frame import ManageRoute, Shown, Start, show

router = APIRouter(route_class=ManageRoute)


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
    labeler: str
    mode: str
    theme: str
    description: str
    opening: tuple[dict[str, str], ...]
    exchanges: tuple[Exchange, ...]
    success: int | None
    """The attacker's own rating, 0 to 4."""


@router.get("/{name}/transcripts")
def list_transcripts(store: Place, caller: Staff, study: Shown, start: Start = 0) -> HTMLResponse:
    """Dialogues that are over."""
    start = max(0, start)
    rows, total = registers.list_transcripts(store, study.id, start=start)
    found = []
    with store.read() as connection:
        for row in rows:
            if transcript := read_transcript(connection, study.id, row.assignment_id):
                found.append((row, transcript))
    return show(
        "transcripts.html",
        caller,
        study=study,
        here="transcripts",
        rows=found,
        total=total,
        start=start,
        page=registers.PAGE,
    )


@router.get("/{name}/transcripts/{assignment_id}")
def show_transcript(store: Place, caller: Staff, study: Shown, assignment_id: Id) -> HTMLResponse:
    """One dialogue."""
    with store.read() as connection:
        transcript = read_transcript(connection, study.id, assignment_id)
    if transcript is None:
        raise NotFoundError(f"there is no transcript '{assignment_id}' in this study")
    return show("transcript.html", caller, study=study, here="transcripts", transcript=transcript)


def read_transcript(connection: Connection, study_id: str, assignment_id: str) -> Transcript | None:
    """The dialogue of an assignment; None if it has no comparison, or is of another study."""
    ours = (assignments.c.id == assignment_id) & (assignments.c.study_id == study_id)
    if connection.execute(select(assignments.c.id).where(ours)).one_or_none() is None:
        return None
    steps = list(events.iterate(connection, assignment_id=assignment_id, current=True))
    compared = [one for one in steps if one.kind == "comparison"]
    if not compared:
        return None
    compared.sort(key=lambda one: one.body["context"]["turn"])
    task = compared[0].body["context"]["task"]
    said = {one.kind: one.body["answer"] for one in steps if one.kind in ("description", "redteam")}
    return Transcript(
        assignment_id=assignment_id,
        labeler=compared[0].author,
        mode=task["mode"],
        theme=task["theme"],
        description=said.get("description", {}).get("text", ""),
        opening=tuple(task["opening"]),
        exchanges=tuple(_exchange(one) for one in compared),
        success=said.get("redteam", {}).get("success"),
    )


def _exchange(event: events.Event) -> Exchange:
    answer = event.body["answer"]
    candidates = event.body["candidates"]
    chosen, other = sorted(candidates, key=lambda one: one["id"] != answer["chosen"])
    return Exchange(
        message=event.body["context"]["messages"][-1]["content"],
        chosen=chosen,
        other=other,
        strength=answer["strength"],
    )
