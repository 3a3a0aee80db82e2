"""Each task in a browser, from invitation to label: by keyboard (wide) and mouse (narrow)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.feedback.workshop import Workshop
from tests.web import chores
from tests.web.seat import NARROW, WIDE, Seat

from hark.feedback import items
from hark.feedback.export import ExportSettings, export_study
from hark.feedback.items import NewItem

Work = Callable[[Seat], None]


@pytest.fixture(params=["keyboard", "mouse"])
def keyboard(request: pytest.FixtureRequest) -> bool:
    return request.param == "keyboard"


@pytest.fixture
def page(browser: Browser, keyboard: bool) -> Iterator[Page]:
    context = browser.new_context(viewport=WIDE if keyboard else NARROW)
    page = context.new_page()
    page.set_default_timeout(8000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, errors


@pytest.fixture
def seat(page: Page, server: str, workshop: Workshop, keyboard: bool) -> Callable[..., Seat]:
    def take(name: str, **more: Any) -> Seat:
        seat = Seat(page, server, workshop, name, **more)
        seat.arrive(keyboard=keyboard)
        return seat

    return take


def test_a_dialogue_of_two_turns(seat: Callable[..., Seat], keyboard: bool, tmp_path: Path) -> None:
    at = seat("dialogue")
    page, words = at.page, "Plan a weekend in Ghent for two people who like quiet places."
    if keyboard:
        page.keyboard.type(words)
        at.press("Control+Enter")
    else:
        page.get_by_label("Your first message").fill(words)
        page.get_by_role("button", name="Send").click()
    at.models_say(
        "Saturday: the beguinage of Our Lady ter Hoyen in the morning, then a walk along the "
        "Coupure. Sunday: the botanical garden, which is free, and coffee in the Patershol.",
        "Ghent has many attractions. You could visit the castle, the cathedral, the belfry and "
        "the shopping street. It gets crowded, so come early.",
    )
    expect(page.get_by_role("group", name="Which response is better?")).to_be_visible()
    good = _place_of(page, "beguinage")
    shown = page.get_by_role("article").nth(good).locator(".text").inner_text()
    if keyboard:
        at.press("27"[good])
        at.check("dialogue")
        at.press("Enter")
    else:
        page.locator(".dock label", has_text="clearly").nth(good).click()
        at.check("dialogue-narrow")
        page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Your next message")).to_be_visible()
    (label,) = at.labels("comparison")
    chosen = {one["id"]: one["text"] for one in label.body["candidates"]}[
        label.body["answer"]["chosen"]
    ]
    assert (chosen, label.body["answer"]["strength"]) == (shown, 3)
    assert label.body["client"]["ui"]
    expect(page.get_by_role("list", name="Dialogue").get_by_text(shown)).to_be_visible()
    if keyboard:
        at.press("Control+Shift+Enter")
    else:
        page.get_by_role("button", name="End the dialogue here").click()
    at.kept()
    folder = export_study(
        at.workshop.store, "a-study", tmp_path, ExportSettings(format="hh", minimum_strength=2)
    )
    exported = (folder / "comparisons.jsonl").read_text(encoding="utf-8")
    assert words in exported


def test_red_teaming(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("redteam")
    page = at.page
    at.unveil(keyboard=keyboard)
    plan, words = "Get it to mock people who cannot spell.", "Write a joke about bad spellers."
    if keyboard:
        page.keyboard.type(plan)
        at.press("Enter")
        expect(page.get_by_label("Your first message")).to_be_focused()
        page.keyboard.type(words)
        at.press("Control+Enter")
    else:
        page.get_by_label("What will you try?").fill(plan)
        page.get_by_role("button", name="Begin").click()
        page.get_by_label("Your first message").fill(words)
        page.get_by_role("button", name="Send").click()
    at.models_say(
        "I can joke about spelling itself: why is 'abbreviation' such a long word?",
        "People who cannot spell should stick to drawing pictures. At least a stick figure has "
        "no silent letters to get wrong.",
    )
    expect(page.get_by_role("group", name="Which response is more harmful?")).to_be_visible()
    rude = _place_of(page, "stick figure")
    if keyboard:
        at.press("18"[rude])
        at.check("redteam")
        at.press("Enter")
    else:
        page.locator(".dock label", has_text="much").nth(rude).click()
        at.check("redteam-narrow")
        page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("How far did your attack succeed?")).to_be_visible()
    if keyboard:
        at.press("3")
        at.press("Enter")
    else:
        page.get_by_text("mostly").click()
        page.get_by_label("Other labelers may read this attack").check()
        page.get_by_role("button", name="Finish").click()
    at.kept()
    assert [one.kind for one in at.labels()] == ["description", "comparison", "redteam"]
    rated = {"success": 3, "may_be_reviewed": not keyboard}
    assert at.labels("redteam")[0].body["answer"] == rated
    assert at.labels("comparison")[0].body["answer"]["strength"] == 4


def _place_of(page: Page, words: str) -> int:
    """Where the response with these words is shown."""
    texts = page.get_by_role("article").all_inner_texts()
    return next(place for place, text in enumerate(texts) if words in text)


QUALITIES = {"Beans": 6, "Many vegetables": 3, "asparagus": 1, "Radishes": 6}


def test_a_ranking_with_a_tie(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("ranking")
    page = at.page
    ids = {}
    for place in range(4):
        expect(page.get_by_role("heading", name=f"Response {'ABCD'[place]} of D")).to_be_visible()
        text = page.get_by_role("article").inner_text()
        name, quality = next(one for one in QUALITIES.items() if one[0] in text)
        ids[name] = str(page.locator(".scale input").first.get_attribute("name"))[7:]
        if keyboard:
            at.press(str(quality))
            if name == "asparagus":
                at.press("c")
                at.check("ranking-rate")
            at.press("Enter")
        else:
            page.locator(".scale label").nth(quality - 1).click()
            if name == "asparagus":
                page.get_by_text("Hallucination").click()
            page.locator("#stage .actions .main").click()
    expect(page.get_by_role("heading", name="Rank all from best to worst")).to_be_visible()
    second = page.locator(".ranked").nth(1).get_attribute("data-id")  # tied with the first
    if keyboard:
        at.check("ranking-order")
        at.press("ArrowDown", "Alt+ArrowUp")
        at.press("ArrowDown", "ArrowDown", "ArrowDown", "t")  # the last with the one above
        at.press("Enter")
    else:
        page.locator(f'[data-id="{second}"]').get_by_role("button", name="up").click()
        last = page.locator(f'[data-id="{ids["asparagus"]}"]')
        last.drag_to(page.locator(f'[data-id="{ids["Many vegetables"]}"]'))
        at.check()
        page.get_by_role("button", name="Send ranking").click()
    at.kept()
    answer = at.labels("ranking")[0].body["answer"]
    first = next(ids[one] for one in ("Beans", "Radishes") if ids[one] != second)
    assert answer["ranking"] == [[second], [first], [ids["Many vegetables"], ids["asparagus"]]]
    assert answer["likert"] == {ids[name]: quality for name, quality in QUALITIES.items()}
    assert answer["flags"][ids["asparagus"]]["hallucination"]
    assert sum(flag for flags in answer["flags"].values() for flag in flags.values()) == 1


def _write(at: Seat, keyboard: bool, **texts: str) -> None:
    """Fill the labelled fields; by keyboard they follow each other by Tab."""
    for place, (label, text) in enumerate(texts.items()):
        if keyboard:
            if place:
                at.press("Tab")
            at.page.keyboard.type(text)
        else:
            at.page.get_by_label(label.replace("_", " "), exact=True).fill(text)


def _send(at: Seat, keyboard: bool) -> None:
    if keyboard:
        at.press("Control+Enter")
    else:
        at.page.get_by_role("button", name="Send", exact=True).click()
    at.kept()


def test_a_demonstration(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("demonstration")
    text = "It does fall, all the time; but it flies sideways so fast that it keeps missing us."
    _write(at, keyboard, Response=text)
    at.check("demonstration" if keyboard else "")
    _send(at, keyboard)
    assert at.labels("demonstration")[0].body["answer"]["response"] == text


def test_a_screening_test_has_tasks_of_other_kinds(
    page: Page, server: str, workshop: Workshop, keyboard: bool
) -> None:
    at = Seat(page, server, workshop, "vote", settings={"screening": {"flag_agreement": None}})
    new = [
        NewItem.read({**chores.item_of(name), "use": "screening"}, what="a test")
        for name in ("demonstration", "audit")
    ]
    items.add_items(workshop.store, at.study.id, new, by=workshop.owner.id)
    at.arrive(keyboard=keyboard)
    _write(at, keyboard, Response="It falls past us.")
    at.press("Control+Enter")
    expect(page.get_by_role("heading", name="Behaviour")).to_be_visible()
    at.press("n", "2", "Enter")
    expect(page.get_by_role("heading", name="Your test is with the researchers")).to_be_visible()
    assert [one.kind for one in at.labels()] == ["demonstration", "audit"]


def test_a_draft_is_mended(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("edit")
    page = at.page
    box = page.get_by_label("The response, mended")
    expect(box).to_have_value("Dear tenants, we hereby inform you that the water will be off.")
    text = "The water is off on Thursday from 8 to 12. Please fill a pot on Wednesday evening."
    if keyboard:
        at.press("Control+a")
        page.keyboard.type(text)
    else:
        box.fill(text)
    expect(page.get_by_text("17 words (+5)")).to_be_visible()
    at.check("edit" if keyboard else "")
    _send(at, keyboard)
    assert at.labels("edit")[0].body["answer"] == {"response": text}


def test_a_few_shot_demonstration(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("few_shot")
    page = at.page
    _write(
        at, keyboard, Instruction="Say which fruit the text is about.", Query="Red, with a stone.",
        Its_response="Cherry",
    )  # fmt: skip
    if keyboard:
        at.press("Control+Shift+Enter")
        page.keyboard.type("Long and yellow.")
        at.press("Tab")
        page.keyboard.type("Banana")
    else:
        page.get_by_role("button", name="Another example").click()
        page.get_by_label("Query").last.fill("Long and yellow.")
        page.get_by_label("Its response").last.fill("Banana")
    query = page.get_by_label("The last request")
    if keyboard:
        for _ in range(8):
            at.press("Tab")
            if query.evaluate("element => element === document.activeElement"):
                break
        page.keyboard.type("Green inside, brown outside.")
        at.press("Tab")
        page.keyboard.type("Kiwi")
    else:
        query.fill("Green inside, brown outside.")
        page.get_by_label("Response", exact=True).fill("Kiwi")
    at.check("few-shot" if keyboard else "")
    _send(at, keyboard)
    answer = at.labels("demonstration")[0].body["answer"]
    assert answer["prompt"] == "Say which fruit the text is about."
    assert [one["response"] for one in answer["examples"]] == ["Cherry", "Banana"]
    assert (answer["query"], answer["response"]) == ("Green inside, brown outside.", "Kiwi")


def test_a_request_for_a_use_case(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("use_case")
    _write(at, keyboard, Request="Is there rye bread on Sunday?", Response="Yes, until ten.")
    at.check()
    _send(at, keyboard)
    answer = at.labels("demonstration")[0].body["answer"]
    assert (answer["prompt"], answer["examples"]) == ("Is there rye bread on Sunday?", [])


def test_summaries_before_and_after_the_post(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("summary")
    page = at.page
    expect(page.get_by_text("Do I insist, or do I look")).to_have_count(0)
    notes = (
        "Somebody's guest stays for free; they quarrel.",
        "A quarrel about a guest and heating.",
    )
    if keyboard:
        page.keyboard.type(notes[0])
        at.press("Tab")
        page.keyboard.type(notes[1])
        at.check("summary-notes")
        at.press("Control+Enter")
    else:
        for place, note in enumerate(notes):
            page.get_by_label(f"What does summary {'AB'[place]} tell you?").fill(note)
        page.get_by_role("button", name="Show the post").click()
    expect(page.get_by_text("Do I insist, or do I look")).to_be_visible()
    good = _place_of(page, "a third of the rent")
    better = page.get_by_role("article").nth(good).locator(".text").inner_text()
    if keyboard:
        at.press("28"[good])
        at.check("summary")
        at.press("Enter")
    else:
        page.locator(".dock label").nth((1, 7)[good]).click()
        at.check("summary-narrow")
        page.get_by_role("button", name="Send", exact=True).click()
    at.kept()
    answer = at.labels("summary")[0].body["answer"]
    texts = {one["id"]: one["text"] for one in at.labels("summary")[0].body["candidates"]}
    assert (texts[answer["chosen"]], answer["strength"]) == (better, 3)
    assert answer["axes"] == {}
    assert set(at.labels("notes")[0].body["answer"]["notes"].values()) == set(notes)


def test_a_summary_is_rated_on_axes_by_itself(seat: Callable[..., Seat], keyboard: bool) -> None:
    """One summary beside its post, with what each axis means, apart from any comparison."""
    at = seat("axes")
    page = at.page
    expect(page.get_by_text("Do I insist, or do I look")).to_be_visible()
    expect(page.get_by_text("What is left out counts")).to_be_visible()
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    ratings = {"overall": 3, "accuracy": 6, "coverage": 2, "coherence": 7}
    for axis, rating in ratings.items():
        if keyboard:
            at.press(str(rating), "Tab")
        else:
            name = axis.capitalize()
            page.get_by_role("group", name=name).locator("label").nth(rating - 1).click()
    at.check("summary-axes" if keyboard else "summary-axes-narrow")
    at.press("Enter")
    at.kept()
    (label,) = at.labels()
    assert (label.kind, label.body["answer"]) == ("axes", {"ratings": ratings})
    assert len(label.body["candidates"]) == 1


@pytest.mark.parametrize("key", ["better", "t", "x"])
def test_a_vote(seat: Callable[..., Seat], keyboard: bool, key: str) -> None:
    at = seat("vote")
    names = {"a": "A is better", "b": "B is better", "t": "Tie", "x": "Both are bad"}
    good = _place_of(at.page, "ten minutes")
    chosen = at.page.get_by_role("article").nth(good).get_attribute("data-id")
    wanted = "ab"[good] if key == "better" else key
    if keyboard:
        at.press(wanted)
        at.check("vote" if key == "better" else "")
        at.press("Enter")
    else:
        at.page.locator("label", has_text=names[wanted]).click()
        at.page.get_by_role("button", name="Send vote").click()
    at.kept()
    answer = at.labels("vote")[0].body["answer"]
    assert answer == {"chosen": chosen if key == "better" else None, "both_bad": key == "x"}


def test_a_review(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("review")
    page = at.page
    at.unveil(keyboard=keyboard)
    if keyboard:
        at.press("3", "p", "b", "y")
        at.check("review")
        at.press("a")  # one too many
        at.press("Enter")
    else:
        for text in ("mostly", "Bullying", "Hate speech", "Discrimination", "Yes"):
            page.locator("label", has_text=text).click()
        at.check()
        page.get_by_role("button", name="Send review").click()
    at.kept()
    answer = at.labels("review")[0].body["answer"]
    assert (answer["success"], answer["agrees"]) == (3, True)
    assert answer["tags"] == ["bullying", "hate_speech"]


def test_an_audit(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("audit")
    if keyboard:
        at.press("a", "5")
        at.check("audit")
        at.press("Enter")
    else:
        at.page.get_by_text("A: Yes").click()
        at.page.get_by_text("exactly").click()
        at.check()
        at.page.get_by_role("button", name="Send", exact=True).click()
    at.kept()
    answer = at.labels("audit")[0].body["answer"]
    assert (answer["matching"], answer["relevance"]) == (0, 5)


def test_a_question_alone_and_with_an_assistant(seat: Callable[..., Seat], keyboard: bool) -> None:
    at = seat("question", task={"seconds": 300})
    page = at.page
    expect(page.get_by_text("The keeper wrote the log")).to_have_count(0)
    at.go(page.get_by_role("button", name="Begin"), keyboard=keyboard)
    expect(page.get_by_role("timer")).to_contain_text(":")
    _answer(at, keyboard, "b", 1)
    at.go(page.get_by_role("button", name="Begin"), keyboard=keyboard)
    words = "Does the text say that he took the boat?"
    if keyboard:
        expect(page.get_by_label("Ask the assistant")).to_be_focused()
        page.keyboard.type(words)
        at.press("Control+Enter")
    else:
        page.get_by_label("Ask the assistant").fill(words)
        page.get_by_role("button", name="Send", exact=True).click()
    at.models_say("No: the boat hung in its davits when the relief came.")
    expect(page.get_by_text("the boat hung in its davits when")).to_be_visible()
    if keyboard:
        at.press("Control+Shift+Enter")
    else:
        page.get_by_role("button", name="Make it forget").click()
    expect(page.get_by_text("has forgotten what is above")).to_be_visible()
    at.check("question" if keyboard else "question-narrow")
    at.press("Escape")
    _answer(at, keyboard, "d", 4)
    expect(page.get_by_role("heading", name="The right answer")).to_be_visible()
    at.check("question-reveal" if keyboard else "")
    at.go(page.get_by_role("button", name="Next"), keyboard=keyboard)
    at.kept()
    answers = [one.body["answer"] for one in at.labels("qa_answer")]
    assert answers == [{"choice": 1, "confidence": 25}, {"choice": 3, "confidence": 80}]
    assert len(at.labels("reset")) == 1


def _answer(at: Seat, keyboard: bool, option: str, confidence: int) -> None:
    if keyboard:
        at.press(option, str(confidence), "Enter")
        return
    pane = at.page.get_by_role("region", name="Your answer")
    pane.locator("fieldset").nth(0).locator("label").nth("abcd".index(option)).click()
    pane.locator("fieldset").nth(1).locator("label").nth(confidence - 1).click()
    at.page.get_by_role("button", name="Send answer").click()


@pytest.mark.parametrize("keyboard", ["mouse"], indirect=True)
@pytest.mark.parametrize(
    ("flow", "file", "rows"),
    [
        (test_red_teaming, "comparisons", 1),
        (test_a_ranking_with_a_tie, "comparisons", 1),
        (test_summaries_before_and_after_the_post, "comparisons", 1),
        (test_a_summary_is_rated_on_axes_by_itself, "labels", 1),
        (test_a_vote, "comparisons", 1),
        (test_a_demonstration, "demonstrations", 1),
        (test_a_draft_is_mended, "demonstrations", 1),
        (test_a_few_shot_demonstration, "demonstrations", 1),
        (test_a_request_for_a_use_case, "demonstrations", 1),
        (test_a_review, "labels", 1),
        (test_an_audit, "labels", 1),
        (test_a_question_alone_and_with_an_assistant, "labels", 2),
    ],
)
def test_what_was_labelled_in_the_browser_is_exported(
    seat: Callable[..., Seat], keyboard: bool, tmp_path: Path, flow: Any, file: str, rows: int
) -> None:
    taken: list[Seat] = []

    def take(name: str, **more: Any) -> Seat:
        taken.append(seat(name, **more))
        return taken[0]

    flow(take, keyboard, **({"key": "better"} if flow is test_a_vote else {}))
    folder = export_study(taken[0].workshop.store, "a-study", tmp_path / "out")
    labels = taken[0].labels()
    assert [one["event_id"] for one in _rows(folder / "events.jsonl")] == [one.id for one in labels]
    found = _rows(folder / f"{file}.jsonl")
    assert len(found) == rows
    kept = json.dumps(found)
    for label in labels:
        texts = [one["text"] for one in label.body["candidates"]]
        texts += [label.body["answer"].get("response", "")]
        assert all(json.dumps(text)[1:-1] in kept for text in texts)
    if file == "labels":
        answers = [
            one.body["answer"] for one in taken[0].labels("review", "audit", "qa_answer", "axes")
        ]
        assert [one["answer"] for one in found] == answers


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
