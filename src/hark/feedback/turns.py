"""Turns: threads let in one at a time, in the order in which they came."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator


class Turns:
    """A lock that is fair.

    SQLite lets writers that find it busy sleep and try again, so that of many at once some are
    overtaken for seconds, and sleep while it is free. Between processes it still does.
    """

    def __init__(self) -> None:
        self._lock, self._taken = threading.Lock(), False
        self._queue: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        with self._lock:
            return len(self._queue)

    @contextlib.contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """One's turn, for the length of a block. Raises: TimeoutError if it does not come soon."""
        self._take(seconds)
        try:
            yield
        finally:
            self._pass_on()

    def _take(self, seconds: float) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._queue.append(mine)
        came = False
        try:
            came = mine.wait(seconds)
        finally:
            if not came:
                self._leave(mine)
        if not came:
            raise TimeoutError

    def _leave(self, mine: threading.Event) -> None:
        """Out of the queue; a turn that came meanwhile is the next one's."""
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
                return
        self._pass_on()

    def _pass_on(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._taken = False
