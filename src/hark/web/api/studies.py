"""Studies, their items, and the record of what was labelled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi.responses import StreamingResponse

from hark.feedback import events, items, reviews, rosters, studies
from hark.feedback.records import Candidate
from hark.feedback.store import Store
from hark.feedback.studies import MANAGERS, Member, Study, StudySettings
from hark.web.api.descriptions import KNOWN, EventId, Id, refusals
from hark.web.api.item_uploads import ITEMS_BODY, Uploaded
from hark.web.api.seen import Managed, Seen
from hark.web.bodies import (
    AttacksBody,
    AttacksRequest,
    CandidatesBody,
    CandidatesRequest,
    ItemBody,
    ItemIds,
    StateRequest,
    StudyForLabeler,
    StudyForManager,
    StudyLine,
)
from hark.web.identity import Anyone, Caller, Manager, Place

router = APIRouter(tags=["studies"], dependencies=KNOWN)
EVENTS_AT_ONCE = 500
LINES = "application/x-ndjson"


@router.get("/studies", responses=refusals(401, 403))
def list_studies(store: Place, caller: Anyone) -> list[StudyLine]:
    """The studies that the caller takes part in; for managers, all."""
    return [
        StudyLine(
            name=study.settings.name,
            title=study.settings.title,
            task=study.settings.task,
            state=study.state,
            member=member and member.state,
        )
        for study, member in rosters.list_studies(store, caller.person.id)
    ]


@router.post("/studies", status_code=201, responses=refusals(400, 401, 403, 409))
def create_study(store: Place, caller: Manager, settings: StudySettings) -> StudyForManager:
    """Make a draft of a study."""
    study = studies.create_study(store, settings, by=caller.person.id)
    return for_manager(store, caller, study)


@router.get("/studies/{name}", responses=refusals(401, 403, 404))
def show_study(store: Place, caller: Anyone, study: Seen) -> StudyForManager | StudyForLabeler:
    """A study: what a labeler may know of it, or, for managers, everything."""
    if caller.person.role in MANAGERS:
        return for_manager(store, caller, study)
    return StudyForLabeler(**_for_labeler(store, caller, study))


@router.patch("/studies/{name}", responses=refusals(400, 401, 403, 404, 409))
def change_study(
    store: Place,
    caller: Manager,
    study: Managed,
    changes: Annotated[dict[str, Any], Body(description="Settings of a study, any of them")],
) -> StudyForManager:
    """Change the settings that are given, for what is labelled from now on."""
    changed = studies.change_study(store, study.id, changes, by=caller.person.id)
    return for_manager(store, caller, changed)


@router.put("/studies/{name}/state", responses=refusals(400, 401, 403, 404, 409))
def set_state(store: Place, caller: Manager, study: Managed, wish: StateRequest) -> StudyForManager:
    """Open, pause or close a study."""
    changed = studies.set_state(store, study.id, wish.state, by=caller.person.id)
    return for_manager(store, caller, changed)


@router.post(
    "/studies/{name}/items",
    status_code=201,
    responses=refusals(401, 403, 404, 409, 415),
    openapi_extra={"requestBody": ITEMS_BODY},
)
def add_items(store: Place, caller: Manager, study: Managed, new: Uploaded) -> ItemIds:
    """Add items, all or none: a JSON array, or one item a line."""
    return ItemIds(ids=items.add_items(store, study.id, new, by=caller.person.id))


@router.post("/studies/{name}/attacks", responses=refusals(400, 401, 403, 404, 409))
def add_attacks(
    store: Place, caller: Manager, study: Managed, given: AttacksRequest
) -> AttacksBody:
    """Add the finished attacks of a red-team study to a review study: those that are new, and that
    their attackers agree to have reviewed."""
    source = studies.find_study(store, given.source)
    counts = reviews.add_attacks(store, study.id, source.id, by=caller.person.id)
    return AttacksBody(**asdict(counts))


@router.get("/studies/{name}/items", responses=refusals(401, 403, 404))
def list_items(
    store: Place,
    _caller: Manager,
    study: Managed,
    waiting: Annotated[bool, Query(description="Only those that wait for responses")] = False,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="A position")] = -1,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[ItemBody]:
    """Items in their order."""
    found = items.list_items(store, study.id, waiting=waiting, after=after, limit=limit)
    return [
        ItemBody(
            id=one.id,
            position=one.position,
            use=one.use,
            task=one.task,
            votable=one.votable,
            slots=one.slots,
            taken=one.taken,
        )
        for one in found
    ]


@router.put("/items/{item_id}/candidates", responses=refusals(400, 401, 403, 404, 409))
def put_candidates(
    store: Place, _caller: Manager, item_id: Id, given: CandidatesRequest
) -> CandidatesBody:
    """Keep freshly drawn responses of an item that waits for them."""
    kept: list[Candidate] = items.put_candidates(store, item_id, given.candidates)
    return CandidatesBody(candidates=kept)


@router.get(
    "/studies/{name}/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {LINES: {"schema": {"type": "string"}}}},
        **refusals(401, 403, 404),
    },
)
def stream_events(
    store: Place,
    _caller: Manager,
    study: Managed,
    after: EventId = None,
) -> StreamingResponse:
    """The canonical records of a study in order, one JSON object a line, after an event or all."""
    position = 0
    if after is not None:
        with store.read() as connection:
            position = events.get(connection, after).position
    return StreamingResponse(_lines(store, study.id, position), media_type=LINES)


def _lines(store: Store, study_id: str, position: int) -> Iterator[str]:
    """A page of events at a time, so that a slow reader holds no transaction."""
    while True:
        with store.read() as connection:
            found = events.iterate(
                connection, study_id=study_id, after=position, limit=EVENTS_AT_ONCE
            )
            page = list(found)
        if not page:
            return
        # ASCII: some readers take U+2028 for the end of a line.
        yield "".join(json.dumps(one.to_json()) + "\n" for one in page)
        position = page[-1].position


def for_manager(store: Store, caller: Caller, study: Study) -> StudyForManager:
    """Everything about a study."""
    known = _for_labeler(store, caller, study)
    return StudyForManager(**known, id=study.id, settings=study.settings)


def _for_labeler(store: Store, caller: Caller, study: Study) -> dict[str, Any]:
    with store.read() as connection:
        member: Member | None = studies.find_member(connection, study.id, caller.person.id)
    given = study.settings
    return {
        "name": given.name,
        "title": given.title,
        "task": given.task,
        "state": study.state,
        "member": member and member.state,
        "instructions": given.instructions,
        "categories": given.categories,
        "agreed": sorted(member.categories) if member else [],
        "support": given.support,
        "screened": given.screening is not None,
        "maximum_labels": given.maximum_labels,
    }
