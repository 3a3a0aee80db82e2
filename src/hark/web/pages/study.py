"""A study for its labelers: instructions, warnings with a switch each, support, and a beginning."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from hark.feedback import rosters
from hark.feedback.desk import Desk, desk_of
from hark.web.api.descriptions import StudyName
from hark.web.identity import Anyone, Place
from hark.web.pages.words import KINDS
from hark.web.rendering import render

router = APIRouter()


def own_desk(store: Place, caller: Anyone, name: StudyName) -> Desk:
    """The caller's part in a study.

    Raises: NotFoundError, the same for a study that one does not take part in as for none.
    """
    study = rosters.find_own_study(store, name, caller.person.id)
    return desk_of(store, study.id, caller.person.id)


OwnDesk = Annotated[Desk, Depends(own_desk)]


@router.get("/study/{name}", response_class=HTMLResponse)
def show_study(caller: Anyone, desk: OwnDesk) -> str:
    """What it is about."""
    return render("study.html", caller=caller, desk=desk, study=desk.study, kinds=KINDS)
