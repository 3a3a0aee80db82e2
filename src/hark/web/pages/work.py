"""The shell of the work page; scripts fill it from the API."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from hark.web.identity import Anyone
from hark.web.pages.study import OwnDesk
from hark.web.rendering import render

router = APIRouter()


@router.get("/study/{name}/work", response_class=HTMLResponse)
def show_work(caller: Anyone, desk: OwnDesk) -> str:
    """Where items are labelled."""
    return render("work/desk.html", caller=caller, desk=desk, study=desk.study, correction=None)
