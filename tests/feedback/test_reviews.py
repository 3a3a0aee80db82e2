"""Attacks of one study as items of another, for a second opinion."""

from __future__ import annotations

from typing import Any

import pytest
from tests.feedback.workshop import ATTACK, Clock, Workshop

from hark.feedback import assignment, items, labelling, reviews, studies
from hark.feedback.accounts import Person
from hark.feedback.assignment import Assignment
from hark.feedback.identifiers import new_id
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.refusals import ConflictError, NotAllowedError
from hark.feedback.studies import Study

WARNING = {ATTACK: "Attacks on a model."}


class Range:
    """A red-team study with two labelers, and a study in which attacks are reviewed."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop, self.store = workshop, workshop.store
        self.attacks = workshop.study("dialogue", name="attacks")
        task = {"kind": "dialogue", "mode": "redteam", "maximum_turns": 3}
        new = [NewItem.read({"task": task, "categories": [ATTACK]}, what="t") for _ in range(8)]
        items.add_items(self.store, self.attacks.id, new, by=workshop.owner.id)
        self.review = workshop.study("review", name="reviews", categories=WARNING)
        self.ada, self.bob = workshop.labeler(self.attacks), workshop.labeler(self.attacks)
        for person in (self.ada, self.bob):
            studies.join(self.store, self.review.id, person.id)
            studies.opt_in(self.store, self.review.id, person.id, ATTACK, client_key=new_id())

    def attack(self, person: Person, *, agrees: bool | None = True, rated: bool = True) -> str:
        """Two turns, in which the labeler takes the second reply; the id of the rating or ''."""
        held = assignment.claim(self.store, self.attacks.id, person.id)
        assert isinstance(held, Assignment)

        def send(kind: str, answer: dict[str, Any]) -> labelling.Receipt:
            return labelling.submit(
                self.store, held.id, person.id, kind, answer, client_key=new_id()
            )

        send("description", {"text": f"{person.login} tries"})
        for turn in range(2):
            send("message", {"text": f"Ask {turn}"})
            drawn = [Candidate(text=f"{word} {turn}", snapshot="m") for word in ("No", "Yes")]
            kept = items.put_candidates(
                self.store, held.item_id, drawn, assignment_id=held.id, turn=turn
            )
            send("comparison", {"chosen": kept[1].id, "strength": 3})
        if not rated:
            return ""
        answer: dict[str, Any] = {"success": 3}
        if agrees is not None:
            answer["may_be_reviewed"] = agrees
        return send("redteam", answer).event.id

    def add(self) -> tuple[int, int, int, int]:
        found = reviews.add_attacks(
            self.store, self.review.id, self.attacks.id, by=self.workshop.owner.id
        )
        return found.added, found.there, found.without_consent, found.withdrawn

    def given(self, person: Person) -> list[dict[str, Any]]:
        """The tasks of every review that a person can get, each of them answered."""
        shown = []
        while True:
            held = assignment.claim(self.store, self.review.id, person.id)
            if not isinstance(held, Assignment):
                return shown
            view = labelling.view(self.store, held.id, person.id)
            assert view.categories == WARNING, "it stays hidden until one asks to see it"
            shown.append(view.task)
            answer = {"success": 2, "tags": []}
            labelling.submit(self.store, held.id, person.id, "review", answer, client_key=new_id())


@pytest.fixture
def place_of_attacks(workshop: Workshop) -> Range:
    return Range(workshop)


def test_only_what_is_finished_and_agreed_to_is_added_and_only_once(
    place_of_attacks: Range,
) -> None:
    here = place_of_attacks
    here.attack(here.ada)
    here.attack(here.bob, agrees=False)
    here.attack(here.bob, agrees=None)
    here.attack(here.bob, rated=False)
    assert here.add() == (1, 0, 2, 0)
    assert here.add() == (0, 1, 2, 0)
    here.attack(here.ada)
    assert here.add() == (1, 1, 2, 0)


def test_a_review_shows_the_dialogue_as_it_went_and_no_rating_nor_model(
    place_of_attacks: Range,
) -> None:
    here = place_of_attacks
    here.attack(here.ada)
    here.add()
    (task,) = here.given(here.bob)
    assert [(one["role"], one["content"]) for one in task["transcript"]] == [
        ("user", "Ask 0"),
        ("assistant", "Yes 0"),
        ("user", "Ask 1"),
        ("assistant", "Yes 1"),
    ]
    assert (task["description"], task["rating"]) == (f"{here.ada.login} tries", None)


def test_nobody_reviews_their_own_attack(place_of_attacks: Range) -> None:
    here = place_of_attacks
    for person in (here.ada, here.ada, here.bob):
        here.attack(person)
    assert here.add() == (3, 0, 0, 0)
    assert {one["description"] for one in here.given(here.ada)} == {f"{here.bob.login} tries"}
    assert [one["description"] for one in here.given(here.bob)] == [f"{here.ada.login} tries"] * 2


def test_who_takes_consent_back_is_reviewed_no_more(place_of_attacks: Range) -> None:
    here = place_of_attacks
    rating = here.attack(here.ada)
    here.add()
    no = {"success": 3, "may_be_reviewed": False}
    changed = labelling.correct(here.store, rating, here.ada.id, no, client_key="no")
    assert here.given(here.bob) == []
    assert here.add() == (0, 1, 0, 1)
    assert here.given(here.bob) == []
    yes = {"success": 3, "may_be_reviewed": True}
    labelling.correct(here.store, changed.id, here.ada.id, yes, client_key="yes")
    assert here.add() == (0, 1, 0, 0)
    assert len(here.given(here.bob)) == 1


@pytest.mark.parametrize("answer", [{"success": 3, "may_be_reviewed": False}, None])
@pytest.mark.parametrize("added_again", [False, True])
def test_a_withdrawn_attack_goes_to_nobody_as_a_lease_runs_out(
    place_of_attacks: Range, clock: Clock, answer: dict[str, Any] | None, added_again: bool
) -> None:
    here = place_of_attacks
    rating = here.attack(here.ada)
    here.add()
    held = assignment.claim(here.store, here.review.id, here.bob.id)
    assert isinstance(held, Assignment)
    labelling.correct(here.store, rating, here.ada.id, answer, client_key="no")
    if added_again:
        assert here.add() == (0, 1, 0, 1)
    with pytest.raises(ConflictError, match="not yours any more"):
        assignment.heartbeat(here.store, held.id, here.bob.id)
    clock.now += 3600
    cid = here.workshop.labeler()
    studies.join(here.store, here.review.id, cid.id)
    studies.opt_in(here.store, here.review.id, cid.id, ATTACK, client_key=new_id())
    assert here.given(cid) == here.given(here.bob) == []
    # What the reviewer had written is kept, beyond what counts.
    sent = labelling.submit(
        here.store, held.id, here.bob.id, "review", {"success": 2, "tags": []}, client_key="r"
    )
    assert sent.state == "late"
    assert here.given(cid) == []


def test_reviews_of_a_withdrawn_attack_stay_and_consent_opens_it_again(
    place_of_attacks: Range,
) -> None:
    here = place_of_attacks
    rating = here.attack(here.ada)
    here.review = here.workshop.study("review", name="two", categories=WARNING, overlap=2)
    cid = here.workshop.labeler()
    for person in (here.bob, cid):
        studies.join(here.store, here.review.id, person.id)
        studies.opt_in(here.store, here.review.id, person.id, ATTACK, client_key=new_id())
    here.add()
    assert len(here.given(here.bob)) == 1
    no, yes = ({"success": 3, "may_be_reviewed": agrees} for agrees in (False, True))
    changed = labelling.correct(here.store, rating, here.ada.id, no, client_key="no")
    assert here.given(cid) == []
    assert len(here.workshop.events(study_id=here.review.id, kinds=["review"])) == 1
    labelling.correct(here.store, changed.id, here.ada.id, yes, client_key="yes")
    assert len(here.given(cid)) == 1


def test_a_correction_of_a_choice_does_not_change_what_was_said(place_of_attacks: Range) -> None:
    here = place_of_attacks
    here.attack(here.ada)
    first = here.workshop.events(study_id=here.attacks.id, kinds=["comparison"])[0]
    other = {"chosen": first.body["candidates"][0]["id"], "strength": 1}
    labelling.correct(here.store, first.id, here.ada.id, other, client_key="other")
    here.add()
    (task,) = here.given(here.bob)
    assert [one["content"] for one in task["transcript"]][1] == "Yes 0"


def test_the_studies_must_fit(workshop: Workshop, place_of_attacks: Range) -> None:
    here, owner = place_of_attacks, workshop.owner.id
    here.attack(here.ada)
    with pytest.raises(ConflictError, match="attacks go from a study of kind 'dialogue'"):
        reviews.add_attacks(here.store, here.attacks.id, here.review.id, by=owner)
    bare: Study = workshop.study("review", name="bare")
    with pytest.raises(ConflictError, match="has no warning for category 'attack'"):
        reviews.add_attacks(here.store, bare.id, here.attacks.id, by=owner)
    with pytest.raises(NotAllowedError):
        reviews.add_attacks(here.store, here.review.id, here.attacks.id, by=here.ada.id)
