"""Studies, items, members, records and snapshots over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.feedback.workshop import Workshop, vote_item

from hark.feedback import sign_in
from hark.feedback.accounts import Person
from hark.feedback.refusals import (
    ConflictError,
    FeedbackError,
    InvalidLabelError,
    NotAllowedError,
    NotFoundError,
)
from hark.web.bodies import StudyForLabeler, StudyForManager
from hark.web.client import FeedbackClient

Connect = Callable[[Person], FeedbackClient]
SETTINGS = {
    "name": "helpful",
    "title": "Which is better?",
    "task": "vote",
    "instructions": "Choose.",
    "gold_fraction": 0.25,
    "categories": {"violence": "Some of these are violent."},
}


def item(number: int, **fields: Any) -> dict[str, Any]:
    return vote_item(f"Question {number}", id=f"q{number}", **fields).to_json()


def test_a_study_is_made_changed_opened_and_closed(workshop: Workshop, connect: Connect) -> None:
    owner = connect(workshop.owner)
    made = owner.create_study(SETTINGS)
    assert (made.state, made.settings.gold_fraction) == ("draft", 0.25)
    changed = owner.change_study("helpful", title="Which one?", maximum_labels=7)
    assert (changed.title, changed.maximum_labels) == ("Which one?", 7)
    assert changed.settings.gold_fraction == 0.25
    assert owner.set_state("helpful", "open").state == "open"
    assert owner.set_state("helpful", "closed").state == "closed"
    with pytest.raises(ConflictError, match="cannot become draft"):
        owner.set_state("helpful", "draft")
    with pytest.raises(ConflictError, match="the overlap of study 'helpful' is fixed"):
        owner.change_study("helpful", overlap=2)
    with pytest.raises(FeedbackError, match="unknown setting 'titel' .did you mean 'title'") as no:
        owner.change_study("helpful", titel="x")
    assert no.value.status == 400
    with pytest.raises(ConflictError, match="there is a study 'helpful' already"):
        owner.create_study(SETTINGS)


def test_a_labeler_sees_of_a_study_what_is_meant_for_them(
    workshop: Workshop, connect: Connect
) -> None:
    owner = connect(workshop.owner)
    study = workshop.study(gold_fraction=0.5, overlap=3, categories={"violence": "Violent."})
    client = connect(workshop.labeler(study))
    seen = client.study(study.settings.name)
    assert type(seen) is StudyForLabeler
    assert seen.model_dump().keys() == {
        "name", "title", "task", "state", "member", "instructions", "categories", "agreed",
        "support", "screened", "maximum_labels",
    }  # fmt: skip
    full = owner.study(study.settings.name)
    assert isinstance(full, StudyForManager)
    assert full.settings.overlap == 3


def test_a_study_of_others_is_as_one_that_is_not_there(
    workshop: Workshop, connect: Connect
) -> None:
    study = workshop.study()
    stranger = connect(workshop.labeler())
    assert stranger.studies() == []
    for name in (study.settings.name, "none"):
        for ask in (stranger.study, stranger.claim):
            with pytest.raises(NotFoundError, match=f"you take part in no study '{name}'"):
                ask(name)


def test_routes_of_managers_refuse_labelers(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    person = workshop.labeler(study)
    labeler, name = connect(person), study.settings.name
    forbidden: list[Callable[[], object]] = [
        lambda: labeler.create_study(SETTINGS),
        lambda: labeler.change_study(name, title="x"),
        lambda: labeler.set_state(name, "closed"),
        lambda: labeler.add_items(name, [item(1)]),
        lambda: list(labeler.items(name)),
        lambda: labeler.put_candidates("i", [{"text": "x"}]),
        lambda: labeler.members(name),
        lambda: labeler.change_member(name, person.id, state="active"),
        lambda: list(labeler.events(name)),
        lambda: labeler.export(name),
        lambda: labeler.exports(name),
        lambda: labeler.export_file(name, "x", "y"),
        lambda: labeler.grade("e", 3),
        labeler.people,
    ]
    for ask in forbidden:
        with pytest.raises(NotAllowedError, match="this is for the owner"):
            ask()


def test_items_come_as_json_or_as_lines(workshop: Workshop, server: str, connect: Connect) -> None:
    owner, study = connect(workshop.owner), workshop.study()
    name = study.settings.name
    ids = owner.add_items(name, [item(1), item(2)])
    token = sign_in.create_api_token(workshop.store, workshop.owner.id, "t")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    lines = "\n".join([json.dumps(item(2)), "", json.dumps(item(3)), ""])
    url = f"{server}/api/v1/studies/{name}/items"
    response = httpx2.post(url, content=lines, headers=headers)
    assert response.status_code == 201
    assert response.json()["ids"][0] == ids[1]
    assert [one.position for one in owner.items(name)] == [0, 1, 2]
    bad = json.dumps(item(4)) + "\n" + json.dumps({**item(5), "use": "tset"})
    response = httpx2.post(url, content=bad, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["message"].startswith("line 2: 'use': Input should be")
    assert len(list(owner.items(name))) == 3
    response = httpx2.post(url, content="x", headers={**headers, "Content-Type": "text/csv"})
    assert response.status_code == 415
    with pytest.raises(InvalidLabelError, match="items .counted from 0.: '1.task"):
        owner.add_items(name, [item(6), {**item(7), "task": {"kind": "vote", "prompt": 3}}])


def test_a_file_of_items_may_be_longer_than_other_requests(
    workshop: Workshop, connect: Connect
) -> None:
    study = workshop.study()
    long = [
        {**item(number), "candidates": [{"text": "x" * 90_000}, {"text": "y"}]}
        for number in range(15)
    ]
    assert len(connect(workshop.owner).add_items(study.settings.name, long)) == 15
    with pytest.raises(FeedbackError, match="up to 1,000,000 bytes") as caught:
        connect(workshop.owner).change_study(study.settings.name, title="x" * 1_000_001)
    assert caught.value.status == 413


def test_an_item_waits_for_its_responses(workshop: Workshop, connect: Connect) -> None:
    owner, study = connect(workshop.owner), workshop.study()
    name = study.settings.name
    owner.add_items(name, [{**item(1), "candidates": []}, item(2)])
    (waiting,) = owner.items(name, waiting=True)
    assert not waiting.votable
    kept = owner.put_candidates(waiting.id, [{"text": "a", "snapshot": "m"}, {"text": "b"}])
    assert [one.text for one in kept] == ["a", "b"]
    assert all(one.id for one in kept)
    assert list(owner.items(name, waiting=True)) == []
    with pytest.raises(ConflictError, match="has readable responses"):
        owner.put_candidates(waiting.id, kept)
    with pytest.raises(NotFoundError):
        owner.put_candidates("0", kept)


def test_items_come_in_pages(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    workshop.votes(study, 205)
    found = list(connect(workshop.owner).items(study.settings.name, after=3))
    assert [one.position for one in found] == list(range(4, 205))


def test_members_are_listed_under_pseudonyms_and_changed(
    workshop: Workshop, connect: Connect
) -> None:
    owner, study = connect(workshop.owner), workshop.study()
    person = workshop.labeler(study)
    name = study.settings.name
    (member,) = owner.members(name)
    assert (member.person_id, member.pseudonym) == (person.id, person.pseudonym)
    assert "login" not in member.model_dump()
    changed = owner.change_member(name, person.id, state="paused", held_out=True)
    assert (changed.state, changed.held_out) == ("paused", True)
    assert connect(person).study(name).member == "paused"
    with pytest.raises(NotFoundError, match="nobody 'x' takes part"):
        owner.change_member(name, "x", held_out=True)


def test_consent_is_given_and_taken_back(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study(categories={"violence": "Violent."})
    name, labeler = study.settings.name, connect(workshop.labeler(study))
    assert labeler.consent(name, "violence", key="k").categories == ["violence"]
    assert labeler.study(name).agreed == ["violence"]
    assert labeler.consent(name, "violence", False).categories == []
    # A retry of the first answer says how it stands and changes nothing.
    assert labeler.consent(name, "violence", key="k").categories == []
    with pytest.raises(NotFoundError, match="has no category 'violense' .did you mean"):
        labeler.consent(name, "violense")
    assert [one.body["agrees"] for one in workshop.events(kinds=["consent"])] == [True, False]


def test_screening_is_assessed_graded_and_decided(workshop: Workshop, connect: Connect) -> None:
    others = ("flag_agreement", "ranking_agreement", "demonstration_grade")
    asked = dict.fromkeys(others) | {"self_assessment": 4}
    study = workshop.study(screening=asked)
    person, other = workshop.labeler(study), workshop.labeler(study)
    name, labeler = study.settings.name, connect(person)
    assert labeler.decide(name, person.id).decision == "undecided"
    assert not labeler.assess_self(name, 5, key="k").repeated
    assert labeler.assess_self(name, 5, key="k").repeated
    with pytest.raises(ConflictError, match="was used for another screening"):
        labeler.assess_self(name, 6, key="k")
    with pytest.raises(NotAllowedError, match="only your own"):
        labeler.decide(name, other.id)
    assert labeler.decide(name, person.id).decision == "passed"
    assert labeler.study(name).member == "active"
    assert connect(workshop.owner).decide(name, other.id).decision == "undecided"
    with pytest.raises(InvalidLabelError, match="grade"):
        labeler.assess_self(name, 8)


def test_a_demonstration_is_graded(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study("demonstration")
    owner, name = connect(workshop.owner), study.settings.name
    owner.add_items(name, [{"task": {"kind": "demonstration", "style": "plain"}}])
    labeler = connect(workshop.labeler(study))
    claimed = labeler.claim(name)
    assert claimed
    label = labeler.step(
        claimed.assignment_id, "demonstration", {"prompt": "Say hello.", "response": "Hello."}
    )
    assert not owner.grade(label.event_id, 6, key="g").repeated
    (kept,) = workshop.events(kinds=["screening"])
    assert kept.body["demonstration_grade"] == 6
    with pytest.raises(ConflictError, match="is no demonstration"):
        owner.grade(kept.id, 6)


def test_events_are_streamed_from_where_one_stopped(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    workshop.votes(study, 3)
    owner, labeler = connect(workshop.owner), connect(workshop.labeler(study))
    name = study.settings.name
    first = list(owner.events(name))
    assert [one["kind"] for one in first] == ["study_changed", "study_changed"]
    label_one(labeler, name, notes="two\u2028lines")
    (label,) = owner.events(name, after=first[-1]["event_id"])
    assert label["client"]["notes"] == "two\u2028lines"
    assert label["answer"]["chosen"] in {one["id"] for one in label["candidates"]}
    assert list(owner.events(name, after=label["event_id"])) == []
    with pytest.raises(NotFoundError, match="there is no event '0'"):
        list(owner.events(name, after="0"))


def test_a_page_of_events_is_not_the_last(
    workshop: Workshop, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hark.web.api.studies.EVENTS_AT_ONCE", 2)
    study = workshop.study()
    workshop.votes(study, 3)
    labeler = connect(workshop.labeler(study))
    for _ in range(3):
        label_one(labeler, study.settings.name)
    kinds = [one["kind"] for one in connect(workshop.owner).events(study.settings.name)]
    assert kinds == ["study_changed"] * 2 + ["vote"] * 3


def test_a_snapshot_is_made_listed_and_fetched(workshop: Workshop, connect: Connect) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    owner, name = connect(workshop.owner), study.settings.name
    assert owner.exports(name) == []
    with pytest.raises(FeedbackError, match="has no label to export"):
        owner.export(name)
    label_one(connect(workshop.labeler(study)), name)
    made = owner.export(name, {"format": "trl"})
    assert owner.export(name, {"format": "trl"}) == made
    assert owner.exports(name) == [made]
    assert made.name == f"{name}-{made.hash}"
    about = json.loads(owner.export_file(name, made.name, "snapshot.json"))
    for file, digest in about["files"].items():
        content = owner.export_file(name, made.name, file)
        assert len(content) == next(one.bytes for one in made.files if one.name == file)
        assert hashlib.sha256(content).hexdigest() == digest
    with pytest.raises(NotFoundError, match="has no file"):
        owner.export_file(name, made.name, "nothing.jsonl")


def label_one(labeler: FeedbackClient, name: str, **client: Any) -> None:
    claimed = labeler.claim(name)
    assert claimed
    chosen = labeler.view(claimed.assignment_id).candidates[0].id
    labeler.step(claimed.assignment_id, "vote", {"chosen": chosen}, client=client)
