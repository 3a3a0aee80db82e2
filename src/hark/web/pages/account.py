"""Signing in and out, taking up an invitation, and what concerns one's own account."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from hark.errors import HarkError
from hark.feedback import invites, sign_in, studies
from hark.feedback.events import iso_time
from hark.feedback.invites import Invite
from hark.feedback.refusals import FeedbackError, NotFoundError, NotSignedInError
from hark.web.failures import Failure, log_refusal
from hark.web.identity import (
    Anyone,
    Place,
    address_of,
    check_same_site,
    clear_cookie,
    find_caller,
    own_path,
    set_cookie,
)
from hark.web.rendering import render

router = APIRouter()
Text = Annotated[str, Form(max_length=1000)]


@router.get("/login", response_class=HTMLResponse)
def show_login(next: str = "") -> str:
    """The form. next: the page that is wanted afterwards."""
    return render("login.html", login="", problem=None, next=own_path(next))


@router.post("/login")
def log_in(
    request: Request,
    store: Place,
    login: Text = "",
    password: Text = "",
    next: Annotated[str, Form(max_length=4000)] = "/",
) -> Response:
    """Sign in; a wrong password shows the form again."""
    check_same_site(request)
    try:
        session = sign_in.log_in(store, login, password, address=address_of(request))
    except FeedbackError as error:
        return _form_again(request, "login.html", error, login=login, next=own_path(next))
    return _signed_in(request, session, own_path(next))


@router.get("/invite/{secret}", response_class=HTMLResponse)
def show_invite(request: Request, store: Place, secret: str) -> str:
    """What one is invited to, and a form to make an account or to join with the one at hand."""
    invite = invites.look_at(store, secret)
    try:
        caller = find_caller(request)
    except NotSignedInError:
        caller = None
    return render(
        "invite.html",
        invite=invite,
        title=_title(store, invite),
        secret=secret,
        login="",
        problem=None,
        caller=caller,
    )


@router.post("/invite/{secret}")
def accept_invite(
    request: Request, store: Place, secret: str, login: Text = "", password: Text = ""
) -> Response:
    """Make an account and sign in with it."""
    check_same_site(request)
    try:
        person = invites.accept(store, secret, login, password)
    except NotFoundError:
        raise
    except FeedbackError as error:
        invite = invites.look_at(store, secret)
        shown = {"invite": invite, "title": _title(store, invite), "secret": secret}
        return _form_again(request, "invite.html", error, login=login, **shown)
    return _signed_in(request, sign_in.start_session(store, person.id))


@router.post("/invite/{secret}/join")
def join(store: Place, caller: Anyone, secret: str) -> Response:
    """Take part with the account that is signed in."""
    invites.accept_as(store, secret, caller.person.id)
    return Response(status_code=204, headers={"HX-Redirect": "/"})


@router.get("/account", response_class=HTMLResponse)
def show_account(store: Place, caller: Anyone) -> str:
    """Password, API tokens, and being forgotten; scripts ask the API for each."""
    return render(
        "account.html",
        caller=caller,
        tokens=sign_in.list_api_tokens(store, caller.person.id),
        now=store.clock(),
        date=lambda seconds: iso_time(seconds)[:10],
        days=sign_in.API_TOKEN_DAYS,
        longest=sign_in.LONGEST_API_TOKEN_DAYS,
    )


@router.post("/logout")
def log_out(store: Place, caller: Anyone) -> Response:
    """End the session."""
    if caller.session is not None:
        sign_in.log_out(store, caller.session.secret)
    response = Response(status_code=204, headers={"HX-Redirect": "/login"})
    clear_cookie(response)
    return response


def _title(store: Place, invite: Invite) -> str | None:
    """Of the study that an invitation leads to, if it does."""
    if invite.study_id is None:
        return None
    with store.read() as connection:
        return studies.get_study(connection, invite.study_id).settings.title


def _signed_in(request: Request, session: sign_in.Session, page: str = "/") -> Response:
    response = RedirectResponse(page, 303)
    set_cookie(request, response, session)
    return response


def _form_again(request: Request, template: str, error: HarkError, **values: object) -> Response:
    failure = Failure(status=getattr(error, "status", 400), message=str(error))
    log_refusal(request.scope, failure)
    return HTMLResponse(render(template, problem=failure.message, **values), failure.status)
