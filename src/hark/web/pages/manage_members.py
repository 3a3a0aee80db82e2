"""Who takes part in a study: invitations, states, and the screening test."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response

from hark.errors import SettingsError
from hark.feedback import invites, items, qualification, registers, studies
from hark.feedback.accounts import Role
from hark.feedback.identifiers import new_id
from hark.feedback.studies import MemberState
from hark.web.api.descriptions import Id
from hark.web.identity import Manager, Place, link_to
from hark.web.pages.manage_frame import ManageRoute, Shown, go, show

router = APIRouter(route_class=ManageRoute)


@router.get("/{name}/members")
def show_members(store: Place, caller: Manager, study: Shown) -> HTMLResponse:
    """Members with their screening, invitations, and demonstrations to grade."""
    graded = study.settings.screening is not None
    to_grade = registers.demonstrations_to_grade(store, study.id) if graded else []
    with store.read() as connection:
        warnings = items.warnings_of(connection, study, {str(one.item_id) for one in to_grade})
    return show(
        "members.html",
        caller,
        study=study,
        here="members",
        rows=registers.list_members(store, study),
        invites=[one for one in invites.list_invites(store) if one.study == study.settings.name],
        to_grade=to_grade,
        warnings=warnings,
        cut_offs=study.settings.screening,
        roles=invites.MAY_INVITE[caller.person.role],
        new_id=new_id,
    )


@router.post("/{name}/invites")
def invite(
    request: Request,
    store: Place,
    caller: Manager,
    study: Shown,
    role: Annotated[Role, Form()] = "labeler",
    held_out: Annotated[bool, Form()] = False,
    uses: Annotated[int, Form(ge=1, le=10_000)] = 1,
    days: Annotated[float, Form(gt=0, le=365)] = 14.0,
) -> HTMLResponse:
    """Make a link into the study; it is shown this once."""
    if held_out and role != "labeler":
        raise SettingsError(f"held-out is said of labelers: invite a labeler, not a {role}")
    secret = invites.invite(
        store,
        by=caller.person.id,
        role=role,
        study_id=study.id if role == "labeler" else None,
        held_out=held_out,
        uses=uses,
        days=days,
    )
    return show("invited.html", caller, link=link_to(request, f"invite/{secret}"), role=role)


@router.post("/{name}/invites/{invite_id}/revoke")
def revoke(store: Place, caller: Manager, study: Shown, invite_id: Id) -> Response:
    """End a link that has gone where it should not."""
    invites.revoke(store, invite_id, by=caller.person.id)
    return go(
        f"/manage/{study.settings.name}/members", "The link is revoked: it is good for nothing now."
    )


@router.post("/{name}/members/{person_id}")
def change_member(
    store: Place,
    caller: Manager,
    study: Shown,
    person_id: Id,
    state: Annotated[MemberState, Form()],
) -> Response:
    """Admit, pause or turn away a labeler."""
    studies.set_member_state(store, study.id, person_id, state, by=caller.person.id)
    return go(f"/manage/{study.settings.name}/members", f"The member is {state} now.")


@router.post("/{name}/members/{person_id}/decide")
def decide(store: Place, _caller: Manager, study: Shown, person_id: Id) -> Response:
    """Hold a labeler's test against the cut-offs."""
    decision = qualification.decide(store, study.id, person_id)
    return go(f"/manage/{study.settings.name}/members", f"By the cut-offs: {decision}.")


@router.post("/{name}/grades/{event_id}")
def grade(
    store: Place,
    caller: Manager,
    study: Shown,
    event_id: Id,
    grade: Annotated[int, Form(ge=1, le=7)],
    key: Annotated[str, Form(max_length=100)],
) -> Response:
    """Grade a demonstration of the screening test, 1 to 7."""
    qualification.grade_demonstration(store, event_id, grade, by=caller.person.id, client_key=key)
    return go(f"/manage/{study.settings.name}/members", "The grade is kept.")
