"""What the API's description says of every route: who may ask, and how it refuses."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Header, Path, Query, Security
from fastapi.security import APIKeyCookie, HTTPBearer

from hark.feedback.events import MAXIMUM_KEY_CHARACTERS
from hark.web.bodies import ErrorBody
from hark.web.identity import COOKIE, CSRF_HEADER

MEANINGS: Final = {
    400: "The body cannot be read, or a setting in it is refused",
    401: "Nobody is signed in, or not any more",
    403: "The caller may not do this, or the CSRF token is missing",
    404: "It is not there, or not for the caller",
    409: "It is not the time for it, or the idempotency key was used for something else",
    413: "The request is longer than the server takes",
    415: "The body is neither JSON nor JSON lines",
    422: "A value is missing, malformed, or does not fit what was shown",
    429: "Too many failed logins",
    503: "The database is busy or away; nothing was kept, and the request can be repeated",
}
RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}
}

TOKEN: Final = HTTPBearer(
    scheme_name="token", description="An API token, `hark_…`", auto_error=False
)
SESSION: Final = APIKeyCookie(
    name=COOKIE,
    scheme_name="session",
    description=f"A session; whatever changes something also needs its `{CSRF_HEADER}`",
    auto_error=False,
)
KNOWN: Final = [Security(TOKEN), Security(SESSION)]
"""For routers whose callers must be known; `identity` decides, this only describes."""

Id = Annotated[str, Path(max_length=64, pattern=r"^[0-9A-Za-z-]+$")]
EventId = Annotated[
    str | None,
    Query(max_length=64, pattern=r"^[0-9a-f-]+$", description="The id of an event"),
]
"""Where a list goes on."""
StudyName = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$")]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAXIMUM_KEY_CHARACTERS,
        description="Made by the client, such as a UUID, and the same at every repetition",
    ),
]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses of a route beside its success."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in sorted({413, 422, 503, *statuses}):
        described[status] = {"model": ErrorBody, "description": MEANINGS[status]}
        if status == 429:
            described[status]["headers"] = RETRY_AFTER
    return described
