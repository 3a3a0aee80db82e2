"""What a labeler is told of their own work, and what the page of an item may know."""

from __future__ import annotations

import pytest
from tests.feedback.workshop import Clock, Workshop, vote_item

from hark.feedback import assignment, history, items, labelling, sign_in, studies
from hark.feedback.assignment import Assignment, Nothing
from hark.feedback.desk import desk_of, desks_of
from hark.feedback.items import NewItem
from hark.feedback.refusals import NotFoundError
from hark.feedback.studies import Study


def claimed(workshop: Workshop, study: Study, person_id: str) -> Assignment:
    held = assignment.claim(workshop.store, study.id, person_id)
    assert isinstance(held, Assignment), held
    return held


def vote(workshop: Workshop, held: Assignment, person_id: str) -> labelling.Receipt:
    return labelling.submit(
        workshop.store, held.id, person_id, "vote", {"chosen": None}, client_key=held.id
    )


def test_a_desk_counts_what_waits_and_what_is_done(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study()
    workshop.votes(study, 4)
    workshop.votes(study, 3, use="gold", gold={"chosen": "0"})
    person, other = workshop.labeler(study), workshop.labeler(study)
    vote(workshop, claimed(workshop, study, person.id), person.id)
    claimed(workshop, study, other.id)  # the overlap is one: gone for the first
    held = claimed(workshop, study, person.id)
    assignment.skip(workshop.store, held.id, person.id, "dull", client_key="skip")
    desk = desk_of(workshop.store, study.id, person.id)
    assert (desk.waiting, desk.done, desk.done_today, desk.skipped) == (1, 1, 1, 1)
    assert desk.may_work
    assert not desk.holds_one
    clock.now += 2 * 86400
    assert desk_of(workshop.store, study.id, person.id).done_today == 0


def test_studies_with_work_come_first(workshop: Workshop) -> None:
    empty, full = workshop.study(), workshop.study("vote", name="full")
    workshop.votes(full, 1)
    person = workshop.labeler(empty)
    studies.join(workshop.store, full.id, person.id)
    desks = desks_of(workshop.store, person.id)
    assert [desk.study.settings.name for desk in desks] == ["full", "vote-study"]
    assert [desk.may_work for desk in desks] == [True, False]


def test_items_with_known_answers_count_against_no_quota(workshop: Workshop) -> None:
    study = workshop.study(maximum_labels=2, gold_fraction=1.0)
    workshop.votes(study, 1, use="gold", gold={"chosen": "0"})
    workshop.votes(study, 2)
    person = workshop.labeler(study)
    for _ in range(2):
        vote(workshop, claimed(workshop, study, person.id), person.id)
    desk = desk_of(workshop.store, study.id, person.id)
    assert (desk.done, desk.of_quota, desk.waiting) == (2, 1, 1)


def test_nothing_waits_beyond_the_quota(workshop: Workshop) -> None:
    study = workshop.study(maximum_labels=1)
    workshop.votes(study, 3)
    person = workshop.labeler(study)
    assert desk_of(workshop.store, study.id, person.id).waiting == 3
    vote(workshop, claimed(workshop, study, person.id), person.id)
    assert desk_of(workshop.store, study.id, person.id).waiting == 0


def test_a_day_can_hold_enough_of_what_is_sensitive(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study(categories={"abuse": "Insults."}, maximum_sensitive_per_day=1)
    new = [vote_item(prompt=f"Question {n}", categories=["abuse"]) for n in range(2)]
    items.add_items(workshop.store, study.id, new, by=workshop.owner.id)
    person, without = workshop.labeler(study), workshop.labeler(study)
    studies.opt_in(workshop.store, study.id, person.id, "abuse", client_key="yes")
    held = claimed(workshop, study, person.id)
    view = labelling.view(workshop.store, held.id, person.id)
    assert view.categories == {"abuse": "Insults."}
    vote(workshop, held, person.id)
    because = assignment.claim(workshop.store, study.id, person.id)
    assert because == Nothing(because="enough sensitive items today")
    assert assignment.claim(workshop.store, study.id, without.id) == Nothing(because="nothing left")
    clock.now += 86401
    vote(workshop, claimed(workshop, study, person.id), person.id)
    clock.now += 86401
    because = assignment.claim(workshop.store, study.id, person.id)
    assert because == Nothing(because="nothing left")


def test_an_item_goes_back_when_its_category_is_switched_off(workshop: Workshop) -> None:
    """What a labeler holds is no exception; agreeing again brings it again."""
    store, study = workshop.store, workshop.study(categories={"abuse": "Insults."})
    (sensitive,) = items.add_items(
        store, study.id, [vote_item(categories=["abuse"])], by=workshop.owner.id
    )
    (harmless,) = workshop.votes(study, 1)
    person = workshop.labeler(study)
    studies.opt_in(store, study.id, person.id, "abuse", client_key="yes")
    assert claimed(workshop, study, person.id).item_id == sensitive
    studies.opt_out(store, study.id, person.id, "abuse", client_key="no")
    assert claimed(workshop, study, person.id).item_id == harmless
    other = workshop.labeler(study)
    studies.opt_in(store, study.id, other.id, "abuse", client_key="yes")
    assert claimed(workshop, study, other.id).item_id == sensitive


def test_a_view_has_ones_own_steps_and_nothing_timed_before_its_clock(
    workshop: Workshop,
) -> None:
    study = workshop.study("question")
    task = {
        "kind": "question", "question": "SECRET?", "options": ["x", "y"], "answer": 1,
        "passage": "SECRET", "seconds": 60, "phases": ["alone", "assisted"],
    }  # fmt: skip
    new = NewItem.read({"task": task}, what="a test")
    items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)
    person = workshop.labeler(study)
    held = claimed(workshop, study, person.id)
    view = labelling.view(workshop.store, held.id, person.id)
    assert view.task == {"kind": "question", "phases": ["alone", "assisted"], "seconds": 60}
    assignment.open_step(workshop.store, held.id, person.id)
    assert labelling.view(workshop.store, held.id, person.id).task["passage"] == "SECRET"
    given = {"choice": 0, "confidence": 25}
    labelling.submit(workshop.store, held.id, person.id, "qa_answer", given, client_key="1")
    view = labelling.view(workshop.store, held.id, person.id)
    assert view.answered == ({"kind": "qa_answer", "answer": given},)
    assert "question" not in view.task


def test_one_label_of_ones_own(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    person, other = workshop.labeler(study), workshop.labeler(study)
    event = vote(workshop, claimed(workshop, study, person.id), person.id).event
    assert history.own_label(workshop.store, event.id, person.id).answer["chosen"] is None
    with pytest.raises(NotFoundError):
        history.own_label(workshop.store, event.id, other.id)
    labelling.correct(workshop.store, event.id, person.id, None, client_key="back")
    with pytest.raises(NotFoundError, match="taken back"):
        history.own_label(workshop.store, event.id, person.id)


def test_tokens_are_listed_without_their_secrets(workshop: Workshop, clock: Clock) -> None:
    person = workshop.labeler()
    secret = sign_in.create_api_token(workshop.store, person.id, "notebook")
    listed = sign_in.list_api_tokens(workshop.store, person.id)
    ends = clock.now + 90 * 86400
    assert listed == [sign_in.ApiToken(label="notebook", created_at=clock.now, expires_at=ends)]
    assert secret not in repr(listed)
    assert sign_in.list_api_tokens(workshop.store, workshop.owner.id) == []
