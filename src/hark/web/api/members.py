"""Who takes part in a study: its members, their screening, and what they agree to see."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from hark.feedback import qualification, rosters, studies
from hark.feedback.events import Event
from hark.feedback.refusals import NotAllowedError
from hark.feedback.rosters import Listed
from hark.feedback.studies import MANAGERS
from hark.web.api.descriptions import KNOWN, Id, Key, refusals
from hark.web.api.seen import Managed, Seen
from hark.web.bodies import (
    DecisionBody,
    GradeRequest,
    KeptBody,
    MemberBody,
    MemberChanges,
    MembershipBody,
)
from hark.web.identity import Anyone, Manager, Place, Staff

router = APIRouter(tags=["members"], dependencies=KNOWN)
Category = Annotated[str, Path(max_length=64)]


@router.get("/studies/{name}/members", responses=refusals(401, 403, 404))
def list_members(store: Place, _caller: Manager, study: Managed) -> list[MemberBody]:
    """Everyone who takes part in a study."""
    return [_member_body(one) for one in rosters.list_members(store, study.id)]


@router.patch("/studies/{name}/members/{person_id}", responses=refusals(400, 401, 403, 404))
def change_member(
    store: Place, caller: Manager, study: Managed, person_id: Id, changes: MemberChanges
) -> MemberBody:
    """Admit, pause, turn away or hold out a labeler; their labels stay."""
    rosters.find_listed(store, study.id, person_id)
    by = caller.person.id
    if changes.state is not None:
        studies.set_member_state(store, study.id, person_id, changes.state, by=by)
    if changes.held_out is not None:
        studies.set_held_out(store, study.id, person_id, changes.held_out, by=by)
    return _member_body(rosters.find_listed(store, study.id, person_id))


@router.put("/studies/{name}/members/{person_id}/decision", responses=refusals(401, 403, 404))
def decide(store: Place, caller: Anyone, study: Seen, person_id: Id) -> DecisionBody:
    """Decide a screening test by its cut-offs: managers anybody's, labelers their own."""
    if person_id != caller.person.id and caller.person.role not in MANAGERS:
        raise NotAllowedError("you can have only your own screening test decided")
    rosters.find_listed(store, study.id, person_id)
    return DecisionBody(decision=qualification.decide(store, study.id, person_id))


@router.post(
    "/studies/{name}/screening/assessment",
    status_code=201,
    responses=refusals(400, 401, 403, 404, 409),
)
def assess_self(
    store: Place, caller: Anyone, study: Seen, given: GradeRequest, key: Key
) -> KeptBody:
    """Say how able one is to recognise sensitive speech, 1 to 7."""
    kept = qualification.assess_self(store, study.id, caller.person.id, given.grade, client_key=key)
    return kept_body(kept)


@router.post(
    "/events/{event_id}/grade", status_code=201, responses=refusals(400, 401, 403, 404, 409)
)
def grade(store: Place, caller: Staff, event_id: Id, given: GradeRequest, key: Key) -> KeptBody:
    """Grade a demonstration, 1 to 7."""
    kept = qualification.grade_demonstration(
        store, event_id, given.grade, by=caller.person.id, client_key=key
    )
    return kept_body(kept)


@router.put("/studies/{name}/consents/{category}", responses=refusals(401, 403, 404, 409))
def opt_in(
    store: Place, caller: Anyone, study: Seen, category: Category, key: Key
) -> MembershipBody:
    """Agree to see items of a category, having read its warning."""
    member = studies.opt_in(store, study.id, caller.person.id, category, client_key=key)
    return MembershipBody(state=member.state, categories=sorted(member.categories))


@router.delete("/studies/{name}/consents/{category}", responses=refusals(401, 403, 404, 409))
def opt_out(
    store: Place, caller: Anyone, study: Seen, category: Category, key: Key
) -> MembershipBody:
    """See no more items of a category."""
    member = studies.opt_out(store, study.id, caller.person.id, category, client_key=key)
    return MembershipBody(state=member.state, categories=sorted(member.categories))


def kept_body(kept: Event) -> KeptBody:
    """That an event is on the disk."""
    return KeptBody(event_id=kept.id, repeated=kept.repeated)


def _member_body(listed: Listed) -> MemberBody:
    return MemberBody(
        person_id=listed.person.id,
        pseudonym=listed.person.pseudonym,
        role=listed.person.role,
        state=listed.member.state,
        held_out=listed.member.held_out,
        categories=sorted(listed.member.categories),
        joined_at=listed.joined_at,
    )
