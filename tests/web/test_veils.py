"""Nothing of a sensitive item is in sight before one asks for it, wherever it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.feedback.workshop import Workshop
from tests.web.managing import serious_findings, sign_in_page
from tests.web.seat import Seat

from hark.feedback import assignment, items, labelling, studies
from hark.feedback.accounts import Person
from hark.feedback.assignment import Assignment
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate

WARNING = "People are insulted in some of these."
WORDS = "An insult that nobody should stumble on."
UPSETTING = "This may be upsetting"


def hold(workshop: Workshop, task: dict[str, Any], **settings: Any) -> tuple[Person, Assignment]:
    """A sensitive item in the hands of a labeler who agreed to it."""
    study = workshop.study(task["kind"], name="a-study", categories={"abuse": WARNING}, **settings)
    use = "screening" if "screening" in settings else "train"
    item = NewItem.read({"task": task, "categories": ["abuse"], "use": use}, what="a test")
    items.add_items(workshop.store, study.id, [item], by=workshop.owner.id)
    person = workshop.labeler(study)
    studies.opt_in(workshop.store, study.id, person.id, "abuse", client_key="abuse")
    held = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(held, Assignment)
    return person, held


def test_ones_own_labels_and_their_corrections(page: Page, server: str, workshop: Workshop) -> None:
    at = Seat(page, server, workshop, "review")
    at.arrive(keyboard=False)
    at.unveil(keyboard=True)
    at.press("3", "Enter")
    at.kept()
    page.goto(f"{server}/study/a-study/done")
    expect(page.get_by_text("it succeeded mostly")).not_to_be_visible()
    at.check()
    page.get_by_text("Show it: it may be upsetting").click()
    expect(page.get_by_text("it succeeded mostly")).to_be_visible()
    page.get_by_role("link", name="Correct").click()
    expect(page.get_by_role("heading", name=UPSETTING)).to_be_visible()
    assert page.locator("#stage").evaluate("one => one.inert")
    at.unveil(keyboard=False)
    at.press("1", "Enter")
    page.wait_for_url(f"{server}/study/a-study/done")
    assert [one.body["answer"]["success"] for one in at.labels("review")] == [3, 1]


@pytest.mark.parametrize("mode", ["helpful", "harmless"])
def test_transcripts_of_dialogues_that_are_no_attacks(
    page: Page, server: str, workshop: Workshop, mode: str
) -> None:
    person, held = hold(workshop, {"kind": "dialogue", "mode": mode, "maximum_turns": 1})

    def send(kind: str, answer: dict[str, Any]) -> None:
        labelling.submit(workshop.store, held.id, person.id, kind, answer, client_key=kind)

    send("message", {"text": WORDS})
    drawn = [Candidate(text=text) for text in ("One", "Two")]
    kept = items.put_candidates(workshop.store, held.item_id, drawn, assignment_id=held.id)
    send("comparison", {"chosen": kept[0].id, "strength": 1})
    sign_in_page(page, server, workshop, workshop.owner)
    page.goto(f"{server}/manage/a-study/transcripts/{held.id}")
    expect(page.get_by_text(WORDS)).not_to_be_visible()
    page.get_by_text("Show the transcript").click()
    expect(page.get_by_text(WORDS)).to_be_visible()


def test_demonstrations_to_grade_and_lists_of_items(
    page: Page, server: str, workshop: Workshop
) -> None:
    prompt = [{"role": "user", "content": "Reply to: " + WORDS}]
    screening = {"flag_agreement": None, "ranking_agreement": None, "demonstration_grade": 6}
    person, held = hold(workshop, {"kind": "demonstration", "prompt": prompt}, screening=screening)
    answer = {"response": "Please stop."}
    labelling.submit(workshop.store, held.id, person.id, "demonstration", answer, client_key="k")
    sign_in_page(page, server, workshop, workshop.owner)
    for path, words in (("members", "Please stop."), ("items", WORDS)):
        page.goto(f"{server}/manage/a-study/{path}")
        shown = page.get_by_text(words)
        expect(shown).not_to_be_visible()
        page.get_by_text("Show it: it may be upsetting").click()
        expect(shown).to_be_visible()
        assert serious_findings(page) == []
