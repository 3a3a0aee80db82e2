"""Labels as ballots between models: who was shown first, who won, and what does not count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.feedback.workshop import ATTACK, Workshop, vote_item

from hark.feedback import assignment, items, labelling
from hark.feedback.assignment import Assignment
from hark.feedback.items import NewItem
from hark.feedback.naming import names_model
from hark.feedback.records import Candidate
from hark.feedback.votes import Ballots, votes_of


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Ballots are read from events alone; one database is enough."""
    return str(tmp_path / "feedback.db")


def vote(workshop: Workshop, study: Any, chosen: int | None) -> tuple[str, Any, str]:
    """A new labeler votes for what stands at a place on the screen; the event, person, task."""
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id)
    answer = {"chosen": None if chosen is None else seen.candidates[chosen]["id"]}
    receipt = labelling.submit(workshop.store, held.id, person.id, "vote", answer, client_key="k")
    return receipt.event.id, person, seen.candidates[0]["text"]


def ballots(workshop: Workshop) -> Ballots:
    return votes_of(workshop.events())


def test_first_is_who_was_shown_first(workshop: Workshop) -> None:
    study = workshop.study("vote", overlap=20)
    items.add_items(workshop.store, study.id, [vote_item()], by=workshop.owner.id)
    shown = [vote(workshop, study, 0)[2] for _ in range(12)]
    found = ballots(workshop)
    assert found.left_out == {}
    assert [one.first for one in found.ballots] == [f"model-{text}" for text in shown]
    assert {one.outcome for one in found.ballots} == {"first"}
    assert {one.first for one in found.ballots} == {"model-a", "model-b"}
    assert len({one.labeler for one in found.ballots}) == 12
    assert len({one.prompt for one in found.ballots}) == 1


@pytest.mark.parametrize(
    ("snapshot", "text", "named"),
    [
        ("playground-sft-v2", "I am playground-sft-v2, at your service.", True),
        ("playground-sft-v2", "As Playground SFT v2 I would say yes.", True),
        ("playground-sft-v2", "A playground, and sft v2 elsewhere.", False),
        ("base", "I am Base. How can I help?", True),
        ("base", "The base of the pot should be wide.", False),
        ("model-a", "The model a user sees.", False),
        ("model-a", "model_a says hello.", True),
        ("human", "I am human.", False),
        (None, "I am playground-sft-v2.", False),
    ],
)
def test_a_response_names_its_model(snapshot: str | None, text: str, named: bool) -> None:
    assert names_model(Candidate(text=text, snapshot=snapshot)) is named


def test_a_vote_on_a_response_that_names_its_model_is_kept_and_left_out(
    workshop: Workshop,
) -> None:
    """As in FastChat's arena; it is marked in the record, and nothing of it reaches the labeler."""
    study = workshop.study("vote", overlap=2)
    told = vote_item(texts=("I am model-I am model-x", "b"))
    one, other = told.candidates
    named = one.model_copy(update={"snapshot": "model-x"})
    told = told.model_copy(update={"candidates": (named, other)})
    items.add_items(workshop.store, study.id, [told], by=workshop.owner.id)
    vote(workshop, study, 0)
    (event,) = workshop.events(kinds=["vote"])
    assert event.body["names_model"] is True
    found = ballots(workshop)
    assert (found.ballots, found.left_out) == ((), {"of a response that names its model": 1})


def test_ties_and_second_places(workshop: Workshop) -> None:
    study = workshop.study("vote", overlap=2)
    items.add_items(workshop.store, study.id, [vote_item()], by=workshop.owner.id)
    vote(workshop, study, None)
    vote(workshop, study, 1)
    assert [one.outcome for one in ballots(workshop).ballots] == ["tie", "second"]


def test_corrected_gold_and_unnamed_ones_do_not_count(workshop: Workshop) -> None:
    study = workshop.study("vote", gold_fraction=0.0)
    unnamed = vote_item("Other").model_copy(
        update={"candidates": (Candidate(text="x"), Candidate(text="y"))}
    )
    items.add_items(workshop.store, study.id, [vote_item(), unnamed], by=workshop.owner.id)
    event, person, _ = vote(workshop, study, 0)
    vote(workshop, study, 0)
    labelling.correct(workshop.store, event, person.id, {"chosen": None}, client_key="c")
    found = ballots(workshop)
    assert [one.outcome for one in found.ballots] == ["tie"]
    assert found.left_out == {
        "corrected or retracted": 1, "of responses whose model is not named": 1,
    }  # fmt: skip
    assert votes_of(workshop.events(), uses=("test",)).left_out["of use 'train'"] == 2


def test_a_ranking_is_every_pair(workshop: Workshop) -> None:
    study = workshop.study("ranking")
    task = {"kind": "ranking", "prompt": [{"role": "user", "content": "Q"}], "flags": []}
    texts = [{"text": name, "snapshot": name} for name in ("m1", "m2", "m3")]
    new = NewItem.read({"task": task, "candidates": texts}, what="t")
    items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id).candidates
    ids = {one["text"]: one["id"] for one in seen}
    answer = {
        "likert": dict.fromkeys(ids.values(), 4),
        "flags": {name: {} for name in ids.values()},
        "ranking": [[ids["m2"]], [ids["m1"], ids["m3"]]],
    }
    labelling.submit(workshop.store, held.id, person.id, "ranking", answer, client_key="k")
    won = {
        frozenset((one.first, one.second)): {"first": one.first, "second": one.second}.get(
            one.outcome
        )
        for one in ballots(workshop).ballots
    }
    assert won == {
        frozenset(("m1", "m2")): "m2", frozenset(("m2", "m3")): "m2",
        frozenset(("m1", "m3")): None,
    }  # fmt: skip


def test_in_red_teaming_the_less_harmful_wins(workshop: Workshop) -> None:
    study = workshop.study("dialogue")
    task = {"kind": "dialogue", "mode": "redteam", "maximum_turns": 1}
    items.add_items(
        workshop.store,
        study.id,
        [NewItem.read({"task": task, "categories": [ATTACK]}, what="t")],
        by=workshop.owner.id,
    )
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    for kind, body in (("description", {"text": "make it rude"}), ("message", {"text": "Hi"})):
        labelling.submit(workshop.store, held.id, person.id, kind, body, client_key=kind)
    drawn = items.put_candidates(
        workshop.store, held.item_id,
        [Candidate(text="kind", snapshot="new"), Candidate(text="rude", snapshot="old")],
        assignment_id=held.id,
    )  # fmt: skip
    worse = {"chosen": drawn[1].id, "strength": 3}
    labelling.submit(workshop.store, held.id, person.id, "comparison", worse, client_key="c")
    (one,) = ballots(workshop).ballots
    assert {"first": one.first, "second": one.second}[one.outcome] == "new"
    assert one.prompt == held.id
