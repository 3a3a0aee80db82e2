"""Who asks: a session's signed cookie with its CSRF token, or an API token.

A browser sends its cookie with requests that another site made it send, so that whatever changes
something needs, beside the cookie, the session's CSRF token in the header `X-CSRF-Token`. An API
token needs none: no browser sends it by itself. The forms that are posted before anyone is signed
in (login, invitation) must come from a page of ours (`check_same_site`).

The session's secret is worth nothing without the server's signature, so that a made-up cookie is
refused before the database is asked.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from itsdangerous import BadSignature, Signer

from hark.feedback import sign_in
from hark.feedback.accounts import Person, Role
from hark.feedback.refusals import NotAllowedError, NotSignedInError
from hark.feedback.sign_in import Session
from hark.feedback.store import Store
from hark.web.settings import WebSettings

COOKIE: Final = "hark_session"
CSRF_HEADER: Final = "X-CSRF-Token"
OWN_PATH: Final = re.compile(r"/(?![/\\])[^\\\s\x00-\x1f\x7f]*")
UNCHANGING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody known."""

    person: Person
    session: Session | None
    """None for a program with an API token."""


def store_of(request: Request) -> Store:
    """The store that the application works on."""
    store: Store = request.app.state.store
    return store


def settings_of(request: Request) -> WebSettings:
    """How the application is served."""
    settings: WebSettings = request.app.state.settings
    return settings


def find_caller(request: Request) -> Caller:
    """Who asks. Raises: NotSignedInError; NotAllowedError without the CSRF token."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer" or not secret.strip():
            raise NotSignedInError("send 'Authorization: Bearer hark_…' with an API token")
        person = sign_in.find_api_token(store_of(request), secret.strip())
        return _known(request, Caller(person=person, session=None))
    session = sign_in.find_session(store_of(request), _cookie_secret(request))
    if request.method not in UNCHANGING:
        sent = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(sent.encode(), session.csrf.encode()):
            raise NotAllowedError(
                f"the request does not come from a page of this session: send its {CSRF_HEADER}, "
                "or load the page again"
            )
    return _known(request, Caller(person=session.person, session=session))


def _known(request: Request, caller: Caller) -> Caller:
    request.state.pseudonym = caller.person.pseudonym  # for the log
    return caller


def _cookie_secret(request: Request) -> str:
    signed = request.cookies.get(COOKIE)
    if not signed:
        raise NotSignedInError("you are not signed in: log in")
    try:
        return _signer(request).unsign(signed).decode()
    except (BadSignature, UnicodeDecodeError):
        raise NotSignedInError("the cookie is not one of this server: log in") from None


def _signer(request: Request) -> Signer:
    signer: Signer = request.app.state.signer
    return signer


def set_cookie(request: Request, response: Response, session: Session) -> None:
    """Sign a browser in; a cookie that it had before is replaced."""
    response.set_cookie(
        COOKIE,
        _signer(request).sign(session.secret).decode(),
        max_age=int(session.expires_at - store_of(request).clock()),
        httponly=True,
        samesite="lax",
        secure=settings_of(request).secure_cookies,
    )


def clear_cookie(response: Response) -> None:
    """Let a browser forget its session."""
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")


def check_same_site(request: Request) -> None:
    """Refuse a form that another site made the browser send. Raises: NotAllowedError."""
    origin = request.headers.get("origin")
    foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if origin not in (None, "null"):
        foreign = foreign or urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise NotAllowedError("the form was sent from another site: open the page here")


def own_path(address: str) -> str:
    """The address if it is a path of this server, else the first page.

    `//elsewhere` and `/\\elsewhere` lead to other servers, and browsers pass over blanks.
    """
    if OWN_PATH.fullmatch(address) and not address.startswith("/login"):
        return address
    return "/"


def address_of(request: Request) -> str:
    """Where a request comes from; behind a trusted proxy, what it says."""
    address = request.client.host if request.client else "unknown"
    forwarded = request.headers.get("x-forwarded-for")
    if forwarded and address in settings_of(request).trusted_proxies:
        return forwarded.split(",")[-1].strip()
    return address


def link_to(request: Request, path: str) -> str:
    """The address of a page for people elsewhere, as `path` below ours."""
    base = request.base_url
    # A proxy that speaks HTTPS speaks HTTP with us.
    scheme = "https" if settings_of(request).secure_cookies else base.scheme
    return f"{base.replace(scheme=scheme)}{path}"


def with_session(request: Request) -> Caller:
    """The caller, who must have signed in with a password. Raises: NotAllowedError for a token."""
    caller = find_caller(request)
    if caller.session is None:
        raise NotAllowedError(
            "an API token cannot do this: sign in with a password, or ask whoever can"
        )
    return caller


def of_role(*roles: Role) -> Callable[[Request], Caller]:
    """A dependency: the caller, who must have one of these roles. Raises: NotAllowedError."""

    def find(request: Request) -> Caller:
        caller = find_caller(request)
        if caller.person.role not in roles:
            raise NotAllowedError(f"this is for the {' and the '.join(roles)} of a study")
        return caller

    return find


Place = Annotated[Store, Depends(store_of)]
Anyone = Annotated[Caller, Depends(find_caller)]
"""Anybody who is signed in."""
SignedIn = Annotated[Caller, Depends(with_session)]
"""The same, but no program with an API token."""
Manager = Annotated[Caller, Depends(of_role("owner", "researcher"))]
Staff = Annotated[Caller, Depends(of_role("owner", "researcher", "reviewer"))]
Owner = Annotated[Caller, Depends(of_role("owner"))]
