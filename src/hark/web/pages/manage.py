"""The pages of those who run studies: the list of studies, and how one is made."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData

from hark.feedback import registers, studies
from hark.feedback.studies import StudySettings
from hark.web.identity import Manager, Place, Staff
from hark.web.pages import (
    manage_changes,
    manage_dashboard,
    manage_exports,
    manage_items,
    manage_members,
    manage_people,
    manage_ratings,
    manage_scores,
    manage_settings,
    manage_transcripts,
)
from hark.web.pages.manage_fields import PANELS, fields_of, form_of, read_form
from hark.web.pages.manage_frame import ManageRoute, go, show
from hark.web.pages.manage_settings import models_of
from hark.web.rendering import markdown

router = APIRouter(prefix="/manage", route_class=ManageRoute)


@router.get("")
def list_studies(store: Place, caller: Staff) -> HTMLResponse:
    """All studies."""
    return show("studies.html", caller, here="studies", rows=registers.list_studies(store))


@router.get("/-/new")
def show_new(request: Request, caller: Manager) -> HTMLResponse:
    """The form for a study."""
    return show(
        "new.html",
        caller,
        here="studies",
        fields=fields_of(StudySettings, {}),
        panels=PANELS,
        fixed=(),
        suggested={"snapshots": models_of(request).names},
    )


@router.post("/-/new")
def make_study(
    store: Place, caller: Manager, form: Annotated[FormData, Depends(form_of)]
) -> Response:
    """Make a study from the form."""
    values = read_form(fields_of(StudySettings, {}), form)
    settings = StudySettings.parse(values)
    made = studies.create_study(store, settings, by=caller.person.id)
    return go(f"/manage/{made.settings.name}/items", "The study is made; it is a draft as yet.")


@router.post("/-/preview")
def preview(_caller: Manager, instructions: Annotated[str, Form()] = "") -> HTMLResponse:
    """Instructions as labelers will see them."""
    return HTMLResponse(markdown(instructions))


for part in (
    manage_people,
    manage_changes,
    manage_settings,
    manage_items,
    manage_members,
    manage_dashboard,
    manage_ratings,
    manage_exports,
    manage_scores,
    manage_transcripts,
):
    router.include_router(part.router)
