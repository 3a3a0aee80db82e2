"""Both replies of a live turn: drawn once, told to whoever listens, and kept when whole.

A turn is drawn by a task of its own, which no reader can stop: two tabs share it, and a reader who
goes away finds the replies kept on coming back. A server that is killed leaves the turn as it was,
so that the next reader has it drawn again.

A reply that failed, was cut off or is blank makes the comparison unvotable: all replies of that
generation are kept for the record, and all are drawn again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from hark.errors import HarkError
from hark.feedback import items
from hark.feedback.records import Candidate
from hark.feedback.refusals import ConflictError
from hark.feedback.store import Store
from hark.web.live.endpoints import LiveModels, UnavailableError
from hark.web.live.turns import WaitingTurn, find_waiting_turn

LOG = logging.getLogger("hark.web")
WAITS = (0.0, 0.5, 2.0)
"""Seconds before each attempt of a drawing."""
RETRY_SECONDS: Final = 10.0
"""When a reader should ask again after the last attempt failed."""
RESTART_SECONDS: Final = 2.0
SECONDS_BETWEEN_SIGNS: Final = 15.0
"""A stream that is silent for longer is cut by some proxies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """What a reader is told."""

    kind: Literal["delta", "again", "done", "failed"]
    """delta: more text at a place; again: forget all deltas, the replies are drawn anew; done: they
    are kept and can be judged; failed: they are not, and nothing more comes."""
    data: dict[str, Any]

    def frame(self) -> str:
        """As a server-sent event."""
        # In ASCII: some readers of lines end them at other characters too.
        return f"event: {self.kind}\ndata: {json.dumps(self.data)}\n\n"


def failed(message: str, *, retry_seconds: float, passes: bool = False) -> StreamEvent:
    """The last event of a drawing that came to nothing; `passes`: for now, and by no fault."""
    data = {"message": message, "retry_seconds": retry_seconds, "passes": passes}
    return StreamEvent(kind="failed", data=data)


class Drawing:
    """The replies of one turn while they are drawn, and whoever listens to them."""

    def __init__(self, *events: StreamEvent) -> None:
        """events: all there is to tell, if nothing is drawn."""
        self.ended = bool(events)
        self._events = list(events)
        self._begin = 0
        """What was told before concerns nobody any more."""
        self._news = asyncio.Event()

    def tell(self, event: StreamEvent) -> None:
        """Say something to every reader; nothing can be said after "done" or "failed"."""
        if self.ended:
            return
        self._events.append(event)
        if event.kind == "again":
            self._begin = len(self._events)
        self.ended = event.kind in ("done", "failed")
        self._news.set()
        self._news = asyncio.Event()

    async def listen(self) -> AsyncIterator[StreamEvent | None]:
        """All events of the present attempt and of later ones; None where there is no news."""
        place = self._begin
        while True:
            while place < len(self._events):
                yield self._events[place]
                place += 1
            if self.ended:
                return
            news = self._news
            try:
                await asyncio.wait_for(news.wait(), SECONDS_BETWEEN_SIGNS)
            except TimeoutError:
                yield None


class Replies:
    """The drawings under way on this server; used in one event loop."""

    def __init__(self, store: Store, models: LiveModels) -> None:
        self.store, self.models = store, models
        self._drawings: dict[tuple[str, int], Drawing] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    async def open(self, assignment_id: str, person_id: str) -> Drawing:
        """The drawing of the turn that waits, begun if it is not under way.

        Where its models are not served here, it has failed, and says so.
        Raises: NotFoundError for somebody else's assignment; ConflictError if no turn waits.
        """
        turn = await asyncio.to_thread(find_waiting_turn, self.store, assignment_id, person_id)
        if self._ending:
            return Drawing(_restarting())
        key = (assignment_id, turn.turn)
        if (under_way := self._drawings.get(key)) is not None:
            return under_way
        try:
            for wanted in turn.wanted:
                self.models.get(wanted.snapshot)
        except UnavailableError as error:
            if not error.passes:
                LOG.warning("replies for assignment %s: %s", assignment_id, error.for_log)
            wait = RESTART_SECONDS if error.passes else RETRY_SECONDS
            return Drawing(failed(str(error), retry_seconds=wait, passes=error.passes))
        drawing = self._drawings[key] = Drawing()
        task = asyncio.create_task(self._draw(key, person_id, drawing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return drawing

    def end(self) -> None:
        """Draw nothing more, and let every reader go: the server ends."""
        self._ending = True
        for drawing in self._drawings.values():
            drawing.tell(_restarting())
        for task in self._tasks:
            task.cancel()

    async def join(self) -> None:
        """Wait until nothing is drawn any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _draw(self, key: tuple[str, int], person_id: str, drawing: Drawing) -> None:
        last = failed("this went wrong here, not with you", retry_seconds=RETRY_SECONDS)
        try:
            last = await self._attempt_all(key, person_id, drawing)
        except HarkError as error:
            LOG.warning("replies for assignment %s: %s", key[0], error)
        except Exception:
            LOG.exception("replies for assignment %s: a defect", key[0])
        finally:
            del self._drawings[key]
            drawing.tell(last)

    async def _attempt_all(
        self, key: tuple[str, int], person_id: str, drawing: Drawing
    ) -> StreamEvent:
        done = StreamEvent(kind="done", data={})
        for attempt, seconds in enumerate(WAITS):
            if attempt:
                drawing.tell(StreamEvent(kind="again", data={}))
                await asyncio.sleep(seconds)
            try:
                # Read anew each time: another server may have drawn it, and the seeds go on.
                turn = await asyncio.to_thread(find_waiting_turn, self.store, key[0], person_id)
                if turn.turn != key[1]:
                    return done
                if await self._attempt(turn, drawing):
                    return done
            except ConflictError:
                return done
        return failed(
            "a reply failed or was cut off each time it was drawn; it is tried again",
            retry_seconds=RETRY_SECONDS,
        )

    async def _attempt(self, turn: WaitingTurn, drawing: Drawing) -> bool:
        """Draw all replies and keep them; whether all are whole. Raises: ConflictError."""

        def tell(place: int, text: str) -> None:
            shown_at = turn.shown_at(place)
            drawing.tell(StreamEvent(kind="delta", data={"place": shown_at, "text": text}))

        drawn = await self.models.draw(turn.wanted, tell)
        await asyncio.to_thread(
            items.put_candidates,
            self.store,
            turn.item_id,
            drawn,
            assignment_id=turn.assignment_id,
            turn=turn.turn,
        )
        for one in drawn:
            if not one.readable:
                LOG.warning("a reply for assignment %s %s", turn.assignment_id, why_not(one))
        return all(one.readable for one in drawn)


def why_not(candidate: Candidate) -> str:
    """Why a response cannot be judged; for the log, as it names the model."""
    reason = candidate.error
    if reason is None:
        reason = "cut off at its limit" if candidate.finish == "length" else "blank"
    return f"from '{candidate.snapshot}' is not readable: {reason}"


def _restarting() -> StreamEvent:
    return failed("the server is restarting", retry_seconds=RESTART_SECONDS, passes=True)
