"""Requests to a server that may go away and come back.

What changes something is sent under one key until it is answered, so that a server that is killed
and started again neither loses nor doubles it. What has no key is sent again only if it does no
harm twice, or never reached the server. Refusals become the errors of `feedback.refusals`, with the
server's sentence.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal

import httpx2
from pydantic import Field

from hark import __version__
from hark.errors import HarkError
from hark.feedback.refusals import (
    ConflictError,
    FeedbackError,
    InvalidLabelError,
    NotAllowedError,
    NotFoundError,
    NotSignedInError,
    ThrottledError,
)
from hark.settings import Settings
from hark.web.bodies import ErrorBody

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
REFUSALS: Final[dict[int, type[FeedbackError]]] = {
    one.status: one
    for one in (NotSignedInError, NotAllowedError, NotFoundError, ConflictError, InvalidLabelError)
}
GONE: Final = frozenset({502, 503, 504})
"""Said by a proxy whose server is away."""
NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class UnreachableError(HarkError):
    """The server does not answer."""


class GoneError(Exception):
    """A proxy says that its server is away."""


BROKEN_OFF: Final = (GoneError, httpx2.TransportError)
"""How an attempt ends that got no answer."""


class Patience(Settings):
    """How long a server may be away."""

    seconds: Annotated[float, Field(ge=0)] = 60.0
    """After so long without an answer a request fails."""
    first_wait_seconds: Annotated[float, Field(gt=0)] = 0.1
    """Before the first repetition; each further wait is twice as long."""
    longest_wait_seconds: Annotated[float, Field(gt=0)] = 5.0
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """For one attempt."""


class Attempts:
    """Waits that double, with some chance in them, so that many clients do not return as one."""

    def __init__(self, patience: Patience, sleep: Callable[[float], None]) -> None:
        self.patience, self.sleep = patience, sleep
        self.began = time.monotonic()
        self.wait_seconds = patience.first_wait_seconds

    def wait(self, error: Exception) -> None:
        """Before the next attempt. Raises: UnreachableError when patience is at its end."""
        away = time.monotonic() - self.began
        if away + self.wait_seconds > self.patience.seconds:
            raise UnreachableError(
                f"the server has not answered for {away:.0f} seconds ({error}): is it running, and "
                "is the address right?"
            ) from None
        self.sleep(self.wait_seconds * random.uniform(0.5, 1.0))
        self.wait_seconds = min(2 * self.wait_seconds, self.patience.longest_wait_seconds)


class Connection:
    """Sends requests of one person. Threads may share it."""

    def __init__(
        self,
        base_url: str,
        *,
        patience: Patience,
        transport: httpx2.BaseTransport | None,
        sleep: Callable[[float], None],
    ) -> None:
        """base_url: as `http://127.0.0.1:8000`."""
        self.patience, self._sleep = patience, sleep
        self.http = httpx2.Client(
            base_url=f"{base_url.rstrip('/')}/api/v1",
            headers={"User-Agent": f"hark/{__version__}"},
            timeout=patience.timeout_seconds,
            transport=transport,
        )

    def attempts(self) -> Attempts:
        """For one request."""
        return Attempts(self.patience, self._sleep)

    def send(
        self,
        method: Method,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        key: str | None = None,
        repeatable: bool = False,
    ) -> httpx2.Response:
        """Send until it is answered.

        key: the idempotency key. repeatable: it does no harm twice, even without one.
        Raises: the server's refusal; UnreachableError.
        """
        repeatable = repeatable or method == "GET" or key is not None
        headers = {} if key is None else {"Idempotency-Key": key}
        attempts = self.attempts()
        while True:
            try:
                response = self.http.request(
                    method, path, json=json, params=params, headers=headers
                )
                check(response)
                return response
            except BROKEN_OFF as error:
                if not repeatable and not isinstance(error, NEVER_SENT):
                    raise UnreachableError(
                        f"the server went away during {method} {path} ({error}), and it is not "
                        "known whether it was done: look before you send it again"
                    ) from None
                attempts.wait(error)

    @contextlib.contextmanager
    def lines(
        self, path: str, *, params: dict[str, Any] | None = None, forever: bool = False
    ) -> Iterator[Iterator[str]]:
        """The lines of a response as they come, one attempt.

        forever: however long the next one takes.
        Raises: the server's refusal; one of `BROKEN_OFF`.
        """
        timeout = None if forever else self.patience.timeout_seconds
        with self.http.stream("GET", path, params=params, timeout=timeout) as response:
            check(response)
            yield _lines(response)


def _lines(response: httpx2.Response) -> Iterator[str]:
    """Lines that end with a line feed; U+2028 and its like are text of somebody."""
    rest = b""
    for piece in response.iter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode()
    if rest:
        yield rest.decode()


def check(response: httpx2.Response) -> None:
    """Raises: the refusal that a response is, in the server's words; GoneError."""
    status = response.status_code
    if status in GONE:
        raise GoneError(f"status {status}")
    if 200 <= status < 300:
        return
    try:
        message = ErrorBody.model_validate_json(response.read()).error.message
    except ValueError:
        message = f"the server answered with status {status}: is this a hark server?"
    if status == 429:
        seconds = float(response.headers.get("Retry-After", "1"))
        raise ThrottledError(message, seconds=seconds)
    error = REFUSALS.get(status, FeedbackError)(message)
    error.status = status
    raise error
