"""Labelling: an item is claimed, seen, answered step by step, skipped or given back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Response

from hark.feedback import assignment, history, labelling
from hark.feedback.assignment import Nothing, NothingBecause
from hark.feedback.labelling import Receipt
from hark.web.api.descriptions import KNOWN, Id, Key, refusals
from hark.web.api.members import kept_body
from hark.web.api.seen import Seen
from hark.web.bodies import (
    AssignmentBody,
    CorrectionRequest,
    KeptBody,
    LeaseBody,
    OpenedBody,
    OwnLabel,
    ReceiptBody,
    SkipRequest,
    StepRequest,
    ViewBody,
)
from hark.web.identity import Anyone, Place

router = APIRouter(tags=["work"], dependencies=KNOWN)
NOTHING = {
    "description": "There is nothing to label",
    "headers": {
        "X-Because": {
            "description": "Why",
            "schema": {
                "type": "string",
                "enum": list(get_args(NothingBecause)),
            },
        }
    },
}


@router.post(
    "/studies/{name}/claims",
    response_model=AssignmentBody,
    responses={204: NOTHING, **refusals(401, 403, 404, 409)},
)
def claim(store: Place, caller: Anyone, study: Seen) -> AssignmentBody | Response:
    """An item to label: the one that is held, or the next; 204 if there is none."""
    claimed = assignment.claim(store, study.id, caller.person.id)
    if isinstance(claimed, Nothing):
        return Response(status_code=204, headers={"X-Because": claimed.because})
    return AssignmentBody(assignment_id=claimed.id, expires_at=claimed.expires_at)


@router.get("/assignments/{assignment_id}", responses=refusals(401, 403, 404))
def view(store: Place, caller: Anyone, assignment_id: Id) -> ViewBody:
    """What its labeler may see of an assignment now."""
    seen = asdict(labelling.view(store, assignment_id, caller.person.id))
    seen["next_steps"] = sorted(seen["next_steps"])
    return ViewBody(**seen, now=store.clock())


@router.post("/assignments/{assignment_id}/steps", responses=refusals(400, 401, 403, 404, 409))
def submit(
    store: Place, caller: Anyone, assignment_id: Id, step: StepRequest, key: Key
) -> ReceiptBody:
    """Keep a label, a message or a reset; it is on the disk when this is answered."""
    receipt = labelling.submit(
        store,
        assignment_id,
        caller.person.id,
        step.kind,
        step.answer,
        client_key=key,
        client=step.client,
    )
    return _receipt_body(receipt)


@router.post("/assignments/{assignment_id}/heartbeat", responses=refusals(401, 403, 404, 409))
def heartbeat(store: Place, caller: Anyone, assignment_id: Id) -> LeaseBody:
    """A sign of life, which prolongs the lease."""
    return LeaseBody(expires_at=assignment.heartbeat(store, assignment_id, caller.person.id))


@router.post("/assignments/{assignment_id}/open", responses=refusals(401, 403, 404, 409))
def open_step(store: Place, caller: Anyone, assignment_id: Id) -> OpenedBody:
    """Look at the next step; its time limit begins, once."""
    deadline = assignment.open_step(store, assignment_id, caller.person.id)
    return OpenedBody(deadline=deadline, now=store.clock())


@router.post(
    "/assignments/{assignment_id}/release", status_code=204, responses=refusals(401, 403, 404)
)
def release(store: Place, caller: Anyone, assignment_id: Id) -> None:
    """Give an item back at once."""
    assignment.release(store, assignment_id, caller.person.id)


@router.post("/assignments/{assignment_id}/skip", responses=refusals(400, 401, 403, 404, 409))
def skip(store: Place, caller: Anyone, assignment_id: Id, given: SkipRequest, key: Key) -> KeptBody:
    """Leave an item to others, without penalty; it never comes back."""
    kept = assignment.skip(store, assignment_id, caller.person.id, given.reason, client_key=key)
    return kept_body(kept)


@router.post("/assignments/{assignment_id}/finish", responses=refusals(401, 403, 404, 409))
def finish(store: Place, caller: Anyone, assignment_id: Id, key: Key) -> ReceiptBody:
    """End a dialogue that could go on."""
    receipt = labelling.finish(store, assignment_id, caller.person.id, client_key=key)
    return _receipt_body(receipt)


@router.post("/events/{event_id}/corrections", responses=refusals(400, 401, 403, 404, 409))
def correct(
    store: Place, caller: Anyone, event_id: Id, given: CorrectionRequest, key: Key
) -> KeptBody:
    """Supersede one's own label by another answer, or take it back; nothing is lost."""
    kept = labelling.correct(store, event_id, caller.person.id, given.answer, client_key=key)
    return kept_body(kept)


@router.get("/studies/{name}/labels", responses=refusals(401, 403, 404))
def list_own_labels(
    store: Place,
    caller: Anyone,
    study: Seen,
    before: Annotated[
        str | None,
        Query(max_length=64, pattern=r"^[0-9a-f-]+$", description="The id of a label"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[OwnLabel]:
    """The caller's labels in a study as they stand, newest first; those before one, or all."""
    found = history.own_labels(store, study.id, caller.person.id, before=before, limit=limit)
    return [OwnLabel(**asdict(one)) for one in found]


def _receipt_body(receipt: Receipt) -> ReceiptBody:
    return ReceiptBody(
        event_id=receipt.event.id,
        repeated=receipt.event.repeated,
        state=receipt.state,
        next_steps=sorted(receipt.next_steps),
        may_finish=receipt.may_finish,
    )
