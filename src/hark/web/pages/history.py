"""A labeler's own labels in a study: to be looked at, corrected, or taken back."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from hark.feedback import history
from hark.feedback.history import OwnLabel
from hark.feedback.refusals import ConflictError
from hark.feedback.tasks import FINAL_LABELS
from hark.web.api.descriptions import Id
from hark.web.identity import Anyone, Place
from hark.web.pages.study import OwnDesk
from hark.web.pages.words import LABELS, about, said
from hark.web.rendering import render

router = APIRouter()
PAGE: Final = 20


@router.get("/study/{name}/done", response_class=HTMLResponse)
def show_labels(
    store: Place,
    caller: Anyone,
    desk: OwnDesk,
    before: Annotated[str | None, Query(max_length=64, pattern=r"^[0-9a-f-]+$")] = None,
) -> str:
    """My labels, newest first."""
    found = history.own_labels(
        store, desk.study.id, caller.person.id, before=before, limit=PAGE + 1
    )
    shown = found[:PAGE]
    return render(
        "history.html",
        caller=caller,
        study=desk.study,
        lines=[_line(one) for one in shown],
        more=shown[-1].event_id if len(found) > PAGE else None,
        older=before is not None,
    )


def _line(label: OwnLabel) -> dict[str, Any]:
    return {
        "id": label.event_id,
        "what": LABELS[label.kind],
        "when": label.ts,
        "about": about(label),
        "said": said(label),
        "warnings": label.categories,
        "stands": label.kind in FINAL_LABELS,
    }


@router.get("/study/{name}/done/{event_id}", response_class=HTMLResponse)
def show_correction(store: Place, caller: Anyone, desk: OwnDesk, event_id: Id) -> str:
    """The task of a label again, with the answer that was given."""
    label = history.own_label(store, event_id, caller.person.id)
    if label.kind in FINAL_LABELS:
        raise ConflictError("what you said there stands: you have seen more since")
    return render(
        "work/desk.html",
        caller=caller,
        desk=desk,
        study=desk.study,
        correction=json.dumps(_correction(label, store.clock())),
    )


def _correction(label: OwnLabel, now: float) -> dict[str, Any]:
    """What the page's scripts take for an assignment, with the one step that is done again."""
    view = {
        "assignment_id": label.assignment_id,
        "state": "open",
        "task": label.task,
        "candidates": label.candidates,
        "messages": label.messages,
        "waits_for_models": False,
        "next_steps": [label.kind],
        "may_finish": False,
        "deadline": None,
        "categories": label.categories,
        "answered": [],
        "now": now,
    }
    return {"event_id": label.event_id, "view": view, "answer": label.answer}
