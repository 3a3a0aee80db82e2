"""What the pages of managers have in common: their frame, and how a refusal looks inside one.

Forms are sent by htmx, with the session's CSRF token in a header. What is refused is said in the
page's place for notices; what is done loads the page anew, or another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute
from markupsafe import escape
from starlette.datastructures import FormData, UploadFile

from hark.errors import DataError, HarkError
from hark.feedback import studies
from hark.feedback.studies import MANAGERS, Study
from hark.web.api.descriptions import StudyName
from hark.web.failures import Failure, log_refusal, sentence
from hark.web.identity import Caller, Place
from hark.web.rendering import render

NOTICE: Final = "#problem"
"""Where every page says what was not done."""


class ManageRoute(APIRoute):
    """Puts refusals of htmx's requests where the page has room for them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with refusals caught."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (HarkError, RequestValidationError) as error:
                if request.headers.get("HX-Request") != "true":
                    raise
                return _refusal(request, error)

        return answer


def _refusal(request: Request, error: HarkError | RequestValidationError) -> Response:
    if isinstance(error, HarkError):
        failure = Failure(status=getattr(error, "status", 400), message=str(error))
    else:
        failure = Failure(status=422, message=sentence(error))
    log_refusal(request.scope, failure)
    headers = {"HX-Retarget": NOTICE, "HX-Reswap": "innerHTML"}
    return HTMLResponse(str(escape(failure.message)), failure.status, headers=headers)


def find_study(store: Place, name: StudyName) -> Study:
    """The study of the address."""
    return studies.find_study(store, name)


Shown = Annotated[Study, Depends(find_study)]
"""The study of the address. Put it after the caller, so that strangers learn of no study."""


async def sent_form(request: Request) -> AsyncIterator[FormData]:
    """A form with files, read when it is asked for."""
    async with request.form() as form:
        yield form


Sent = Annotated[FormData, Depends(sent_form)]
"""The form that was sent. Put it after the caller, so that a stranger's is not read."""


def file_of(form: FormData) -> UploadFile:
    """The file of a form. Raises: DataError if there is none."""
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise DataError("no file was chosen: choose one")
    return file


Word = Annotated[str, Query(max_length=20, pattern="^[a-z]*$")]
"""A filter of a list; empty for all."""
Start = Annotated[int, Query(le=2**31 - 1)]
"""Where a page of a list begins."""


def show(template: str, caller: Caller, **values: Any) -> HTMLResponse:
    """A page below `templates/manage`."""
    defaults = {
        "study": None,
        "here": "",
        "manages": caller.person.role in MANAGERS,
        "owns": caller.person.role == "owner",
        "moment": moment,
        "day": day,
    }
    return HTMLResponse(render(f"manage/{template}", caller=caller, **{**defaults, **values}))


def go(address: str, said: str) -> Response:
    """Load another page, or this one anew; it then says that something is done."""
    return Response(status_code=204, headers={"HX-Redirect": address, "X-Said": quote(said)})


def moment(seconds: float) -> str:
    """A time to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y, %H:%M")


def day(seconds: float) -> str:
    """A date."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y")
