"""How a refusal looks: for programs `{"error": {"message", …}}`, for people a page.

Each leaves a line in the log `hark.web` that says who asked for what, from where, and why not.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from hark.errors import HarkError
from hark.feedback.refusals import ThrottledError
from hark.settings import reason_of
from hark.web.identity import UNCHANGING, address_of, own_path
from hark.web.rendering import render

LOG = logging.getLogger("hark.web")
LONGEST_REASON = 600
SECRET_IN_PATH = re.compile(r"(/invites?/)[^/]+")
"""An invitation that was refused once may still be good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request was not done."""

    status: int
    message: str
    retry_seconds: float | None = None


def add_handlers(application: FastAPI) -> None:
    """Let every error become a response; what is not foreseen is logged with its traceback."""

    @application.exception_handler(HarkError)
    async def refused(request: Request, error: HarkError) -> Response:
        waits = error.seconds if isinstance(error, ThrottledError) else None
        status = getattr(error, "status", 400)
        return _answer(request, Failure(status=status, message=str(error), retry_seconds=waits))

    @application.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        return _answer(request, Failure(status=422, message=sentence(error)))

    @application.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        what = {404: "there is no such page", 405: "this cannot be done here"}
        message = what.get(error.status_code, str(error.detail))
        response = _answer(request, Failure(status=error.status_code, message=message))
        response.headers.update(error.headers or {})
        return response

    @application.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        path = loggable(request.url.path)
        LOG.error("%s %s: a defect", request.method, path, exc_info=error)
        failure = Failure(
            status=500, message="this went wrong here, not with you; what you typed is kept"
        )
        return respond(request.scope, failure)


def _answer(request: Request, failure: Failure) -> Response:
    # A sentence may quote what was sent, such as half a surrogate pair, which no UTF-8 has.
    failure = replace(failure, message=_one_line(failure.message))
    log_refusal(request.scope, failure)
    return respond(request.scope, failure)


def log_refusal(scope: Scope, failure: Failure) -> None:
    """One line, safe to print: what a stranger sent cannot make a line of its own."""
    LOG.warning(
        "refused %d %s %s person=%s address=%s: %s",
        failure.status,
        scope["method"],
        loggable(scope["path"]),
        scope.get("state", {}).get("pseudonym", "-"),
        _one_line(address_of(Request(scope))),
        _one_line(failure.message),
    )


def loggable(path: str) -> str:
    """A path on one line, without the secret of an invitation."""
    return _one_line(SECRET_IN_PATH.sub(r"\1…", path))


def _one_line(text: str) -> str:
    line = " ".join(text[: 2 * LONGEST_REASON].split())
    return "".join(one if one.isprintable() else "�" for one in line)[:LONGEST_REASON]


def is_for_programs(scope: Scope) -> bool:
    """Whether the response should be JSON."""
    path: str = scope["path"]
    return path.startswith("/api/")


def respond(scope: Scope, failure: Failure) -> Response:
    """The refusal as JSON or as a page; who must sign in first is sent there."""
    headers = {}
    if failure.retry_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(failure.retry_seconds)))
    if is_for_programs(scope):
        error = {"message": failure.message, "status": failure.status}
        return JSONResponse({"error": error}, failure.status, headers=headers)
    if failure.status == 401 and scope["method"] == "GET":
        return _to_login(Request(scope))
    heading = heading_of(failure.status, asks=scope["method"] in UNCHANGING)
    page = render("failure.html", failure=failure, heading=heading)
    return Response(page, failure.status, headers=headers, media_type="text/html")


def _to_login(request: Request) -> Response:
    """To the form, which leads back to the page that was asked for."""
    page = own_path(request.url.replace(scheme="", netloc="").components.geturl())
    return RedirectResponse("/login" if page == "/" else f"/login?{urlencode({'next': page})}", 303)


def heading_of(status: int, *, asks: bool) -> str:
    """What stands above a refusal. asks: whether a page was asked for, or something to be done."""
    if status >= 500:
        return "Something went wrong here"
    known = {403: "You may not do this", 404: "Not found", 429: "Too many attempts"}
    return known.get(status, "This page cannot be shown" if asks else "This was not done")


def sentence(error: RequestValidationError) -> str:
    """Pydantic's findings in words; the offending values may be books and are not repeated."""
    clauses = []
    for found in list(error.errors())[:5]:
        where = ".".join(str(part) for part in found["loc"] if part != "body") or "the body"
        reason = reason_of(found)
        clauses.append(f"{where}: {reason[:1].lower()}{reason[1:]}")
    return "; ".join(clauses)
