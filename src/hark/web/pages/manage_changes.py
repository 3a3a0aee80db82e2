"""What was done to people, members and invitations, by whom and when. For owners."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from hark.feedback import accounts, changes
from hark.feedback.changes import Change
from hark.web.api.descriptions import EventId
from hark.web.identity import Owner, Place
from hark.web.pages.manage_frame import ManageRoute, show

router = APIRouter(route_class=ManageRoute)


@router.get("/-/changes")
def show_changes(store: Place, caller: Owner, before: EventId = None) -> HTMLResponse:
    """The newest, or those before one of them."""
    return show(
        "changes.html",
        caller,
        here="changes",
        rows=changes.list_changes(store, before=before),
        full=changes.SHOWN,
        logins={one.pseudonym: one.login for one in accounts.list_people(store)},
        said=said,
    )


def said(change: Change) -> str:
    """What was done, in words."""
    about = change.about
    if change.kind == "invited":
        uses = "one use" if about["uses"] == 1 else f"{about['uses']} uses"
        return f"made a link for a {about['role']}, good for {uses}"
    if change.kind == "invite_revoked":
        return f"revoked the link for a {about['role']}"
    if change.kind == "forgotten":
        return "erased login and password"
    if about["what"] == "disabled":
        return "kept out" if about["after"] else "let in again"
    if about["what"] == "held_out":
        return "held out" if about["after"] else "held out no more"
    return f"{about['what']}: from {about['before']} to {about['after']}"
