"""Everybody with an account: what they may do, and how they are forgotten. For owners."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from hark.errors import SettingsError
from hark.feedback import accounts, invites
from hark.feedback.accounts import ROLES, Role
from hark.web.api.descriptions import Id
from hark.web.identity import Owner, Place, link_to
from hark.web.pages.manage_frame import ManageRoute, go, show

router = APIRouter(route_class=ManageRoute)


@router.get("/-/people")
def show_people(store: Place, caller: Owner) -> HTMLResponse:
    """Accounts with their roles."""
    return show(
        "people.html",
        caller,
        here="people",
        rows=accounts.list_people(store),
        invites=[one for one in invites.list_invites(store) if one.study is None],
        roles=ROLES,
    )


@router.post("/-/people/invites")
def invite(
    request: Request, store: Place, caller: Owner, role: Annotated[Role, Form()]
) -> HTMLResponse:
    """Make a link to an account of a role; it is shown this once."""
    secret = invites.invite(store, by=caller.person.id, role=role)
    return show("invited.html", caller, link=link_to(request, f"invite/{secret}"), role=role)


@router.post("/-/people/invites/{invite_id}/revoke")
def revoke(store: Place, caller: Owner, invite_id: Id) -> Response:
    """End a link that has gone where it should not."""
    invites.revoke(store, invite_id, by=caller.person.id)
    return go("/manage/-/people", "The link is revoked: it is good for nothing now.")


@router.post("/-/people/{person_id}/role")
def change_role(
    store: Place, caller: Owner, person_id: Id, role: Annotated[Role, Form()]
) -> Response:
    """Give somebody another role."""
    changed = accounts.set_role(store, person_id, role, by=caller.person.id)
    return go("/manage/-/people", f"{changed.login} is a {role} now.")


@router.post("/-/people/{person_id}/disabled")
def disable(
    store: Place, caller: Owner, person_id: Id, disabled: Annotated[bool, Form()]
) -> Response:
    """Keep somebody out, or let them in again."""
    changed = accounts.disable(store, person_id, by=caller.person.id, disabled=disabled)
    return go(
        "/manage/-/people", f"{changed.login} is {'kept out' if disabled else 'let in again'}."
    )


@router.post("/-/people/{person_id}/forget")
def forget(
    store: Place, caller: Owner, person_id: Id, confirmed: Annotated[str, Form()] = ""
) -> Response:
    """Erase who somebody is, for ever; their labels stay."""
    if confirmed.strip().lower() != "forget":
        raise SettingsError(
            f"'{confirmed}' is not the word: it cannot be undone, so write 'forget' to do it"
        )
    accounts.forget(store, person_id, by=caller.person.id)
    return go("/manage/-/people", "Login and password are erased; the labels stay.")
