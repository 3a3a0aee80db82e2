"""The first page: the studies that one takes part in, and what waits in each."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from hark.feedback.desk import desks_of
from hark.web.identity import Anyone, Place
from hark.web.pages.words import KINDS
from hark.web.rendering import render

router = APIRouter()


@router.get("/", response_class=HTMLResponse)
def show_studies(store: Place, caller: Anyone) -> str:
    """My studies."""
    desks = desks_of(store, caller.person.id)
    return render("home.html", caller=caller, desks=desks, kinds=KINDS)
