"""A limit to the size of requests, and headers of responses that bind browsers."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hark.web.failures import Failure, log_refusal, respond
from hark.web.settings import WebSettings

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""No script but our own files: text of a labeler or a model never runs."""


class Limits:
    """ASGI middleware. Bodies are counted as they come: a length that is declared may lie."""

    def __init__(self, application: ASGIApp, settings: WebSettings) -> None:
        self.application, self.settings = application, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        limit = self._limit(scope)
        started = False

        async def bound(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                is_file = scope["path"].startswith("/static/")
                # Files are asked for each time: modules of two versions do not fit together.
                headers.setdefault("Cache-Control", "no-cache" if is_file else "no-store")
            await send(message)

        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise TooLargeError(limit)
            return message

        try:
            declared = int(dict(scope["headers"]).get(b"content-length", b"0"))
        except ValueError:
            declared = 0
        try:
            if declared > limit:
                raise TooLargeError(limit)
            await self.application(scope, counted, bound)
        except TooLargeError:
            if started:
                raise
            failure = Failure(status=413, message=_message(limit))
            log_refusal(scope, failure)
            await respond(scope, failure)(scope, receive, bound)

    def _limit(self, scope: Scope) -> int:
        uploads = scope["method"] == "POST" and scope["path"].endswith(("/items", "/scores"))
        return self.settings.maximum_upload_bytes if uploads else self.settings.maximum_body_bytes


class TooLargeError(HTTPException):
    """The body of a request is longer than it may be.

    An HTTP exception, since FastAPI takes any other for a body that cannot be read.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(413, _message(limit))


def _message(limit: int) -> str:
    return f"a request has up to {limit:,} bytes"
