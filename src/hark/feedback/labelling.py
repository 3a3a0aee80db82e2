"""Taking in labels: check, keep, and see what comes next, in one transaction.

`submit` returns once the label is on the disk. A client that has not heard so sends it again with
the same key and gets the same answer, however often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy import Connection, Row, update

from hark.feedback import accounts, events, reviews, studies
from hark.feedback.answers import ANSWERS, read_answer
from hark.feedback.assignment import (
    State,
    check_takes_part,
    end,
    lease_seconds,
    own_row,
    regain,
    step_kinds,
    steps_of,
)
from hark.feedback.chance import Chance, chance_of, display_order
from hark.feedback.dialogues import LiveDialogue, dialogue_of
from hark.feedback.events import Event
from hark.feedback.items import Item, candidates_of, get_item, warnings_of
from hark.feedback.naming import names_model
from hark.feedback.records import Candidate, FreeText, Name, Record
from hark.feedback.refusals import ConflictError, InvalidLabelError, NotAllowedError
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.feedback.tables import assignments
from hark.feedback.tasks import FINAL_LABELS, TASK

GRACE_SECONDS: Final = 5.0
"""After a time limit, for what the browser sends by itself when time runs out: the answer as it
stands then, whole or not (2211.03540, section 3: on expiry the selected choice is submitted)."""


class Client(Record):
    """What the browser says of itself."""

    ms_active: Annotated[int, Field(strict=True, ge=0, le=10**12)] | None = None
    """Milliseconds that the page was in front of the labeler."""
    pasted_characters: Annotated[int, Field(strict=True, ge=0, le=10**12)] | None = None
    ui: Name | None = None
    """The version of the page."""
    notes: FreeText = ""
    """A remark of the labeler about the item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A label is on the disk."""

    event: Event
    state: State
    """Of the assignment, now."""
    next_steps: frozenset[str]
    """The kinds that may follow; empty when the item is done."""
    may_finish: bool
    """Whether the labeler may stop here though more steps could follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a labeler may see of an assignment: no model's name, no gold, nobody else's label."""

    assignment_id: str
    state: State
    expires_at: float
    task: dict[str, Any]
    candidates: tuple[dict[str, str], ...]
    """Ids and texts, in the order to be shown."""
    messages: tuple[dict[str, str], ...]
    """Of a live dialogue, so far."""
    waits_for_models: bool
    next_steps: frozenset[str]
    may_finish: bool
    deadline: float | None
    """When the time for the opened step is over."""
    categories: dict[str, str]
    """Category → its warning; an item that has any is not shown before the labeler asks for it."""
    answered: tuple[dict[str, Any], ...]
    """The labeler's own steps so far: `kind` and `answer` of each."""


def submit(
    store: Store,
    assignment_id: str,
    person_id: str,
    kind: str,
    answer: dict[str, Any],
    *,
    client_key: str,
    client: Client | None = None,
) -> Receipt:
    """Keep a step of an assignment: a label, a message, a reset.

    Raises: NotFoundError for somebody else's assignment; InvalidLabelError for an answer that does
    not hold what its kind must; ConflictError if the step is not due, or the key was used before.
    """
    chance = chance_of(store)
    with store.write() as connection:
        now = store.clock()
        row = own_row(connection, assignment_id, person_id)
        study = studies.lock_study(connection, row.study_id)
        row = own_row(connection, assignment_id, person_id)
        item = get_item(connection, row.item_id)
        author = accounts.require(connection, person_id, accounts.ROLES).pseudonym
        request = {"kind": kind, "answer": answer}
        steps = steps_of(connection, assignment_id)
        if any(one.client_key == client_key for one in steps):
            body: dict[str, Any] = {}  # A retry: `append` gives back what it compares.
        else:
            check_takes_part(connection, study.id, person_id)
            if row.state == "expired":
                row = regain(connection, study, row, now)
            body = _body(connection, chance, study, item, row, steps, kind, answer, now)
            # Whoever had the item before may have worked on it then: no clock tells how long.
            body["claimed_at"] = row.leased_at if row.lease == 1 else None
            body["client"] = (client or Client()).model_dump(mode="json", exclude_defaults=True)
        new = events.NewEvent(
            kind=kind if kind in ANSWERS else "message",
            author=author,
            client_key=client_key,
            study_id=study.id,
            item_id=item.id,
            assignment_id=assignment_id,
            body=body,
            request=request,
        )
        kept = events.append(connection, new, now=now)
        if not kept.repeated:
            steps.append(kept)
            row = _advance(connection, study, item, row, steps, now)
        return _receipt(item, row, steps, kept)


def _body(
    connection: Connection,
    chance: Chance,
    study: Study,
    item: Item,
    row: Row[Any],
    steps: Sequence[Event],
    kind: str,
    answer: dict[str, Any],
    now: float,
) -> dict[str, Any]:
    """The event's body: what was shown and what was answered, complete in itself."""
    done = [one.kind for one in steps]
    _check_due(item, row, done, kind)
    live = dialogue_of(connection, item, row.id, steps) if item.task.live else None
    if live is not None:
        _check_turn(live, kind)
        shown = list(live.candidates) if kind == "comparison" else []
    else:
        shown, _ = candidates_of(connection, item.id)
    time = _time(item, row, done, now)
    if time != "runs" and kind != "qa_answer":
        raise ConflictError("the time for this question is over: answer it")
    read = read_answer(kind, answer, item.task, shown, time_is_over=time != "runs")
    kept = read.to_json()
    body: dict[str, Any] = {
        "round": study.settings.round,
        "use": item.use,
        "gold": item.use == "gold",
        "late": row.state == "late",
        "context": _context(item, live, done),
        "candidates": [one.to_json() for one in shown],
        "display_order": display_order(chance, row, 0 if live is None else live.turn, len(shown)),
        "answer": kept,
    }
    if any(names_model(one) for one in shown):
        body["names_model"] = True
    if time == "is over":
        body["at_deadline"] = True
    if time == "is long over":
        body |= {"timed_out": True, "after_deadline": kept}
        body["answer"] = {"choice": None, "confidence": None}
    return body


def _check_due(item: Item, row: Row[Any], done: Sequence[str], kind: str) -> None:
    if kind not in ANSWERS:
        raise InvalidLabelError(f"unknown kind of label '{kind}'")
    if row.state == "skipped":
        raise ConflictError("this item was skipped")
    due = item.task.next_steps(done)
    if not due or row.state == "done":
        raise ConflictError("this item is done; to change an answer, correct it")
    if kind not in due:
        raise ConflictError(f"'{kind}' is not due; next comes: {', '.join(sorted(due))}")


def _check_turn(live: LiveDialogue, kind: str) -> None:
    if kind in ("message", "comparison", "reset"):
        answering = live.waits_for_models
        if answering and kind != "comparison":
            raise ConflictError("the model has not answered yet: wait for it")
        if answering:
            raise ConflictError(
                "a response is missing, cut off or failed, so that nothing can be said of them: "
                "all are drawn again"
            )


def _context(item: Item, live: LiveDialogue | None, done: Sequence[str]) -> dict[str, Any]:
    context: dict[str, Any] = {"task": item.task.to_json()}
    if live is not None:
        context["messages"] = [one.to_json() for one in live.messages]
        context["context_from"] = live.context_from
        context["turn"] = live.turn
    phase = getattr(item.task, "phase", None)
    if phase is not None:
        context["phase"] = phase(done)
    return context


def _time(
    item: Item, row: Row[Any], done: Sequence[str], now: float
) -> Literal["runs", "is over", "is long over"]:
    """Of the opened step, by the server's clock; it always runs where there is no limit."""
    seconds = item.task.seconds_for(done)
    if seconds is None:
        return "runs"
    if row.step_started_at is None:
        raise ConflictError("this question has a time limit: open it before answering")
    late = now - row.step_started_at - seconds
    if late < 0:
        return "runs"
    return "is over" if late <= GRACE_SECONDS else "is long over"


def _advance(
    connection: Connection,
    study: Study,
    item: Item,
    row: Row[Any],
    steps: list[Event],
    now: float,
) -> Row[Any]:
    """After a step: the lease begins anew, or the assignment ends."""
    ours = assignments.c.id == row.id
    if not item.task.next_steps(step_kinds(steps)):
        end(connection, row, "late" if row.state == "late" else "done", now)
    else:
        values: dict[str, Any] = {"expires_at": now + lease_seconds(study)}
        if steps[-1].kind not in ("message", "reset"):
            values["step_started_at"] = None
        connection.execute(update(assignments).where(ours).values(values))
    return own_row(connection, row.id, row.person_id)


def _receipt(item: Item, row: Row[Any], steps: list[Event], kept: Event) -> Receipt:
    done = step_kinds(steps)
    over = row.state == "done"
    return Receipt(
        event=kept,
        state=row.state,
        next_steps=frozenset() if over else item.task.next_steps(done),
        may_finish=not over and item.task.may_finish(done),
    )


def finish(store: Store, assignment_id: str, person_id: str, *, client_key: str) -> Receipt:
    """End a dialogue that could go on. Raises: ConflictError if it may not end here."""
    with store.write() as connection:
        now = store.clock()
        row = own_row(connection, assignment_id, person_id)
        study = studies.lock_study(connection, row.study_id)
        row = own_row(connection, assignment_id, person_id)
        item = get_item(connection, row.item_id)
        steps = steps_of(connection, assignment_id)
        if not any(one.client_key == client_key for one in steps):
            check_takes_part(connection, study.id, person_id)
            if row.state == "expired":
                row = regain(connection, study, row, now)
            if row.state == "done" or not item.task.may_finish(step_kinds(steps)):
                raise ConflictError("this item cannot end here")
        new = events.NewEvent(
            kind="finish",
            author=accounts.get_person(connection, person_id).pseudonym,
            client_key=client_key,
            study_id=study.id,
            item_id=item.id,
            assignment_id=assignment_id,
        )
        kept = events.append(connection, new, now=now)
        if not kept.repeated:
            end(connection, row, "late" if row.state == "late" else "done", now)
        return Receipt(
            event=kept,
            state=own_row(connection, assignment_id, person_id).state,
            next_steps=frozenset(),
            may_finish=False,
        )


def correct(
    store: Store,
    event_id: str,
    person_id: str,
    answer: dict[str, Any] | None,
    *,
    client_key: str,
) -> Event:
    """Supersede one's own label by another answer, or retract it (None). Nothing is lost.

    Raises: NotAllowedError for somebody else's, or who was turned away; ConflictError if it was
    superseded already, or the labeler has learnt since what they were not to know.
    """
    with store.write() as connection:
        now = store.clock()
        author = accounts.require(connection, person_id, accounts.ROLES).pseudonym
        old = events.get(connection, event_id)
        if old.study_id is not None:
            studies.lock_study(connection, old.study_id)  # events of a study come in its order
        if old.author != author:
            raise NotAllowedError("you can only correct labels of your own")
        if old.kind not in events.LABELS:
            raise ConflictError(f"a {old.kind} cannot be corrected")
        if old.kind in FINAL_LABELS:
            raise ConflictError("what you said there stands: you have seen more since")
        body: dict[str, Any] = {"answer": None}
        if answer is not None:
            task = TASK.validate_python(old.body["context"]["task"])
            shown = [Candidate.model_validate(one) for one in old.body["candidates"]]
            body = {**old.body, "answer": read_answer(old.kind, answer, task, shown).to_json()}
        kept = events.append(
            connection,
            events.NewEvent(
                kind=old.kind if answer is not None else "retraction",
                author=author,
                client_key=client_key,
                study_id=old.study_id,
                item_id=old.item_id,
                assignment_id=old.assignment_id,
                supersedes=event_id,
                body=body,
                request={"answer": answer},
            ),
            now=now,
        )
        if not kept.repeated:
            if old.study_id is not None:
                check_takes_part(connection, old.study_id, person_id)
            if old.kind == "redteam" and old.assignment_id is not None:
                reviews.set_consent(
                    connection, old.assignment_id, bool((answer or {}).get("may_be_reviewed"))
                )
        return kept


def view(store: Store, assignment_id: str, person_id: str) -> View:
    """What the page of an assignment shows. Raises: NotFoundError for somebody else's."""
    chance = chance_of(store)
    with store.read() as connection:
        row = own_row(connection, assignment_id, person_id)
        item = get_item(connection, row.item_id)
        steps = steps_of(connection, assignment_id)
        done = step_kinds(steps)
        live = dialogue_of(connection, item, assignment_id, steps) if item.task.live else None
        shown = _shown_candidates(connection, item, live)
        study = studies.get_study(connection, row.study_id)
        categories = warnings_of(connection, study, [item.id])[item.id]
    order = display_order(chance, row, 0 if live is None else live.turn, len(shown))
    seconds = item.task.seconds_for(done)
    started = row.step_started_at
    active = row.state in ("open", "expired", "late")
    return View(
        assignment_id=assignment_id,
        state=row.state,
        expires_at=row.expires_at,
        task=_shown_task(item, row, done) if active else item.task.shown(done),
        candidates=tuple(shown[place].shown() for place in order),
        messages=() if live is None else tuple(one.to_json() for one in live.messages),
        waits_for_models=live is not None and live.waits_for_models,
        next_steps=item.task.next_steps(done) if active else frozenset(),
        may_finish=active and item.task.may_finish(done),
        deadline=None if seconds is None or started is None else started + seconds,
        categories=categories,
        answered=tuple({"kind": one.kind, "answer": one.body.get("answer")} for one in steps),
    )


def _shown_task(item: Item, row: Row[Any], done: Sequence[str]) -> dict[str, Any]:
    """What of the task may be seen now: nothing to read before the clock of a time limit runs."""
    shown = item.task.shown(done)
    if item.task.seconds_for(done) is None or row.step_started_at is not None:
        return shown
    return {name: shown[name] for name in ("kind", "phases", "seconds")}


def _shown_candidates(
    connection: Connection, item: Item, live: LiveDialogue | None
) -> list[Candidate]:
    """The responses to be judged now; broken ones are not shown, nor those judged already."""
    if live is None:
        return candidates_of(connection, item.id)[0]
    judging = item.task.candidate_counts[1] > 0
    undecided = bool(live.messages) and live.messages[-1].role == "user"
    if not judging or not undecided or live.waits_for_models:
        return []
    return list(live.candidates)
