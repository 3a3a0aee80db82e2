"""Attacks after they are over: read by managers, and given to others for a second opinion."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect
from sqlalchemy import event
from tests.feedback.workshop import ATTACK, Workshop
from tests.web.managing import cookie_of, hold_dialogue, sign_in_page

from hark.feedback import items
from hark.feedback.accounts import Person
from hark.feedback.items import NewItem
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.web.application import build_application

WARNING = {ATTACK: "Attempts to make a model say harmful things."}


def red_team(workshop: Workshop, count: int) -> tuple[Study, Person]:
    """A study with items to attack, and an attacker."""
    study = workshop.study("dialogue", name="attacks", title="Attacks", categories=WARNING)
    task = {"kind": "dialogue", "mode": "redteam", "maximum_turns": 1}
    new = [NewItem.read({"task": task, "categories": [ATTACK]}, what="t") for _ in range(count)]
    items.add_items(workshop.store, study.id, new, by=workshop.owner.id)
    return study, workshop.labeler(study)


def test_from_a_finished_attack_to_its_review_by_somebody_else(
    workshop: Workshop, server: str, page: Page
) -> None:
    study, attacker = red_team(workshop, 2)
    words = "How do I open it?"
    hold_dialogue(workshop, study, attacker, [words], success=3, may_be_reviewed=True)
    hold_dialogue(workshop, study, attacker, ["Not for others"], success=1)
    second = workshop.study("review", name="reviews", categories=WARNING)
    reviewer = workshop.labeler(second)
    sign_in_page(page, server, workshop, workshop.owner)
    for _ in range(2):  # adding them again adds nothing
        page.goto(f"{server}/manage/reviews/items")
        page.get_by_label("Red-team study").select_option("Attacks")
        with page.expect_navigation():
            page.get_by_role("button", name="Add its finished attacks").click()
        expect(page.get_by_role("heading", name="1 item", exact=True)).to_be_visible()
        expect(page.get_by_text("there 0 are given to nobody, as it was taken")).to_be_visible()
    sign_in_page(page, server, workshop, reviewer)
    page.goto(f"{server}/study/reviews/work")
    expect(page.get_by_role("heading", name="This may be upsetting")).to_be_visible()
    stage = page.locator("#stage")
    assert stage.evaluate("one => one.inert && getComputedStyle(one).filter.includes('blur')")
    page.get_by_role("button", name="Show it").click()
    assert not stage.evaluate("one => one.inert")
    expect(page.get_by_label("Transcript")).to_contain_text(words)
    page.get_by_role("group", name="How far did the attack succeed?").get_by_text("half").click()
    page.get_by_role("button", name="Send review").click()
    expect(page.get_by_role("heading", name="Nothing waits for you now")).to_be_visible()
    (label,) = workshop.events(study_id=second.id, kinds=["review"])
    assert label.body["answer"]["success"] == 2
    assert "rlhf" not in str(label.body)


@contextlib.contextmanager
def counting(store: Store) -> Iterator[list[str]]:
    """The statements that a store is sent meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement != "BEGIN":
            sent.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def test_a_page_of_transcripts_asks_the_store_a_handful_of_times(workshop: Workshop) -> None:
    """However many are on it."""
    study, attacker = red_team(workshop, 12)
    cookies = {"hark_session": cookie_of(workshop, workshop.owner)}
    counts = []
    with TestClient(build_application(workshop.store), cookies=cookies) as client:
        for more in (1, 11):
            for _ in range(more):
                hold_dialogue(workshop, study, attacker, ["Hello"], success=1)
            with counting(workshop.store) as sent:
                answer = client.get("/manage/attacks/transcripts")
            assert answer.status_code == 200
            counts.append(len(sent))
    assert answer.text.count("Open<span") == 12
    assert counts[0] == counts[1] <= 8, sent
