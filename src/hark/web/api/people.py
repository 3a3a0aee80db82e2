"""Invitations and accounts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from hark.feedback import accounts, changes, invites, sign_in, studies
from hark.web.api.descriptions import KNOWN, EventId, Id, refusals
from hark.web.api.sessions import begin, person_body
from hark.web.bodies import (
    ChangeBody,
    ForgetBody,
    InviteBody,
    InviteLink,
    InviteRequest,
    LoginBody,
    OpenInviteBody,
    PasswordBody,
    PersonBody,
    PersonChanges,
    SessionBody,
)
from hark.web.identity import (
    Anyone,
    Manager,
    Owner,
    Place,
    address_of,
    check_same_site,
    clear_cookie,
)

router = APIRouter(tags=["people"])
Secret = Annotated[str, Path(max_length=100)]


@router.post(
    "/invites", status_code=201, dependencies=KNOWN, responses=refusals(400, 401, 403, 404)
)
def invite(store: Place, caller: Manager, wish: InviteRequest) -> InviteLink:
    """Make an invitation, told once and never again."""
    study = None if wish.study is None else studies.find_study(store, wish.study)
    secret = invites.invite(
        store,
        by=caller.person.id,
        role=wish.role,
        study_id=None if study is None else study.id,
        held_out=wish.held_out,
        uses=wish.uses,
        days=wish.days,
    )
    return InviteLink(secret=secret, path=f"/invite/{secret}")


@router.get("/invites", dependencies=KNOWN, responses=refusals(401, 403))
def list_invites(store: Place, caller: Manager) -> list[OpenInviteBody]:
    """Links that are still good, of those that the caller might make; the newest first."""
    mine = invites.MAY_INVITE[caller.person.role]
    return [
        OpenInviteBody(**asdict(one)) for one in invites.list_invites(store) if one.role in mine
    ]


@router.delete(
    "/invites/{invite_id}", status_code=204, dependencies=KNOWN, responses=refusals(401, 403, 404)
)
def revoke_invite(store: Place, caller: Manager, invite_id: Id) -> None:
    """Let a link be good for nothing any more, by its id in the list."""
    invites.revoke(store, invite_id, by=caller.person.id)


@router.get("/invites/{secret}", responses=refusals(404))
def look_at_invite(store: Place, secret: Secret) -> InviteBody:
    """What an invitation is good for."""
    found = invites.look_at(store, secret)
    name = title = None
    if found.study_id is not None:
        with store.read() as connection:
            settings = studies.get_study(connection, found.study_id).settings
        name, title = settings.name, settings.title
    return InviteBody(role=found.role, study=name, title=title, expires_at=found.expires_at)


@router.post("/invites/{secret}", status_code=201, responses=refusals(400, 403, 404, 409))
def accept_invite(
    request: Request, response: Response, store: Place, secret: Secret, given: LoginBody
) -> SessionBody:
    """Make an account by an invitation, and sign in with it."""
    check_same_site(request)
    person = invites.accept(store, secret, given.login, given.password)
    return begin(request, response, sign_in.start_session(store, person.id))


@router.post(
    "/invites/{secret}/join",
    status_code=204,
    dependencies=KNOWN,
    responses=refusals(401, 403, 404),
)
def join(store: Place, caller: Anyone, secret: Secret) -> None:
    """Take part with the account that is signed in."""
    invites.accept_as(store, secret, caller.person.id)


@router.put("/me/password", dependencies=KNOWN, responses=refusals(400, 401, 403, 429))
def change_password(
    request: Request, response: Response, store: Place, caller: Anyone, given: PasswordBody
) -> SessionBody:
    """Change one's password: every session and API token ends, and a new session begins."""
    address = address_of(request)
    sign_in.change_password(store, caller.person.id, given.old, given.new, address=address)
    return begin(request, response, sign_in.start_session(store, caller.person.id))


@router.delete(
    "/me", status_code=204, dependencies=KNOWN, responses=refusals(400, 401, 403, 409, 429)
)
def forget_me(
    request: Request, response: Response, store: Place, caller: Anyone, given: ForgetBody
) -> None:
    """Erase who the caller is; their labels stay under a pseudonym. It cannot be undone."""
    sign_in.forget_me(store, caller.person.id, given.password, address=address_of(request))
    clear_cookie(response)


@router.get("/changes", dependencies=KNOWN, responses=refusals(401, 403, 404))
def list_changes(store: Place, _caller: Owner, before: EventId = None) -> list[ChangeBody]:
    """What was done to people, members and invitations, newest first, up to 50 before an event."""
    return [ChangeBody(**asdict(one)) for one in changes.list_changes(store, before=before)]


@router.get("/people", dependencies=KNOWN, responses=refusals(401, 403))
def list_people(store: Place, caller: Owner) -> list[PersonBody]:
    """Everyone with an account who has not been forgotten."""
    return [person_body(one) for one in accounts.list_people(store)]


@router.patch(
    "/people/{person_id}", dependencies=KNOWN, responses=refusals(400, 401, 403, 404, 409)
)
def change_person(store: Place, caller: Owner, person_id: Id, changes: PersonChanges) -> PersonBody:
    """Give somebody a role, keep them out, or let them in again."""
    if changes.role is not None:
        accounts.set_role(store, person_id, changes.role, by=caller.person.id)
    if changes.disabled is not None:
        accounts.disable(store, person_id, by=caller.person.id, disabled=changes.disabled)
    with store.read() as connection:
        return person_body(accounts.get_person(connection, person_id))


@router.delete(
    "/people/{person_id}",
    status_code=204,
    dependencies=KNOWN,
    responses=refusals(401, 403, 404, 409),
)
def forget(store: Place, caller: Anyone, person_id: Id) -> None:
    """Erase who somebody else is, for owners; oneself with `DELETE /me`."""
    accounts.forget(store, person_id, by=caller.person.id)
