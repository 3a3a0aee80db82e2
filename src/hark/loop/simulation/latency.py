"""How long requests take, by route, as a client sees it: from sending to the last byte."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2

NAMED: Final = re.compile(
    r"/(study|studies|manage|assignments|events|items|invites|people|consents)/[^/]+"
)
STREAMS: Final = ("/replies", "/events")
"""Routes that go on for as long as a model speaks, or a log is long."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One attempt of a request."""

    route: str
    seconds: float
    status: int | None
    """None if it was not answered."""


class TimedTransport(httpx2.BaseTransport):
    """Sends requests and notes how long each took; the notes are shared between threads."""

    def __init__(self, notes: list[Timed]) -> None:
        self._inner, self._notes = httpx2.HTTPTransport(), notes

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        route = route_of(request)
        began = time.perf_counter()
        try:
            response = self._inner.handle_request(request)
            if not route.endswith(STREAMS):
                response.read()
        except httpx2.TransportError:
            self._notes.append(Timed(route, time.perf_counter() - began, None))
            raise
        self._notes.append(Timed(route, time.perf_counter() - began, response.status_code))
        return response

    def close(self) -> None:
        """Let go of the connections."""
        self._inner.close()


def route_of(request: httpx2.Request) -> str:
    """The method and the path without names and ids: `POST /studies/{}/claims`."""
    path = NAMED.sub(r"/\1/{}", request.url.path.removeprefix("/api/v1"))
    return f"{request.method} {path}"


def by_route(notes: Sequence[Timed]) -> list[dict[str, Any]]:
    """Percentiles of those that were answered, in milliseconds; streams of models are left out."""
    answered = defaultdict[str, list[float]](list)
    for one in notes:
        if one.status is not None and not one.route.endswith(STREAMS):
            answered[one.route].append(one.seconds)
            answered["all"].append(one.seconds)
    return [
        {
            "route": route,
            "requests": len(seconds),
            "p50_ms": 1000 * percentile(seconds, 0.50),
            "p95_ms": 1000 * percentile(seconds, 0.95),
            "p99_ms": 1000 * percentile(seconds, 0.99),
        }
        for route, seconds in sorted(answered.items())
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ordered = sorted(values)
    place = -(-share * len(ordered) // 1)
    return ordered[max(0, int(place) - 1)]
