"""A study's settings and its state."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData

from hark.errors import did_you_mean
from hark.feedback import studies
from hark.feedback.studies import MAY_BECOME, StudySettings, StudyState
from hark.web.identity import Manager, Place
from hark.web.live.endpoints import LiveModels
from hark.web.pages.manage_fields import PANELS, fields_of, form_of, read_form
from hark.web.pages.manage_frame import ManageRoute, Shown, go, show

router = APIRouter(route_class=ManageRoute)

FIXED: Final = ("name", "task", "overlap")
"""What a study keeps for ever."""
ACTIONS: Final = {"open": "Open for labelers", "paused": "Pause", "closed": "Close"}


@router.get("/{name}")
def show_settings(request: Request, caller: Manager, study: Shown) -> HTMLResponse:
    """The form, and buttons for the state."""
    models = models_of(request)
    return show(
        "settings.html",
        caller,
        study=study,
        here="settings",
        fields=fields_of(StudySettings, study.settings.model_dump(mode="json")),
        panels=PANELS,
        fixed=FIXED,
        suggested={"snapshots": models.names},
        warning=without_models(study.settings, models),
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
    return go(f"/manage/{study.settings.name}", "The settings are kept.")


@router.post("/{name}/state")
def change_state(
    store: Place, caller: Manager, study: Shown, state: Annotated[StudyState, Form()]
) -> Response:
    """Open, pause or close the study."""
    studies.set_state(store, study.id, state, by=caller.person.id)
    return go(f"/manage/{study.settings.name}", f"The study is {state} now.")


def models_of(request: Request) -> LiveModels:
    """The models that this server knows."""
    models: LiveModels = request.app.state.replies.models
    return models


def without_models(settings: StudySettings, models: LiveModels) -> str:
    """Why labelers of a study would wait in vain on this server; empty if they would not."""
    unknown = [name for name in settings.snapshots if name not in models.names]
    if not unknown or models.getting_ready:
        return ""
    names = ", ".join(f"'{name}'{did_you_mean(name, models.names)}" for name in unknown)
    known = f"it has {', '.join(models.names)}" if models.names else "it has none"
    return (
        f"This server has no model {names}; {known}. Labelers would wait in vain: start it with "
        f"`hark serve --model {unknown[0]}=URL`, or name other snapshots below."
    )
