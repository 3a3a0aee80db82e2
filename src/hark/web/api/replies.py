"""Replies of models to a live dialogue, as they are drawn."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from hark.web.api.descriptions import KNOWN, Id, refusals
from hark.web.identity import Anyone
from hark.web.live.replies import Drawing, Replies

router = APIRouter(tags=["work"], dependencies=KNOWN)


class EventStream(StreamingResponse):
    """Server-sent events, which no proxy should hold back."""

    media_type = "text/event-stream"

    def __init__(self, drawing: Drawing) -> None:
        super().__init__(_frames(drawing), headers={"X-Accel-Buffering": "no"})


async def _frames(drawing: Drawing) -> AsyncIterator[str]:
    async for event in drawing.listen():
        yield ": still drawing\n\n" if event is None else event.frame()


@router.get(
    "/assignments/{assignment_id}/replies",
    status_code=200,
    response_class=EventStream,
    responses=refusals(401, 403, 404, 409),
)
async def listen(request: Request, caller: Anyone, assignment_id: Id) -> EventStream:
    """The replies to the last message, side by side, as server-sent events.

    `delta` has `{"place", "text"}`, more text at a place of the page; `again` (`{}`) means that all
    text so far is void, as the replies are drawn anew; `done` (`{}`), that they are kept and the
    assignment can be read again; `failed` has `{"message", "retry_seconds"}`, after which the same
    request draws them again. Several readers share one drawing; who goes away does not stop it.
    """
    replies: Replies = request.app.state.replies
    return EventStream(await replies.open(assignment_id, caller.person.id))
