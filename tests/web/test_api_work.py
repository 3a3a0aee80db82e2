"""Labelling over HTTP: from a claim to a receipt, and what a labeler never sees."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.feedback.workshop import Workshop, vote_item

from hark.feedback import assignment, items
from hark.feedback.accounts import Person
from hark.feedback.answers import ANSWERS
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.refusals import ConflictError, InvalidLabelError, NotAllowedError
from hark.feedback.store import Store, StoreError
from hark.web.bodies import StepRequest
from hark.web.client import FeedbackClient

Connect = Callable[[Person], FeedbackClient]


def claimed(client: FeedbackClient, name: str) -> str:
    held = client.claim(name)
    assert held is not None
    return held.assignment_id


def test_every_kind_of_step_can_be_sent() -> None:
    kinds = StepRequest.model_json_schema()["properties"]["kind"]["enum"]
    assert set(kinds) == set(ANSWERS)


def test_a_label_from_claim_to_receipt(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    labeler, name = connect(workshop.labeler(study)), study.settings.name
    assignment = claimed(labeler, name)
    assert claimed(labeler, name) == assignment
    view = labeler.view(assignment)
    assert (view.state, view.next_steps, view.may_finish) == ("open", ["vote"], False)
    assert view.now < view.expires_at == labeler.claim(name).expires_at  # type: ignore[union-attr]
    assert {one.text for one in view.candidates} == {"a", "b"}
    answer = {"chosen": view.candidates[0].id}
    client = {"ms_active": 1200, "ui": "test"}
    receipt = labeler.step(assignment, "vote", answer, client=client, key="k")
    assert (receipt.state, receipt.next_steps, receipt.repeated) == ("done", [], False)
    again = labeler.step(assignment, "vote", answer, key="k")
    assert again == receipt.model_copy(update={"repeated": True})
    with pytest.raises(ConflictError, match="the idempotency key 'k' was used for another vote"):
        labeler.step(assignment, "vote", {"chosen": None}, key="k")
    (event,) = workshop.events(kinds=["vote"])
    assert (event.id, event.body["client"]) == (receipt.event_id, client)
    assert labeler.claim_or_reason(name) == "nothing left"
    assert labeler.claim(name) is None


def test_a_view_has_no_model_no_gold_and_nobody_else(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study(gold_fraction=1.0, overlap=2)
    new = vote_item(use="gold", gold={"chosen": "1"})
    items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)
    first, second = workshop.labeler(study), workshop.labeler(study)
    name = study.settings.name
    one, two = connect(first), connect(second)
    theirs = claimed(one, name)
    one.step(theirs, "vote", {"chosen": None}, client={"notes": "a private remark"})
    sent = two.view(claimed(two, name)).model_dump_json()
    for secret in ("model-", "gold", "private", first.pseudonym, workshop.owner.pseudonym):
        assert secret not in sent, secret
    assert set(json.loads(sent)) == {
        "assignment_id", "state", "expires_at", "task", "categories", "candidates", "messages",
        "answered", "next_steps", "waits_for_models", "may_finish", "deadline", "now",
    }  # fmt: skip


def test_a_step_that_does_not_fit_is_refused_with_a_sentence(
    workshop: Workshop, connect: Connect
) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    labeler = connect(workshop.labeler(study))
    assignment = claimed(labeler, study.settings.name)
    with pytest.raises(InvalidLabelError, match="'chosen' is required"):
        labeler.step(assignment, "vote", {})
    with pytest.raises(InvalidLabelError, match="response 'x' is none of those shown"):
        labeler.step(assignment, "vote", {"chosen": "x"})
    with pytest.raises(ConflictError, match="'notes' is not due; next comes: vote"):
        labeler.step(assignment, "notes", {"notes": {}})
    assert workshop.events(kinds=["vote"]) == []


def test_an_item_is_kept_alive_given_back_and_claimed_again(
    workshop: Workshop, connect: Connect
) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    labeler, name = connect(workshop.labeler(study)), study.settings.name
    assignment = claimed(labeler, name)
    before = labeler.view(assignment).expires_at
    assert labeler.heartbeat(assignment).expires_at > before
    labeler.release(assignment)
    labeler.release(assignment)
    with pytest.raises(ConflictError, match="not yours any more: it is expired"):
        labeler.heartbeat(assignment)
    assert claimed(labeler, name) == assignment


def test_a_skipped_item_does_not_come_back(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    labeler, name = connect(workshop.labeler(study)), study.settings.name
    assignment = claimed(labeler, name)
    assert not labeler.skip(assignment, "too upsetting", key="s").repeated
    assert labeler.skip(assignment, "too upsetting", key="s").repeated
    assert labeler.claim_or_reason(name) == "nothing left"
    assert labeler.view(assignment).next_steps == []


def test_a_time_limit_is_held_by_the_server(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study("question")
    task = {"kind": "question", "question": "2 + 2?", "options": ["3", "4"], "answer": 1}
    alone = {**task, "phases": ["alone"], "seconds": 60}
    new = NewItem.read({"task": alone}, what="a test")
    items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)
    labeler = connect(workshop.labeler(study))
    assignment = claimed(labeler, study.settings.name)
    assert labeler.view(assignment).deadline is None
    opened = labeler.open(assignment)
    assert opened.deadline is not None
    assert 59 < opened.deadline - opened.now <= 60
    assert labeler.view(assignment).deadline == opened.deadline
    assert "answer" not in labeler.view(assignment).task
    labeler.step(assignment, "qa_answer", {"choice": 1, "confidence": 80})
    assert labeler.view(assignment).task["answer"] == 1


def test_a_dialogue_goes_on_and_may_end(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study("dialogue")
    task = {"kind": "dialogue", "mode": "helpful"}
    new = NewItem.read({"task": task}, what="a test")
    (item_id,) = items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)
    labeler = connect(workshop.labeler(study))
    assignment = claimed(labeler, study.settings.name)
    said = labeler.step(assignment, "message", {"text": "Hello"})
    assert (said.next_steps, said.may_finish) == (["comparison"], False)
    assert labeler.view(assignment).waits_for_models
    with pytest.raises(ConflictError, match="cannot end here"):
        labeler.finish(assignment)
    drawn = [Candidate(text="Hi"), Candidate(text="Hello to you")]
    items.put_candidates(workshop.store, item_id, drawn, assignment_id=assignment)
    chosen = labeler.view(assignment).candidates[0]
    compared = labeler.step(assignment, "comparison", {"chosen": chosen.id, "strength": 3})
    assert (compared.next_steps, compared.may_finish) == (["message"], True)
    assert [one.content for one in labeler.view(assignment).messages] == ["Hello", chosen.text]
    over = labeler.finish(assignment, key="f")
    assert (over.state, over.next_steps, over.may_finish) == ("done", [], False)
    assert labeler.finish(assignment, key="f").repeated


def test_own_labels_are_listed_and_corrected(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study(overlap=2)
    workshop.votes(study, 22)
    one, two = connect(workshop.labeler(study)), connect(workshop.labeler(study))
    name = study.settings.name
    for _ in range(22):
        assignment = claimed(one, name)
        one.step(assignment, "vote", {"chosen": one.view(assignment).candidates[0].id})
    labels = list(one.my_labels(name))
    assert len({label.event_id for label in labels}) == 22
    assert [label.ts for label in labels] == sorted((label.ts for label in labels), reverse=True)
    assert list(two.my_labels(name)) == []
    old = labels[7]
    assert old.answer["chosen"] == old.candidates[0].id  # the order is the one shown
    assert "model-" not in old.model_dump_json()
    other = {"chosen": old.candidates[1].id}
    new = one.correct(old.event_id, other, key="c")
    assert one.correct(old.event_id, other, key="c").event_id == new.event_id
    with pytest.raises(ConflictError, match="has been superseded by"):
        one.correct(old.event_id, {"chosen": None})
    with pytest.raises(NotAllowedError, match="labels of your own"):
        two.correct(new.event_id, None)
    one.correct(labels[3].event_id, None)
    now = list(one.my_labels(name))
    assert len(now) == 21
    assert now[0].event_id == new.event_id
    assert now[0].answer == {"chosen": old.candidates[1].id, "both_bad": False}


def test_a_paused_study_gives_nothing_out(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    labeler, name = connect(workshop.labeler(study)), study.settings.name
    connect(workshop.owner).set_state(name, "paused")
    with pytest.raises(ConflictError, match="study 'A study' is paused"):
        labeler.claim(name)


def test_a_database_that_is_busy_is_asked_again(
    workshop: Workshop, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    labeler, claim = connect(workshop.labeler(study)), assignment.claim
    answers = [StoreError("the database is locked"), None]

    def flaky(store: Store, study_id: str, person_id: str) -> object:
        if (busy := answers.pop(0)) is not None:
            raise busy
        return claim(store, study_id, person_id)

    monkeypatch.setattr(assignment, "claim", flaky)
    assert labeler.claim(study.settings.name)
    assert answers == []
