"""Sessions and API tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from hark.feedback import sign_in
from hark.feedback.accounts import Person
from hark.feedback.refusals import ConflictError
from hark.feedback.sign_in import Session
from hark.web.api.descriptions import KNOWN, refusals
from hark.web.bodies import (
    LoginBody,
    MeBody,
    PersonBody,
    RevokedBody,
    SessionBody,
    TokenBody,
    TokenRequest,
)
from hark.web.identity import (
    Anyone,
    Place,
    SignedIn,
    address_of,
    check_same_site,
    clear_cookie,
    set_cookie,
)

router = APIRouter(tags=["sessions"])


@router.post("/sessions", status_code=201, responses=refusals(400, 401, 403, 429))
def log_in(request: Request, response: Response, store: Place, given: LoginBody) -> SessionBody:
    """Sign in with a password; the session is the cookie of the response."""
    check_same_site(request)
    session = sign_in.log_in(store, given.login, given.password, address=address_of(request))
    return begin(request, response, session)


@router.delete(
    "/sessions/current", status_code=204, dependencies=KNOWN, responses=refusals(401, 403, 409)
)
def log_out(response: Response, store: Place, caller: Anyone) -> None:
    """End the session."""
    if caller.session is None:
        raise ConflictError("an API token is no session: revoke it with DELETE /tokens")
    sign_in.log_out(store, caller.session.secret)
    clear_cookie(response)


@router.get("/me", dependencies=KNOWN, responses=refusals(401, 403))
def show_me(caller: Anyone) -> MeBody:
    """Who the caller is."""
    csrf = None if caller.session is None else caller.session.csrf
    return MeBody(person=person_body(caller.person), csrf=csrf)


@router.post("/tokens", status_code=201, dependencies=KNOWN, responses=refusals(400, 401, 403))
def create_token(store: Place, caller: SignedIn, wish: TokenRequest) -> TokenBody:
    """An API token of one's own, told once and never again.

    It takes a session: a token that got out must not outlive its 90 days by making others.
    """
    expires_at = store.clock() + wish.days * 86400
    secret = sign_in.create_api_token(store, caller.person.id, wish.label, expires_at=expires_at)
    return TokenBody(secret=secret, label=wish.label, expires_at=expires_at)


@router.delete("/tokens", dependencies=KNOWN, responses=refusals(401, 403))
def revoke_tokens(
    store: Place, caller: Anyone, label: Annotated[str, Query(max_length=200)]
) -> RevokedBody:
    """Revoke one's API tokens of a label."""
    printable = label.isprintable()  # no token has another, and PostgreSQL takes no NUL
    count = sign_in.revoke_api_tokens(store, caller.person.id, label) if printable else 0
    return RevokedBody(revoked=count)


def begin(request: Request, response: Response, session: Session) -> SessionBody:
    """Answer with a session: its cookie, and what goes with it."""
    set_cookie(request, response, session)
    return SessionBody(
        person=person_body(session.person), csrf=session.csrf, expires_at=session.expires_at
    )


def person_body(person: Person) -> PersonBody:
    """A person, without secrets."""
    return PersonBody(
        id=person.id,
        pseudonym=person.pseudonym,
        role=person.role,
        login=person.login,
        disabled=person.disabled,
    )
