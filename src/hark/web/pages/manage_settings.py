"""A study's settings and its state."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData

from hark.feedback import studies
from hark.feedback.studies import MAY_BECOME, StudySettings, StudyState
from hark.web.identity import Manager, Place
from hark.web.pages.manage_fields import PANELS, fields_of, form_of, read_form
from hark.web.pages.manage_frame import ManageRoute, Shown, go, show

router = APIRouter(route_class=ManageRoute)

FIXED: Final = ("name", "task", "overlap")
"""What a study keeps for ever."""
ACTIONS: Final = {"open": "Open for labelers", "paused": "Pause", "closed": "Close"}


@router.get("/{name}")
def show_settings(caller: Manager, study: Shown) -> HTMLResponse:
    """The form, and buttons for the state."""
    return show(
        "settings.html",
        caller,
        study=study,
        here="settings",
        fields=fields_of(StudySettings, study.settings.model_dump(mode="json")),
        panels=PANELS,
        fixed=FIXED,
        actions={state: ACTIONS[state] for state in ACTIONS if state in MAY_BECOME[study.state]},
    )


@router.post("/{name}")
def change_settings(
    store: Place, caller: Manager, study: Shown, form: Annotated[FormData, Depends(form_of)]
) -> Response:
    """Keep the form, for what is labelled from now on."""
    present = study.settings.model_dump(mode="json")
    values = read_form(fields_of(StudySettings, present), form)
    settings = StudySettings.parse({**values, **{name: present[name] for name in FIXED}})
    studies.change_study(store, study.id, settings, by=caller.person.id)
    return go(f"/manage/{study.settings.name}")


@router.post("/{name}/state")
def change_state(
    store: Place, caller: Manager, study: Shown, state: Annotated[StudyState, Form()]
) -> Response:
    """Open, pause or close the study."""
    studies.set_state(store, study.id, state, by=caller.person.id)
    return go(f"/manage/{study.settings.name}")
