"""Admitting labelers by their screening test: what is asked of them, and what is decided.

The measures and cut-offs are in `screening`; each grade, assessment and decision is an event.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection

from hark.feedback import accounts, events, screening, studies
from hark.feedback.events import Event
from hark.feedback.identifiers import new_id
from hark.feedback.judgements import DEMONSTRATES
from hark.feedback.records import Record
from hark.feedback.refusals import ConflictError
from hark.feedback.store import Store


class Grade(Record):
    """On the scale of demonstrations and self-assessments."""

    grade: Annotated[int, Field(strict=True, ge=1, le=7)]


def grade_demonstration(
    store: Store, event_id: str, grade: int, *, by: str, client_key: str
) -> Event:
    """A researcher's or reviewer's grade, 1 to 7, of a demonstration.

    Raises: NotAllowedError; ConflictError if the event is no demonstration.
    """
    given = Grade.read({"grade": grade}, what="this grade").grade
    with store.write() as connection:
        person = accounts.require(connection, by, (*studies.MANAGERS, "reviewer"))
        graded = events.get(connection, event_id)
        if graded.kind not in DEMONSTRATES or graded.study_id is None:
            raise ConflictError(f"event '{event_id}' is no demonstration: it is a {graded.kind}")
        studies.lock_study(connection, graded.study_id)
        body = {"labeler": graded.author, "event": event_id, "demonstration_grade": given}
        return _append(connection, store, graded.study_id, person.pseudonym, client_key, body)


def assess_self(
    store: Store, study_id: str, person_id: str, grade: int, *, client_key: str
) -> Event:
    """How able a labeler says they are to recognise sensitive speech, 1 to 7.

    Raises: NotAllowedError if they do not take part.
    """
    given = Grade.read({"grade": grade}, what="this assessment").grade
    with store.write() as connection:
        studies.lock_study(connection, study_id)
        studies.get_member(connection, study_id, person_id)
        pseudonym = accounts.require(connection, person_id, accounts.ROLES).pseudonym
        body = {"labeler": pseudonym, "self_assessment": given}
        return _append(connection, store, study_id, pseudonym, client_key, body)


def decide(store: Store, study_id: str, person_id: str) -> screening.Decision:
    """Admit or turn away a labeler whose screening test can be decided.

    Raises: NotAllowedError if the person does not take part.
    """
    with store.write() as connection:
        study = studies.lock_study(connection, study_id)
        member = studies.get_member(connection, study_id, person_id)
        cut_offs = study.settings.screening
        if cut_offs is None or member.state != "screening":
            return "failed" if member.state == "rejected" else "passed"
        pseudonym = accounts.get_person(connection, person_id).pseudonym
        measures = screening.measure(connection, study_id, person_id, pseudonym)
        decision, because = screening.decide(measures, cut_offs)
        if decision != "undecided":
            state: studies.MemberState = "active" if decision == "passed" else "rejected"
            studies.put_member_state(connection, study_id, person_id, state)
            body = {
                "labeler": pseudonym,
                "decision": decision,
                "because": list(because),
                "measures": measures.to_json(),
            }
            _append(connection, store, study_id, events.SERVER, new_id(), body)
        return decision


def _append(
    connection: Connection,
    store: Store,
    study_id: str,
    author: str,
    client_key: str,
    body: dict[str, Any],
) -> Event:
    new = events.NewEvent(
        kind="screening",
        author=author,
        client_key=client_key,
        study_id=study_id,
        body=body,
        request=body,
    )
    return events.append(connection, new, now=store.clock())
