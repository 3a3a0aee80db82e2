"""Live dialogues that are over, for those who look at what people and models said.

Who reviews a transcript is not told which model spoke.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from hark.feedback import items, registers
from hark.feedback.refusals import NotFoundError
from hark.feedback.transcripts import read_transcripts
from hark.web.api.descriptions import Id
from hark.web.identity import Place, Staff
from hark.web.pages.manage_frame import ManageRoute, Shown, Start, show

router = APIRouter(route_class=ManageRoute)


@router.get("/{name}/transcripts")
def list_transcripts(store: Place, caller: Staff, study: Shown, start: Start = 0) -> HTMLResponse:
    """Dialogues that are over."""
    start = max(0, start)
    rows, total = registers.list_transcripts(store, study.id, start=start)
    with store.read() as connection:
        read = read_transcripts(connection, study.id, [row.assignment_id for row in rows])
    return show(
        "transcripts.html",
        caller,
        study=study,
        here="transcripts",
        rows=[(row, read[row.assignment_id]) for row in rows if row.assignment_id in read],
        total=total,
        start=start,
        page=registers.PAGE,
    )


@router.get("/{name}/transcripts/{assignment_id}")
def show_transcript(store: Place, caller: Staff, study: Shown, assignment_id: Id) -> HTMLResponse:
    """One dialogue."""
    with store.read() as connection:
        transcript = read_transcripts(connection, study.id, [assignment_id]).get(assignment_id)
        if transcript is None:
            raise NotFoundError(f"there is no transcript '{assignment_id}' in this study")
        warnings = items.warnings_of(connection, study, [transcript.item_id])[transcript.item_id]
    return show(
        "transcript.html",
        caller,
        study=study,
        here="transcripts",
        transcript=transcript,
        sensitive=bool(warnings) or transcript.mode == "redteam",
    )
