"""Nothing is lost and nothing is doubled: slow and dead servers, closed browsers, double clicks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Browser, Page, Route, TimeoutError, expect
from sqlalchemy import select
from tests.feedback.workshop import Workshop
from tests.web.conftest import QUIET, find_chromium, serving
from tests.web.seat import PASSWORD, WIDE, Seat

from hark.feedback import studies
from hark.feedback.tables import assignments
from hark.web.application import build_application

WORDS = "It falls, but it keeps missing us."


@pytest.fixture
def seat(page: Page, server: str, workshop: Workshop) -> Callable[..., Seat]:
    def take(name: str, **more: Any) -> Seat:
        # Requests can be held back from the start: Chromium may let one pass that is made within
        # milliseconds of the first call of `route`.
        page.route("**/nothing", lambda route: route.continue_())
        at = Seat(page, server, workshop, name, **more)
        at.arrive(keyboard=False)
        return at

    return take


def test_a_double_click_makes_one_label(seat: Callable[..., Seat]) -> None:
    at = seat("demonstration", items=2)
    at.page.get_by_label("Response").fill(WORDS)
    at.page.get_by_role("button", name="Send", exact=True).dblclick()
    expect(at.page.locator("#progress")).to_have_text("1 item done")
    expect(at.page.get_by_label("Response")).to_have_value("")
    assert len(at.labels()) == 1


def test_a_request_whose_answer_was_lost_is_sent_again_under_the_same_key(
    seat: Callable[..., Seat],
) -> None:
    at = seat("demonstration")
    sent: list[str] = []

    def lose_the_first_answer(route: Route) -> None:
        sent.append(route.request.headers["idempotency-key"])
        if len(sent) == 1:
            route.fetch()  # it arrives and is kept
            route.abort()
        else:
            route.continue_()

    at.page.route("**/steps", lose_the_first_answer)
    at.page.get_by_label("Response").fill(WORDS)
    at.page.get_by_role("button", name="Send", exact=True).click()
    at.kept()
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert len(at.labels()) == 1


def test_the_server_goes_and_comes_back_while_somebody_types(
    browser: Browser, workshop: Workshop
) -> None:
    page = browser.new_context(viewport=WIDE).new_page()
    with serving(lambda: build_application(workshop.store)) as server:
        at = Seat(page, server, workshop, "demonstration")
        at.arrive(keyboard=False)
        page.get_by_label("Response").fill(WORDS[:10])
    page.keyboard.type(WORDS[10:])
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_text("What you typed is kept here; trying again.")).to_be_visible()
    assert not at.labels()
    with serving(lambda: build_application(workshop.store), int(server.rpartition(":")[2])):
        at.kept()
        assert [one.body["answer"]["response"] for one in at.labels()] == [WORDS]
        page.context.close()


class Victim:
    """A browser with a profile on the disk, in a process of its own that can be killed."""

    def __init__(self, browser: Browser, profile: Path) -> None:
        self.browser, self.profile = browser, profile
        self.process: subprocess.Popen[bytes] | None = None

    def open(self) -> Page:
        port_file = self.profile / "DevToolsActivePort"
        port_file.unlink(missing_ok=True)
        own = ["--headless=new", "--remote-debugging-port=0", f"--user-data-dir={self.profile}"]
        program = find_chromium()
        assert program
        self.process = subprocess.Popen(
            [program, *QUIET, *own], stderr=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith(b"DevTools listening on "):
                address = line.split()[-1].decode()
                break
        for _ in range(3):
            # Seen once: the connection was made, and for 30 seconds nothing was answered.
            with contextlib.suppress(TimeoutError):
                connected = self.browser.browser_type.connect_over_cdp(address, timeout=10_000)
                return connected.contexts[0].new_page()
        raise AssertionError("the browser answers no connection")

    def kill(self) -> None:
        """As the kernel does: no farewell, nothing flushed."""
        assert self.process is not None
        assert self.process.stderr is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()
        for lock in self.profile.glob("Singleton*"):
            lock.unlink()


@pytest.fixture
def victim(browser: Browser, tmp_path: Path) -> Iterator[Victim]:
    made = Victim(browser, tmp_path / "profile")
    yield made
    made.kill()


ON_THE_DISK = """(words) => new Promise((resolve) => {
  const request = indexedDB.open("hark", 1);
  request.onsuccess = () => {
    const all = request.result.transaction("drafts").objectStore("drafts").getAll();
    all.onsuccess = () => resolve(JSON.stringify(all.result).includes(words));
  };
})"""


def test_what_was_typed_is_there_after_the_browser_was_killed(
    victim: Victim, server: str, workshop: Workshop
) -> None:
    page = victim.open()
    at = Seat(page, server, workshop, "demonstration")
    at.arrive(keyboard=False)
    page.get_by_label("Response").click()
    page.keyboard.type(WORDS)
    page.wait_for_function(ON_THE_DISK, arg=WORDS)
    victim.kill()
    page = victim.open()
    page.goto(f"{server}/study/a-study/work")
    if "/login" in page.url:  # the cookie was not on the disk yet
        page.get_by_label("Login").fill("ada@example.org")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{server}/study/a-study/work")
    expect(page.get_by_label("Response")).to_have_value(WORDS)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("heading", name="Nothing waits for you now")).to_be_visible()
    assert [one.body["answer"]["response"] for one in at.labels()] == [WORDS]


def test_a_browser_that_does_not_answer_for_its_database_keeps_nobody_waiting(
    seat: Callable[..., Seat], page: Page
) -> None:
    """Chromium's did not where an earlier page was frozen while it made the database."""
    page.add_init_script("IDBFactory.prototype.open = () => ({})")
    at = seat("demonstration")
    page.get_by_label("Response").fill(WORDS)
    page.reload()
    expect(page.get_by_label("Response")).to_have_value(WORDS)
    page.get_by_role("button", name="Send", exact=True).click()
    at.kept()
    assert [one.body["answer"]["response"] for one in at.labels()] == [WORDS]


def test_choices_are_there_when_the_page_was_closed(
    page: Page, server: str, workshop: Workshop
) -> None:
    at = Seat(page, server, workshop, "question", task={"phases": ["alone"]})
    at.arrive(keyboard=False)
    at.press("c", "4")
    context = page.context
    page.close()  # no beforeunload, no farewell
    again = context.new_page()
    again.goto(f"{server}/study/a-study/work")
    expect(again.get_by_role("radio", name="He fell from the stair")).to_be_checked()
    expect(again.get_by_role("radio", name="80 %")).to_be_checked()


def test_a_label_that_was_not_acknowledged_is_sent_after_a_reload(
    seat: Callable[..., Seat], server: str
) -> None:
    at = seat("demonstration")
    page = at.page
    page.route("**/steps", lambda route: route.abort())
    page.get_by_label("Response").fill(WORDS)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_text("trying again")).to_be_visible()
    page.unroute("**/steps")
    page.goto(f"{server}/")
    expect(page.get_by_text("was sent again and is kept")).to_be_visible()
    assert [one.body["answer"]["response"] for one in at.labels()] == [WORDS]
    assert page.evaluate("Object.keys(localStorage).filter((one) => one.includes('draft'))") == []


def test_a_page_with_nobody_before_it_gives_no_sign_of_life(seat: Callable[..., Seat]) -> None:
    """A lease of 15 minutes has three signs; without a touch the fourth stays out."""
    at = seat("vote")
    page = at.page
    page.clock.install()
    page.reload()
    expect(page.get_by_role("radio", name="A is better")).to_be_visible()
    beats: list[str] = []
    page.on("request", lambda one: beats.append(one.url) if "/heartbeat" in one.url else None)
    with page.expect_request("**/heartbeat"):
        page.clock.run_for("05:01")
    page.clock.run_for("55:00")
    with page.expect_request("**/heartbeat"):
        page.mouse.move(5, 5)
        page.clock.run_for("05:00")
    assert len(beats) == 4


def test_the_draft_survives_a_reload_with_what_was_pasted(seat: Callable[..., Seat]) -> None:
    at = seat("demonstration")
    page = at.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_label("Response").fill("Five.")
    at.press("Control+a", "Control+c", "ArrowRight", "Control+v")
    page.reload()
    expect(page.get_by_label("Response")).to_have_value("Five.Five.")
    page.get_by_role("button", name="Send", exact=True).click()
    at.kept()
    client = at.labels()[0].body["client"]
    assert client["pasted_characters"] == 5
    assert client["ms_active"] > 0


def test_a_refused_label_is_kept_and_can_be_sent_otherwise(seat: Callable[..., Seat]) -> None:
    at = seat("demonstration")
    page = at.page
    refusal = json.dumps({"error": {"message": "this is too short", "status": 422}})
    page.route("**/steps", lambda route: route.fulfill(status=422, body=refusal), times=1)
    page.get_by_label("Response").fill("No")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("this is too short")
    page.get_by_label("Response").fill(WORDS)
    page.get_by_role("button", name="Send", exact=True).click()
    at.kept()
    assert [one.body["answer"]["response"] for one in at.labels()] == [WORDS]


def test_markup_in_texts_is_shown_as_text(seat: Callable[..., Seat]) -> None:
    at = seat("dialogue", task={"theme": "<img src=x onerror=alert(1)>"})
    page = at.page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    script = "<script>alert(1)</script>"
    page.get_by_label("Your first message").fill(script)
    at.press("Control+Enter")
    at.models_say(f"{script} one", f"{script} two")
    expect(page.get_by_role("group", name="Which response is better?")).to_be_visible()
    expect(page.locator(".text", has_text=script)).to_have_count(3)
    expect(page.get_by_text("<img src=x onerror")).to_be_visible()
    page.goto(f"{at.server}/study/a-study/done")
    assert not dialogs


def test_a_failed_response_is_said_and_both_are_drawn_again(seat: Callable[..., Seat]) -> None:
    at = seat("dialogue")
    page = at.page
    failed = 'event: failed\ndata: {"message": "the model is gone", "retry_seconds": 0.1}\n\n'
    headers = {"content-type": "text/event-stream"}
    page.route("**/replies", lambda route: route.fulfill(body=failed, headers=headers), times=1)
    page.get_by_label("Your first message").fill("Hello")
    at.press("Control+Enter")
    expect(page.get_by_text("Both are drawn again").first).to_be_visible()
    at.models_say("Good", "Cut o", finish="length")  # not votable: the page goes on waiting
    at.models_say("Good day", "Hello to you")
    expect(page.get_by_role("group", name="Which response is better?")).to_be_visible()
    expect(page.get_by_text("Cut o", exact=True)).to_have_count(0)


def test_models_that_get_ready_are_no_failure(seat: Callable[..., Seat]) -> None:
    at = seat("dialogue")
    page = at.page
    data = {"message": "the models are getting ready", "retry_seconds": 30, "passes": True}
    frame = f"event: failed\ndata: {json.dumps(data)}\n\n"
    headers = {"content-type": "text/event-stream"}
    page.route("**/replies", lambda route: route.fulfill(body=frame, headers=headers))
    page.get_by_label("Your first message").fill("Hello")
    at.press("Control+Enter")
    note = page.get_by_text("Please wait: the models are getting ready.")
    expect(note).to_be_visible()
    expect(note).to_have_class("hint")
    expect(page.locator(".problem")).to_have_count(0)


def test_replies_stream_side_by_side(seat: Callable[..., Seat]) -> None:
    at = seat("dialogue")
    page = at.page
    written = [
        ("delta", {"place": 0, "text": "Void"}), ("again", {}),
        ("delta", {"place": 0, "text": "Left be"}), ("delta", {"place": 1, "text": "Right"}),
        ("delta", {"place": 0, "text": "gins"}),
    ]  # fmt: skip
    frames = [f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in written]
    body = ": still drawing\n\n".join(frames)
    headers = {"content-type": "text/event-stream"}
    page.route("**/replies", lambda route: route.fulfill(body=body, headers=headers))
    page.get_by_label("Your first message").fill("Hello")
    at.press("Control+Enter")
    expect(page.get_by_role("article", name="Response A")).to_contain_text("Left begins")
    expect(page.get_by_text("Void")).to_have_count(0)
    expect(page.get_by_text("A response failed. Both are drawn again.")).to_be_visible()
    expect(page.get_by_role("article", name="Response B")).to_contain_text("Right")
    at.models_say("One", "Two")
    expect(page.get_by_role("group", name="Which response is better?")).to_be_visible()


def test_time_runs_out_by_itself(seat: Callable[..., Seat]) -> None:
    at = seat("question", task={"seconds": 60, "phases": ["alone"], "reveals": False})
    at.begin()
    at.press("b", "3")
    at.let_pass(61)
    at.kept()
    (label,) = at.labels("qa_answer")
    assert label.body["answer"] == {"choice": 1, "confidence": 60}
    assert not label.body.get("timed_out")


def test_at_the_deadline_a_choice_is_sent_without_a_confidence(
    seat: Callable[..., Seat], workshop: Workshop
) -> None:
    """The page sends it, and the server's clock says when; a confidence is not invented."""
    at = seat("question", task={"seconds": 60, "phases": ["alone"]})
    at.begin()
    at.press("b")
    at.let_pass(61)
    expect(at.page.get_by_role("heading", name="The right answer")).to_be_visible()
    (label,) = at.labels("qa_answer")
    assert label.body["answer"] == {"choice": 1, "confidence": None}
    assert label.body["at_deadline"]
    with workshop.store.read() as connection:
        started = connection.execute(select(assignments.c.leased_at)).scalar_one()
    assert label.created_at >= started + 60


def _wait_for(page: Page, held: list[Any]) -> None:
    """Until a request is held; nothing of a page's route runs while a test does something else."""
    for _ in range(600):
        if held:
            return
        page.wait_for_timeout(50)
    raise AssertionError("no request was held within 30 seconds")


@pytest.mark.parametrize("arrives", ["in time", "too late"])
def test_what_is_on_its_way_at_the_deadline_does_not_cost_the_answer(
    seat: Callable[..., Seat], arrives: str
) -> None:
    """A message is underway as time runs out: kept and not yet acknowledged, or refused (409)."""
    at = seat("question", task={"seconds": 60, "phases": ["assisted"], "reveals": False})
    page = at.page
    at.begin()
    page.get_by_label("Ask the assistant").blur()
    at.press("b", "3")
    page.get_by_label("Ask the assistant").fill("Which one?")
    held: list[tuple[Route, APIResponse | None]] = []
    page.route(
        "**/steps",
        lambda route: held.append((route, route.fetch() if arrives == "in time" else None)),
        times=1,
    )
    at.press("Control+Enter")
    _wait_for(page, held)
    at.let_pass(61)
    expect(page.get_by_role("timer")).to_have_text("0:00")
    expect(page.get_by_text("Time is over.")).to_be_visible()
    ((route, response),) = held
    if response is None:
        route.continue_()
    else:
        route.fulfill(response=response)
    at.kept()
    assert len(at.workshop.events(kinds=["message"])) == (arrives == "in time")
    (label,) = at.labels("qa_answer")
    assert label.body["answer"] == {"choice": 1, "confidence": 60}
    assert label.body["at_deadline"]


def test_an_answer_that_is_on_its_way_at_the_deadline_is_sent_once(
    seat: Callable[..., Seat],
) -> None:
    at = seat("question", task={"seconds": 60, "phases": ["alone", "assisted"], "reveals": False})
    page = at.page
    at.begin()
    at.press("b", "3")
    held: list[tuple[Route, APIResponse]] = []
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url) if one.url.endswith("/steps") else None)
    page.route("**/steps", lambda route: held.append((route, route.fetch())), times=1)
    at.press("Enter")
    _wait_for(page, held)
    at.let_pass(61)
    expect(page.get_by_text("Time is over.")).to_be_visible()
    ((route, response),) = held
    route.fulfill(response=response)
    expect(page.get_by_role("heading", name="Now with the assistant")).to_be_visible()
    assert len(sent) == 1
    assert [one.body["answer"]["choice"] for one in at.labels("qa_answer")] == [1]


def test_the_turns_with_the_assistant_end(seat: Callable[..., Seat]) -> None:
    at = seat("question", task={"phases": ["assisted"], "maximum_turns": 1, "reveals": False})
    expect(at.page.get_by_text("Turn 1 of up to 1")).to_be_visible()
    at.page.get_by_label("Ask the assistant").fill("Which one?")
    at.press("Control+Enter")
    at.models_say("The second.")
    expect(at.page.get_by_text("You have used all your turns with the assistant")).to_be_visible()
    expect(at.page.get_by_label("Ask the assistant")).to_have_count(0)
    at.page.get_by_role("heading", name="Now with the assistant").focus()
    at.press("b", "3", "Enter")
    at.kept()
    (label,) = at.labels("qa_answer")
    assert label.body["answer"] == {"choice": 1, "confidence": 60}


def test_who_is_turned_away_is_told_and_keeps_what_they_typed(
    seat: Callable[..., Seat], workshop: Workshop
) -> None:
    at = seat("demonstration")
    page = at.page
    page.get_by_label("Response").fill(WORDS)
    with workshop.store.read() as connection:
        (person_id,) = connection.execute(select(assignments.c.person_id)).scalars()
    studies.set_member_state(
        workshop.store, at.study.id, person_id, "rejected", by=workshop.owner.id
    )
    page.get_by_role("button", name="Send", exact=True).click()
    told = "your part in this study has ended, so that this answer is not taken"
    expect(page.get_by_text(told)).to_be_visible()
    expect(page.get_by_text("What you typed is kept in this browser.")).to_be_visible()
    expect(page.get_by_label("Response")).to_have_value(WORDS)
    assert not at.labels()
    other = workshop.study("vote", name="another")
    workshop.votes(other, 1)
    studies.join(workshop.store, other.id, person_id)
    page.goto(f"{at.server}/study/another/work")
    expect(page.get_by_text("Question 0")).to_be_visible()
    page.goto(f"{at.server}/study/a-study/work")
    # Readmitted, they send the same words.
    studies.set_member_state(workshop.store, at.study.id, person_id, "active", by=workshop.owner.id)
    page.reload()
    at.kept()
    assert at.labels("demonstration")[0].body["answer"]["response"] == WORDS


def test_a_draft_waits_for_its_author_to_log_in_again(
    seat: Callable[..., Seat], server: str, workshop: Workshop
) -> None:
    at = seat("demonstration")
    page = at.page
    page.get_by_label("Response").fill(WORDS)
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{server}/login")
    page.get_by_label("Login").fill("ada@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server}/")
    page.goto(f"{server}/study/a-study/work")
    expect(page.get_by_label("Response")).to_have_value(WORDS)
    assert not at.labels()
