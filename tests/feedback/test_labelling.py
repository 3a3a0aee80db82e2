"""From a claim to the last label, for the tasks that have more than one step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.feedback.workshop import ATTACK, Clock, Workshop, vote_item

from hark.errors import DataError
from hark.feedback import accounts, assignment, item_files, items, labelling, studies
from hark.feedback.assignment import Assignment
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.refusals import ConflictError, InvalidLabelError, NotAllowedError
from hark.feedback.studies import Study
from hark.settings import SettingsError


class Desk:
    """A labeler at work on one item."""

    def __init__(
        self, workshop: Workshop, task: dict[str, Any], *, name: str = "desk", **fields: Any
    ) -> None:
        self.workshop, self.store = workshop, workshop.store
        self.study = workshop.study(task["kind"], name=name)
        new = NewItem.read({"task": task, **fields}, what="t")
        (self.item,) = items.add_items(self.store, self.study.id, [new], by=workshop.owner.id)
        self.person = workshop.labeler(self.study)
        held = assignment.claim(self.store, self.study.id, self.person.id)
        assert isinstance(held, Assignment)
        self.held = held
        self.sent = 0

    @property
    def view(self) -> labelling.View:
        return labelling.view(self.store, self.held.id, self.person.id)

    def send(self, kind: str, answer: dict[str, Any] | None = None) -> labelling.Receipt:
        self.sent += 1
        return labelling.submit(
            self.store, self.held.id, self.person.id, kind, answer or {},
            client_key=f"key {self.sent}",
        )  # fmt: skip

    def models_say(self, turn: int, *texts: str, **broken: Any) -> list[Candidate]:
        drawn = [Candidate(text=text, snapshot=f"model {n}") for n, text in enumerate(texts)]
        drawn[-1] = drawn[-1].model_copy(update=broken)
        return items.put_candidates(
            self.store, self.item, drawn, assignment_id=self.held.id, turn=turn
        )


def test_the_hh_loop(workshop: Workshop) -> None:
    """A turn: words, two responses, a choice; the chosen response continues the dialogue."""
    desk = Desk(workshop, {"kind": "dialogue", "maximum_turns": 2})
    assert desk.view.next_steps == {"message"}
    desk.send("message", {"text": "What is a quark?"})
    assert desk.view.waits_for_models
    assert desk.view.candidates == ()
    _, good = desk.models_say(0, "A duck.", "A particle.")
    view = desk.view
    assert not view.waits_for_models
    assert {one["id"]: one["text"] for one in view.candidates}[good.id] == "A particle."
    desk.send("comparison", {"chosen": good.id, "strength": 3})
    assert [one["content"] for one in desk.view.messages] == ["What is a quark?", "A particle."]
    assert desk.view.candidates == ()
    assert desk.view.may_finish
    desk.send("message", {"text": "How many?"})
    first, _ = desk.models_say(1, "Six.", "Seven.")
    receipt = desk.send("comparison", {"chosen": first.id, "strength": 1})
    assert (receipt.state, receipt.next_steps) == ("done", frozenset())
    body = receipt.event.body
    assert [one["content"] for one in body["context"]["messages"]] == [
        "What is a quark?", "A particle.", "How many?",
    ]  # fmt: skip
    assert [one["snapshot"] for one in body["candidates"]] == ["model 0", "model 1"]
    assert sorted(body["display_order"]) == [0, 1]
    assert body["context"]["turn"] == 1


def test_a_dialogue_may_end_early_and_once(workshop: Workshop) -> None:
    desk = Desk(workshop, {"kind": "dialogue"})

    def finish() -> labelling.Receipt:
        return labelling.finish(desk.store, desk.held.id, desk.person.id, client_key="end")

    with pytest.raises(ConflictError, match="cannot end here"):
        finish()
    desk.send("message", {"text": "Hi"})
    one, _ = desk.models_say(0, "a", "b")
    desk.send("comparison", {"chosen": one.id, "strength": 1})
    assert [finish().event.repeated, finish().event.repeated] == [False, True]
    with pytest.raises(ConflictError, match="this item is done"):
        desk.send("message", {"text": "more"})


def test_a_broken_response_makes_a_turn_unvotable_and_both_are_drawn_again(
    workshop: Workshop,
) -> None:
    desk = Desk(workshop, {"kind": "dialogue"})
    desk.send("message", {"text": "Hi"})
    good, _ = desk.models_say(0, "fine", "cut o", finish="length")
    assert desk.view.waits_for_models
    assert desk.view.candidates == ()
    with pytest.raises(ConflictError, match="all are drawn again"):
        desk.send("comparison", {"chosen": good.id, "strength": 1})
    fresh, _ = desk.models_say(0, "fresh", "whole")
    with pytest.raises(InvalidLabelError, match="none of those shown"):
        desk.send("comparison", {"chosen": good.id, "strength": 1})
    with pytest.raises(ConflictError, match="are not replaced"):
        desk.models_say(0, "third", "fourth")
    desk.send("comparison", {"chosen": fresh.id, "strength": 1})


def test_red_teaming_from_plan_to_rating(workshop: Workshop) -> None:
    attack = {"kind": "dialogue", "mode": "redteam"}
    with pytest.raises(ConflictError, match="needs a category, whose warning"):
        Desk(workshop, attack)
    desk = Desk(workshop, attack, name="attacks", categories=[ATTACK])
    with pytest.raises(ConflictError, match="'message' is not due; next comes: description"):
        desk.send("message", {"text": "Hi"})
    desk.send("description", {"text": "Make it rude."})
    desk.send("message", {"text": "Insult me"})
    _, rude = desk.models_say(0, "No.", "You fool.")
    desk.send("comparison", {"chosen": rude.id, "strength": 2})
    receipt = desk.send("redteam", {"success": 4})
    assert receipt.state == "done"
    assert receipt.event.body["context"]["task"]["mode"] == "redteam"
    assert len(receipt.event.body["context"]["messages"]) == 2


def test_the_post_comes_after_the_notes(workshop: Workshop) -> None:
    given = [{"text": "dogs"}, {"text": "cats"}]
    desk = Desk(workshop, {"kind": "summary", "post": "SECRET", "axes": []}, candidates=given)
    assert "SECRET" not in json.dumps([desk.view.task, desk.view.messages])
    first, second = (one["id"] for one in desk.view.candidates)
    answer = {"chosen": first, "strength": 2, "axes": {}}
    with pytest.raises(ConflictError, match="next comes: notes"):
        desk.send("summary", answer)
    notes = desk.send("notes", {"notes": {first: "of dogs", second: "of cats"}})
    with pytest.raises(ConflictError, match="you have seen more since"):
        labelling.correct(desk.store, notes.event.id, desk.person.id, None, client_key="c")
    assert desk.view.task["post"] == "SECRET"
    assert desk.send("summary", answer).state == "done"


def question(**fields: Any) -> dict[str, Any]:
    return {"kind": "question", "question": "q", "options": ["x", "y"], "answer": 1, **fields}


def test_a_question_alone_then_with_a_model(workshop: Workshop) -> None:
    desk = Desk(workshop, question())
    with pytest.raises(ConflictError, match="'message' is not due"):
        desk.send("message", {"text": "Help"})
    desk.send("qa_answer", {"choice": 0, "confidence": 25})
    desk.send("message", {"text": "Is it x?"})
    with pytest.raises(ConflictError, match="has not answered yet"):
        desk.send("message", {"text": "Hello?"})
    desk.models_say(0, "No, y.")
    desk.send("reset")
    desk.send("message", {"text": "Sure?"})
    desk.models_say(1, "Yes.")
    receipt = desk.send("qa_answer", {"choice": 1, "confidence": 100})
    assert receipt.state == "done"
    context = receipt.event.body["context"]
    assert [one["content"] for one in context["messages"]] == [
        "Is it x?",
        "No, y.",
        "Sure?",
        "Yes.",
    ]
    assert (context["phase"], context["context_from"]) == ("assisted", 2)
    assert desk.view.task["answer"] == 1


def test_the_server_holds_the_time_limit(workshop: Workshop, clock: Clock) -> None:
    """300 s from opening, and 5 s for what the browser sends by itself."""
    desk = Desk(workshop, question(seconds=300, phases=["alone"]))
    answer = {"choice": 1, "confidence": 80}
    with pytest.raises(ConflictError, match="open it before answering"):
        desk.send("qa_answer", answer)
    opened = clock.now
    assert assignment.open_step(desk.store, desk.held.id, desk.person.id) == opened + 300
    clock.now += 200
    assert assignment.open_step(desk.store, desk.held.id, desk.person.id) == opened + 300
    assert desk.view.deadline == opened + 300
    clock.now = opened + 304
    assert desk.send("qa_answer", answer).event.body["answer"] == answer


@pytest.mark.parametrize(
    "standing",
    [
        {"choice": 0, "confidence": None},
        {"choice": None, "confidence": 60},
        {"choice": None, "confidence": None},
        {"choice": 1, "confidence": 80},
    ],
)
def test_at_the_deadline_an_answer_is_taken_as_it_stands(
    workshop: Workshop, clock: Clock, standing: dict[str, Any]
) -> None:
    desk = Desk(workshop, question(seconds=60, phases=["alone"]))
    assignment.open_step(desk.store, desk.held.id, desk.person.id)
    clock.now += 59.9
    if None in standing.values():
        with pytest.raises(InvalidLabelError, match="choose an option and one of the confidences"):
            desk.send("qa_answer", standing)
    clock.now += 0.1
    body = desk.send("qa_answer", standing).event.body
    assert (body["answer"], body["at_deadline"], "timed_out" in body) == (standing, True, False)
    assert desk.view.state == "done"


def test_turns_with_the_assistant_have_a_limit_that_the_study_sets(workshop: Workshop) -> None:
    desk = Desk(workshop, question(phases=["assisted"], maximum_turns=2))
    for turn in range(2):
        assert desk.view.next_steps == {"message", "reset", "qa_answer"}
        desk.send("message", {"text": f"Is it {turn}?"})
        desk.models_say(turn, "Perhaps.")
    assert desk.view.next_steps == {"reset", "qa_answer"}
    desk.send("reset")
    with pytest.raises(ConflictError, match="'message' is not due; next comes: qa_answer, reset"):
        desk.send("message", {"text": "And now?"})
    desk.send("qa_answer", {"choice": 1, "confidence": 80})
    assert desk.view.state == "done"


def test_what_comes_after_the_time_limit_is_kept_but_no_answer(
    workshop: Workshop, clock: Clock
) -> None:
    desk = Desk(workshop, question(seconds=60, phases=["alone"]))
    assignment.open_step(desk.store, desk.held.id, desk.person.id)
    clock.now += 66
    receipt = desk.send("qa_answer", {"choice": 1, "confidence": 80})
    assert receipt.event.body["timed_out"]
    assert receipt.event.body["answer"] == {"choice": None, "confidence": None}
    assert receipt.event.body["after_deadline"] == {"choice": 1, "confidence": 80}
    for late in ({"choice": 1, "confidence": 80}, None):
        with pytest.raises(ConflictError, match="you have seen more since"):
            labelling.correct(desk.store, receipt.event.id, desk.person.id, late, client_key="c")


def test_a_late_question_goes_on_to_its_second_phase(workshop: Workshop, clock: Clock) -> None:
    """The lease ran out and another has the place: both answers are kept, as late."""
    desk = Desk(workshop, question(seconds=60, phases=["alone", "assisted"]))
    assignment.open_step(desk.store, desk.held.id, desk.person.id)
    clock.now = desk.held.expires_at + 1
    other = workshop.labeler(desk.study)
    assert isinstance(assignment.claim(desk.store, desk.study.id, other.id), Assignment)
    receipt = desk.send("qa_answer", {"choice": 1, "confidence": 80})
    assert (receipt.state, "qa_answer" in receipt.next_steps) == ("late", True)
    assert assignment.open_step(desk.store, desk.held.id, desk.person.id) == clock.now + 60
    assert desk.view.deadline == clock.now + 60
    receipt = desk.send("qa_answer", {"choice": 0, "confidence": 60})
    assert (receipt.state, receipt.next_steps) == ("late", frozenset())
    assert receipt.event.body["answer"] == {"choice": 0, "confidence": 60}
    assert receipt.event.body["late"]
    assert assignment.open_step(desk.store, desk.held.id, desk.person.id) is None


@pytest.mark.parametrize("gives_back", [True, False])
def test_an_item_that_was_given_back_has_no_fresh_time(
    workshop: Workshop, clock: Clock, gives_back: bool
) -> None:
    """60 s from the first look, whether the labeler gives it back or lets the lease run out."""
    desk = Desk(workshop, question(seconds=60, phases=["alone"]))
    opened = clock.now
    assignment.open_step(desk.store, desk.held.id, desk.person.id)
    if gives_back:
        assignment.release(desk.store, desk.held.id, desk.person.id)
    else:
        clock.now = desk.held.expires_at + 1
    again = assignment.claim(desk.store, desk.study.id, desk.person.id)
    assert isinstance(again, Assignment)
    assert (again.id, again.lease) == (desk.held.id, 2)
    assert assignment.open_step(desk.store, again.id, desk.person.id) == opened + 60
    assert desk.view.deadline == opened + 60
    clock.now = max(clock.now, opened + 66)
    receipt = desk.send("qa_answer", {"choice": 1, "confidence": 80})
    assert receipt.event.body["answer"] == {"choice": None, "confidence": None}


def held_vote(workshop: Workshop) -> tuple[Study, accounts.Person, Assignment, list[str]]:
    study = workshop.study()
    workshop.votes(study, 1)
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id)
    return study, person, held, [one["id"] for one in seen.candidates]


def test_a_label_is_corrected_and_nothing_is_lost(workshop: Workshop) -> None:
    _, person, held, (first, second) = held_vote(workshop)
    store = workshop.store

    def correct(old: str, answer: dict[str, Any] | None, key: str, by: Any = person) -> Any:
        return labelling.correct(store, old, by.id, answer, client_key=key)

    old = labelling.submit(store, held.id, person.id, "vote", {"chosen": first}, client_key="k")
    new = correct(old.event.id, {"chosen": second}, "c")
    assert correct(old.event.id, {"chosen": second}, "c").id == new.id
    assert [one.id for one in workshop.events(kinds=["vote"], current=True)] == [new.id]
    assert new.body["candidates"] == old.event.body["candidates"]
    with pytest.raises(ConflictError, match="correct that one"):
        correct(old.event.id, {"chosen": first}, "c2")
    with pytest.raises(InvalidLabelError, match="none of those shown"):
        correct(new.id, {"chosen": "else"}, "c3")
    with pytest.raises(NotAllowedError, match="labels of your own"):
        correct(new.id, {"chosen": first}, "c4", by=workshop.labeler())
    correct(new.id, None, "c5")
    assert workshop.events(kinds=["vote"], current=True) == []
    assert len(workshop.events(kinds=["vote"])) == 2


def test_what_a_labeler_sees_names_no_model_and_no_gold(workshop: Workshop) -> None:
    study = workshop.study(gold_fraction=1)
    workshop.votes(study, 1, use="gold", gold={"chosen": "1"})
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    seen = labelling.view(workshop.store, held.id, person.id)
    text = repr(seen)
    for secret in ("model-", "gold", "snapshot", "train"):
        assert secret not in text
    chosen = {"chosen": seen.candidates[0]["id"]}
    receipt = labelling.submit(
        workshop.store, held.id, person.id, "vote", chosen, client_key="k",
        client=labelling.Client(ms_active=900, ui="test"),
    )  # fmt: skip
    assert receipt.event.body["gold"] is True
    assert receipt.event.to_json()["client"] == {"key": "k", "ms_active": 900, "ui": "test"}


# Studies and items -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "A Study"}, "'name'"),
        ({"overlap": 0}, "'overlap'"),
        ({"gold_fraction": 1.5}, "'gold_fraction'"),
        ({"task": "chat"}, "'task'"),
        ({"instructions": ""}, "'instructions'"),
        ({"overlapp": 2}, "did you mean 'overlap'"),
    ],
)
def test_study_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    good = {"name": "s", "title": "S", "task": "vote", "instructions": "i"}
    with pytest.raises(SettingsError, match=message):
        studies.StudySettings.parse({**good, **settings})


def test_a_study_changes_in_the_open(workshop: Workshop) -> None:
    study, store, owner = workshop.study(), workshop.store, workshop.owner
    changed = study.settings.model_copy(update={"instructions": "Choose well."})
    studies.change_study(store, study.id, changed, by=owner.id)
    assert studies.find_study(store, "vote-study").settings.instructions == "Choose well."
    history = workshop.events(kinds=["study_changed"])
    assert [one.body["settings"]["instructions"] for one in history] == [
        "Choose.", "Choose.", "Choose well.",
    ]  # fmt: skip
    with pytest.raises(ConflictError, match="overlap of study 'vote-study' is fixed"):
        other = study.settings.model_copy(update={"overlap": 2})
        studies.change_study(store, study.id, other, by=owner.id)
    with pytest.raises(ConflictError, match="open and cannot become draft"):
        studies.set_state(store, study.id, "draft", by=owner.id)
    with pytest.raises(NotAllowedError, match="a labeler may not do this"):
        studies.set_state(store, study.id, "closed", by=workshop.labeler().id)
    with pytest.raises(ConflictError, match="choose another name"):
        workshop.study()
    with pytest.raises(studies.NotFoundError, match="did you mean 'vote-study'"):
        studies.find_study(store, "votes-study")


def test_items_are_added_once_and_all_or_none(workshop: Workshop) -> None:
    study, store = workshop.study(), workshop.store
    same = [vote_item(id="one"), vote_item(id="two")]
    first = items.add_items(store, study.id, same, by=workshop.owner.id)
    again = items.add_items(store, study.id, [*same, vote_item(id="three")], by=workshop.owner.id)
    assert again[:2] == first
    wrong = NewItem.read({"task": {"kind": "demonstration", "style": "plain"}}, what="t")
    with pytest.raises(ConflictError, match="does not belong to study 'vote-study'"):
        items.add_items(store, study.id, [vote_item(id="four"), wrong], by=workshop.owner.id)
    with pytest.raises(ConflictError, match="no warning for category 'gore'"):
        items.add_items(store, study.id, [vote_item(categories=["gore"])], by=workshop.owner.id)
    with store.read() as connection:
        assert [items.get_item(connection, one).position for one in again] == [0, 1, 2]


@pytest.mark.parametrize("use", ["train", "screening", "gold"])
def test_ratings_on_axes_have_no_gold(use: str) -> None:
    item = {
        "task": {"kind": "summary", "post": "P", "asks": "axes"},
        "candidates": [{"text": "one"}], "use": use, "gold": {"chosen": "0"},
    }  # fmt: skip
    with pytest.raises(InvalidLabelError, match="one is rated on 'axes'.*without gold"):
        NewItem.read(item, what="a test")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"candidates": [{"text": "a"}]}, "1 candidates for a task of kind 'vote', which takes 2"),
        ({"use": "gold"}, "needs its known answer"),
        ({"gold": {"chosen": "2"}}, "gold speaks of candidate '2'; there are 2, from 0"),
        ({"gold": {"choice": 1}}, "gold 'choice' does not belong to a task of kind 'vote'"),
        ({"gold": {}}, "says nothing"),
        ({"use": "gold", "gold": {"chosen": "0"}, "overlap": 2}, "leave out overlap"),
        ({"candidates": [{"text": "a"}, {"text": "b", "logprob": float("nan")}]}, "logprob"),
    ],
)
def test_malformed_items_are_refused(tmp_path: Path, item: dict[str, Any], message: str) -> None:
    path = tmp_path / "items.jsonl"
    whole = {
        "task": {"kind": "vote", "prompt": [{"role": "user", "content": "q"}]},
        "candidates": [{"text": "a"}, {"text": "b"}],
    }
    path.write_text(f"{json.dumps(whole)}\n{json.dumps({**whole, **item})}\n")
    with pytest.raises(DataError, match=f"items.jsonl:2: .*{message}"):
        item_files.read_items(path)


def test_items_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(vote_item(id="x").to_json()) + "\n")
    assert item_files.read_items(path) == [vote_item(id="x")]
