"""Every row of candidates can be used alone: the whole prompt, of live turns too."""

from __future__ import annotations

from typing import Any

from tests.feedback.workshop import Workshop

from hark.feedback import assignment, items, labelling
from hark.feedback.assignment import Assignment
from hark.feedback.candidate_rows import candidate_rows
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.studies import Study
from hark.web.live.turns import find_waiting_turn


def rows(workshop: Workshop, study: Study) -> list[dict[str, Any]]:
    with workshop.store.read() as connection:
        return list(candidate_rows(connection, study.id))


def add(workshop: Workshop, study: Study, task: dict[str, Any], *texts: str) -> None:
    candidates = [{"text": text, "snapshot": f"model-{text}"} for text in texts]
    new = NewItem.read({"task": task, "candidates": candidates}, what="a test")
    items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)


def turn(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def test_a_vote_has_its_prompt_and_a_summary_its_post(workshop: Workshop) -> None:
    votes = workshop.study("vote")
    workshop.votes(votes, 2)
    found = rows(workshop, votes)
    assert [(one["prompt"], one["text"]) for one in found] == [
        ([turn(f"Question {number}")], text) for number in range(2) for text in "ab"
    ]
    assert [one["snapshot"] for one in found] == ["model-a", "model-b"] * 2
    assert found[0]["item"] == found[1]["item"] != found[2]["item"]
    summaries = workshop.study("summary")
    task = {"kind": "summary", "post": "P", "title": "T", "community": "r/dogs", "axes": []}
    add(workshop, summaries, task, "one", "two")
    (said,) = rows(workshop, summaries)[0]["prompt"]
    assert all(part in said["content"] for part in ("dogs", "T", "P"))


def test_a_live_turn_has_all_that_was_said_before_it(workshop: Workshop) -> None:
    study = workshop.study("dialogue")
    add(workshop, study, {"kind": "dialogue", "mode": "helpful", "maximum_turns": 3})
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)

    def step(kind: str, body: dict[str, Any], key: str) -> None:
        labelling.submit(workshop.store, held.id, person.id, kind, body, client_key=key)

    for number, (words, replies) in enumerate([("Hello", ("hi", "no")), ("Why?", ("so", "eh"))]):
        step("message", {"text": words}, f"m{number}")
        drawn = items.put_candidates(
            workshop.store, held.item_id, [Candidate(text=one) for one in replies],
            assignment_id=held.id, turn=number,
        )  # fmt: skip
        step("comparison", {"chosen": drawn[0].id, "strength": 2}, f"c{number}")
    first, _, third, fourth = rows(workshop, study)
    assert (first["turn"], first["prompt"], first["text"]) == (0, [turn("Hello")], "hi")
    later = [turn("Hello"), turn("hi", "assistant"), turn("Why?")]
    assert [(one["prompt"], one["text"]) for one in (third, fourth)] == [
        (later, "so"), (later, "eh"),
    ]  # fmt: skip
    assert (third["assignment"], third["turn"]) == (held.id, 1)


def test_what_an_assistant_answered_is_no_part_of_its_own_prompt(workshop: Workshop) -> None:
    study = workshop.study("question")
    task = {
        "kind": "question", "question": "Q", "options": ["x", "y"], "answer": 1,
        "phases": ["alone", "assisted"],
    }  # fmt: skip
    add(workshop, study, task)
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    for kind, body in (
        ("qa_answer", {"choice": 0, "confidence": 60}),
        ("message", {"text": "Is it x?"}),
    ):
        labelling.submit(workshop.store, held.id, person.id, kind, body, client_key=kind)
    items.put_candidates(
        workshop.store, held.item_id, [Candidate(text="No.")], assignment_id=held.id
    )
    (only,) = rows(workshop, study)
    assert (only["prompt"], only["text"]) == ([turn("Is it x?")], "No.")
    labelling.submit(
        workshop.store, held.id, person.id, "message", {"text": "Then y?"}, client_key="again"
    )
    items.put_candidates(
        workshop.store, held.item_id, [Candidate(text="Yes.")], assignment_id=held.id, turn=1
    )
    assert rows(workshop, study)[1]["prompt"] == [
        turn("Is it x?"), turn("No.", "assistant"), turn("Then y?"),
    ]  # fmt: skip


def test_an_assistant_was_given_the_passage_and_again_after_a_reset(workshop: Workshop) -> None:
    study = workshop.study("question", snapshots=["model"])
    task = {
        "kind": "question", "passage": "The boat hung.", "question": "Q", "options": ["x", "y"],
        "answer": 1, "phases": ["assisted"],
    }  # fmt: skip
    add(workshop, study, task)
    person = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    for number, words in enumerate(("Is it x?", "Then y?")):
        labelling.submit(
            workshop.store, held.id, person.id, "message", {"text": words}, client_key=words
        )
        read = find_waiting_turn(workshop.store, held.id, person.id).wanted[0].messages
        items.put_candidates(
            workshop.store, held.item_id, [Candidate(text="No.")], assignment_id=held.id,
            turn=number,
        )  # fmt: skip
        found = rows(workshop, study)[number]
        assert found["prompt"][found["context_from"] :] == [one.to_json() for one in read]
        if not number:
            labelling.submit(workshop.store, held.id, person.id, "reset", {}, client_key="r")
    assert found["prompt"] == [
        turn("Is it x?"), turn("No.", "assistant"), turn("The boat hung.\n\nThen y?"),
    ]  # fmt: skip
    assert rows(workshop, study)[0]["prompt"] == [turn("The boat hung.\n\nIs it x?")]
