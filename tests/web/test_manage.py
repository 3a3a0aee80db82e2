"""Owners make and run studies in a browser; nobody else gets in."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect
from tests.feedback.workshop import Clock, Workshop
from tests.web.conftest import held_back, serving
from tests.web.managing import (
    STRENGTHS,
    add_vote_items,
    cookie_of,
    hold_dialogue,
    label_all,
    person_of_role,
    serious_findings,
    shoot,
    sign_in_page,
)

from hark.feedback import (
    accounts,
    assignment,
    invites,
    items,
    labelling,
    registers,
    studies,
)
from hark.feedback.accounts import Person
from hark.feedback.candidate_scores import CandidateScores, put_scores
from hark.feedback.items import NewItem
from hark.feedback.refusals import NotFoundError
from hark.feedback.studies import Study
from hark.web.application import build_application
from hark.web.live.endpoints import LiveModel, LiveModels
from hark.web.settings import WebSettings

INSTRUCTIONS = "Read both answers to their end.\n\n* Choose the one that **helps** more.\n"


@pytest.fixture
def server(workshop: Workshop, tmp_path: Path) -> Iterator[str]:
    """A server that can export."""
    settings = WebSettings(exports=tmp_path / "exports")
    with serving(lambda: build_application(workshop.store, settings=settings)) as url:
        yield url


@pytest.fixture
def owner(workshop: Workshop, server: str, page: Page) -> Page:
    """A page of the owner, 1100 wide."""
    page.set_viewport_size({"width": 1100, "height": 800})
    sign_in_page(page, server, workshop, workshop.owner)
    return page


def write_items(path: Path, count: int) -> Path:
    lines = [
        {
            "task": {"kind": "vote", "prompt": [{"role": "user", "content": f"Question {number}"}]},
            "candidates": [{"text": "a", "snapshot": "m"}, {"text": "b", "snapshot": "n"}],
            "id": str(number),
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_an_owner_makes_a_study_and_sees_it_label_by_label_until_the_export(
    workshop: Workshop, server: str, owner: Page, tmp_path: Path
) -> None:
    owner.goto(f"{server}/manage")
    owner.get_by_role("link", name="Make a study").click()
    owner.get_by_label("Name", exact=True).fill("helpful-answers")
    owner.get_by_label("Title", exact=True).fill("Which answer helps more?")
    owner.get_by_label("Task", exact=True).select_option("vote")
    owner.get_by_label("Instructions", exact=True).fill(INSTRUCTIONS)
    owner.get_by_role("button", name="Preview").click()
    expect(owner.locator("#preview strong")).to_have_text("helps")
    shoot(owner, "manage-new")
    assert serious_findings(owner) == []
    owner.get_by_role("button", name="Make the study").click()
    owner.wait_for_url(f"{server}/manage/helpful-answers/items")
    owner.get_by_label("File of JSON lines").set_input_files(write_items(tmp_path / "a.jsonl", 3))
    owner.get_by_role("button", name="Add items").click()
    expect(owner.get_by_role("heading", name="3 items")).to_be_visible()
    owner.get_by_role("link", name="Settings").click()
    owner.get_by_role("button", name="Open for labelers").click()
    expect(owner.get_by_role("heading", name="This study is open")).to_be_visible()

    owner.get_by_role("link", name="Members").click()
    owner.get_by_role("button", name="Make a link").click()
    link = owner.get_by_label("Link for a labeler").input_value()
    assert link.startswith(f"{server}/invite/")
    person = invites.accept(workshop.store, link.rpartition("/")[2], "ada", "a long password")

    owner.get_by_role("link", name="Dashboard").click()
    filled = owner.locator(".tiles > div", has_text="Places filled").locator("dd")
    expect(filled).to_have_text("0 of 3")
    study = studies.find_study(workshop.store, "helpful-answers")
    label_all_plainly(workshop, study, person.id, 2)
    expect(filled).to_have_text("2 of 3", timeout=10_000)  # no reload
    expect(owner.locator("#results tbody th", has_text=person.pseudonym)).to_be_visible()

    owner.get_by_role("link", name="Export").click()
    owner.get_by_role("button", name="Make a snapshot").click()
    expect(owner.get_by_role("heading", name="1 snapshot")).to_be_visible()
    with owner.expect_download() as fetched:
        owner.get_by_role("link", name="comparisons.jsonl").click()
    rows = [json.loads(line) for line in Path(fetched.value.path()).read_text().splitlines()]
    assert len(rows) == 2
    assert {row["labeler"] for row in rows} == {person.pseudonym}


def label_all_plainly(workshop: Workshop, study: studies.Study, person_id: str, count: int) -> None:
    """Votes for the candidate shown first."""
    for number in range(count):
        given = assignment.claim(workshop.store, study.id, person_id)
        assert isinstance(given, assignment.Assignment)
        shown = labelling.view(workshop.store, given.id, person_id)
        answer = {"chosen": shown.candidates[0]["id"]}
        labelling.submit(
            workshop.store, given.id, person_id, "vote", answer, client_key=f"key-{number}"
        )


def test_what_is_refused_is_said_on_the_page_and_the_form_keeps_its_text(
    workshop: Workshop, server: str, owner: Page, tmp_path: Path
) -> None:
    study = workshop.study("vote")
    owner.goto(f"{server}/manage/-/new")
    owner.get_by_label("Name", exact=True).fill("Capital Letters")
    owner.get_by_label("Title", exact=True).fill("T")
    owner.get_by_label("Instructions", exact=True).fill("I")
    owner.get_by_role("button", name="Make the study").click()
    expect(owner.get_by_role("alert")).to_contain_text("'name'")
    expect(owner.get_by_label("Title", exact=True)).to_have_value("T")

    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"task": {"kind": "vote"}}\n')
    owner.goto(f"{server}/manage/{study.settings.name}/items")
    owner.get_by_label("File of JSON lines").set_input_files(bad)
    owner.get_by_role("button", name="Add items").click()
    alert = owner.get_by_role("alert")
    expect(alert).to_contain_text("bad.jsonl:1")
    assert "/tmp" not in (alert.text_content() or "")


def test_settings_change_and_fixed_ones_do_not(
    workshop: Workshop, server: str, owner: Page
) -> None:
    study = workshop.study("vote", overlap=3)
    owner.goto(f"{server}/manage/{study.settings.name}")
    assert owner.locator("[name=overlap]").count() == 0
    owner.get_by_label("Pay per hour").fill("15.5")
    owner.get_by_label("Categories", exact=True).fill("violence: Fights and wounds.")
    owner.get_by_label("Screening", exact=True).check()
    owner.get_by_label("Ranking agreement").fill("0.8")
    with owner.expect_navigation():
        owner.get_by_role("button", name="Keep these settings").click()
    expect(owner.get_by_label("Pay per hour")).to_have_value("15.5")
    shoot(owner, "manage-settings")
    assert serious_findings(owner) == []
    changed = studies.find_study(workshop.store, study.settings.name).settings
    assert changed.overlap == 3
    assert changed.pay_per_hour == 15.5
    assert changed.categories == {"violence": "Fights and wounds."}
    assert changed.screening is not None
    assert changed.screening.ranking_agreement == 0.8
    assert changed.screening.demonstration_grade == 6.0
    assert changed.maximum_labels is None


def test_what_is_done_is_said_once(
    workshop: Workshop, server: str, owner: Page, tmp_path: Path
) -> None:
    study = workshop.study("vote")
    status = owner.locator("#status")
    owner.goto(f"{server}/manage/{study.settings.name}/items")
    owner.get_by_label("File of JSON lines").set_input_files(write_items(tmp_path / "é.jsonl", 3))
    owner.get_by_role("button", name="Add items").click()
    expect(status).to_have_text("The study has the 3 items of é.jsonl.")
    assert status.get_attribute("role") == "status", "screen readers read it out"
    owner.reload()
    expect(status).to_be_empty()
    owner.get_by_role("link", name="Settings").click()
    owner.get_by_role("button", name="Keep these settings").click()
    expect(status).to_have_text("The settings are kept.")
    owner.get_by_role("button", name="Pause").click()
    expect(status).to_have_text("The study is paused now.")


def test_what_is_pressed_before_the_scripts_are_there_is_done_once_they_are(
    workshop: Workshop, server: str, owner: Page
) -> None:
    study = workshop.study("vote")
    address = f"{server}/manage/{study.settings.name}"
    with held_back(owner, "htmx*.js"):
        owner.goto(address, wait_until="commit")
        owner.get_by_label("Title").fill("Another title")
        for _ in range(2):
            owner.get_by_role("button", name="Keep these settings").click()
        expect(owner.locator("#status")).to_be_empty()
        assert owner.url == address, "the browser sent the form by itself"
    expect(owner.locator("#status")).to_have_text("The settings are kept.")
    changed = studies.find_study(workshop.store, study.settings.name).settings
    assert changed.title == "Another title"


def test_a_study_whose_models_no_server_has_is_opened_with_a_warning(
    workshop: Workshop, page: Page
) -> None:
    study = workshop.study("vote", open_it=False, snapshots=["sftt", "base"])
    models = LiveModels(LiveModel(name, "http://127.0.0.1:1/v1") for name in ("sft", "base"))
    asked: list[str] = []

    def state() -> str:
        return studies.find_study(workshop.store, study.settings.name).state

    with serving(lambda: build_application(workshop.store, models=models)) as url:
        sign_in_page(page, url, workshop, workshop.owner)
        page.goto(f"{url}/manage/{study.settings.name}")
        warning = "This server has no model 'sftt' (did you mean 'sft'?); it has sft, base."
        expect(page.locator("#without-models")).to_contain_text(warning)
        page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        page.get_by_role("button", name="Open for labelers").click()
        expect(page.get_by_role("heading", name="This study is draft")).to_be_visible()
        assert warning in asked[0]
        assert state() == "draft"
        field = page.get_by_label("Snapshots", exact=True)
        field.fill("base\n")
        page.get_by_role("button", name="Add sft").click()
        expect(field).to_have_value("base\nsft")
        page.get_by_role("button", name="Add sft").click()
        expect(field).to_have_value("base\nsft")
        assert serious_findings(page) == []
        page.get_by_role("button", name="Keep these settings").click()
        expect(page.locator("#without-models")).to_have_count(0)
        page.get_by_role("button", name="Open for labelers").click()
        expect(page.get_by_role("heading", name="This study is open")).to_be_visible()
        page.goto(f"{url}/manage/-/new")
        expect(page.get_by_role("button", name="Add base")).to_be_visible()
    assert state() == "open"


def test_a_model_scores_candidates_by_files_and_is_held_against_labelers(
    workshop: Workshop, server: str, owner: Page, tmp_path: Path
) -> None:
    study = workshop.study("vote")
    workshop.votes(study, 4)
    label_all_plainly(workshop, study, workshop.labeler(study).id, 4)
    owner.goto(f"{server}/manage/{study.settings.name}/items")
    with owner.expect_download() as fetched:
        owner.get_by_role("link", name="Fetch the candidates").click()
    lines = Path(fetched.value.path()).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["text"] for row in rows] == ["a", "b"] * 4
    path = tmp_path / "scores.jsonl"
    path.write_text('{"candidate": "nobody"}\n')
    owner.get_by_label("Model", exact=True).fill("pm-1")
    owner.get_by_label("File of JSON lines", exact=True).set_input_files(path)
    owner.get_by_role("button", name="Keep the scores").click()
    expect(owner.get_by_role("alert")).to_contain_text("scores.jsonl:1: expected")
    scored = [{"candidate": row["candidate"], "score": row["text"] == "a"} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in scored))
    owner.get_by_label("File of JSON lines", exact=True).set_input_files(path)
    owner.get_by_role("button", name="Keep the scores").click()
    owner.wait_for_url("**/dashboard")
    row = owner.get_by_role("row", name="labelers and pm-1")
    expect(row.locator("td").last).to_have_text("4")


def test_the_owner_goes_by_keyboard_from_the_list_to_a_paused_study(
    workshop: Workshop, server: str, owner: Page
) -> None:
    workshop.study("vote")
    owner.goto(f"{server}/manage")
    press_to(owner, "A study")
    owner.keyboard.press("Enter")
    owner.wait_for_url("**/dashboard")
    press_to(owner, "Settings")
    owner.keyboard.press("Enter")
    owner.wait_for_url("**/manage/vote-study")
    press_to(owner, "Pause")
    owner.keyboard.press("Enter")
    expect(owner.get_by_role("heading", name="This study is paused")).to_be_visible()


def press_to(page: Page, words: str) -> None:
    """Press Tab until what has the focus says these words."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == words:
            return
    raise AssertionError(f"'{words}' is not reached by Tab")


def test_members_are_screened_paused_and_their_demonstrations_graded(
    workshop: Workshop, server: str, owner: Page
) -> None:
    cut_offs = {"flag_agreement": None, "ranking_agreement": None, "demonstration_grade": 6}
    study = workshop.study("demonstration", screening=cut_offs)
    task = {"kind": "demonstration", "prompt": [{"role": "user", "content": "Say hello."}]}
    test = NewItem.read({"task": task, "use": "screening"}, what="a test")
    items.add_items(workshop.store, study.id, [test], by=workshop.owner.id)
    labeler, other, third = (
        person_of_role(workshop, "labeler", f"{name}@example.org") for name in ("ada", "bo", "cy")
    )
    for person in (labeler, other, third):
        studies.join(workshop.store, study.id, person.id, held_out=person is other)
    studies.set_member_state(workshop.store, study.id, third.id, "rejected", by=workshop.owner.id)
    given = assignment.claim(workshop.store, study.id, labeler.id)
    assert isinstance(given, assignment.Assignment)
    answer = {"response": "Hello, and <b>welcome</b>!"}
    labelling.submit(workshop.store, given.id, labeler.id, "demonstration", answer, client_key="k")
    owner.goto(f"{server}/manage/{study.settings.name}/members")
    row = owner.get_by_role("row", name=labeler.pseudonym)
    expect(row).to_contain_text("undecided")
    expect(owner.get_by_text("Hello, and <b>welcome</b>!")).to_be_visible()
    shoot(owner, "manage-members")
    assert serious_findings(owner) == []
    owner.get_by_role("button", name="7", exact=True).click()
    expect(row).to_contain_text("demonstrations: 7.0")
    row.get_by_role("button", name="Decide by cut-offs").click()
    expect(row.locator(".state")).to_have_text("active")
    row.get_by_role("button", name="Pause").click()
    expect(row.locator(".state")).to_have_text("paused")


def test_an_owner_changes_roles_and_forgets(workshop: Workshop, server: str, owner: Page) -> None:
    ada = person_of_role(workshop, "labeler", "ada@example.org")
    owner.goto(f"{server}/manage/-/people")
    row = owner.get_by_role("row", name="ada@example.org")
    row.get_by_label("Role of").select_option("reviewer")
    row.get_by_role("button", name="Change").click()
    # The choice shows "reviewer" before the answer has come and put a new row in this one's place.
    expect(owner.get_by_role("status")).to_contain_text("ada@example.org is a reviewer now")
    expect(row.get_by_label("Role of")).to_have_value("reviewer")
    row.get_by_role("button", name="Disable").click()
    expect(row.get_by_role("button", name="Enable")).to_be_visible()
    shoot(owner, "manage-people")
    assert serious_findings(owner) == []
    row.get_by_text("Forget…").click()
    row.get_by_label("Write “forget”").fill("please")
    row.get_by_role("button", name="Forget ada").click()
    expect(owner.get_by_role("alert")).to_contain_text("'please' is not the word")
    row.get_by_label("Write “forget”").fill("forget")
    row.get_by_role("button", name="Forget ada").click()
    expect(row).to_have_count(0)
    with workshop.store.read() as connection:
        assert accounts.get_person(connection, ada.id).login is None


def test_the_owner_reads_who_did_what_to_whom(workshop: Workshop, server: str, owner: Page) -> None:
    study = workshop.study("vote")
    member = person_of_role(workshop, "labeler", "ada@example.org")
    studies.join(workshop.store, study.id, member.id)
    for number in range(50):
        state = ("rejected", "active")[number % 2]
        studies.set_member_state(workshop.store, study.id, member.id, state, by=workshop.owner.id)  # type: ignore[arg-type]
    accounts.set_role(workshop.store, member.id, "reviewer", by=workshop.owner.id)
    owner.goto(f"{server}/manage")
    owner.get_by_role("link", name="Changes").click()
    row = owner.get_by_role("row", name="role: from labeler to reviewer")
    expect(row).to_contain_text("ada@example.org")
    expect(row).to_contain_text(workshop.owner.pseudonym)
    assert serious_findings(owner) == []
    shoot(owner, "manage-changes")
    owner.get_by_role("link", name="Older ones").click()
    expect(owner.locator("tbody tr")).to_have_count(1)
    expect(owner.get_by_role("row", name="from active to rejected")).to_be_visible()
    researcher = person_of_role(workshop, "researcher")
    sign_in_page(owner, server, workshop, researcher)
    owner.goto(f"{server}/manage/-/changes")
    expect(owner.get_by_role("heading", name="You may not do this")).to_be_visible()


def test_links_are_made_and_revoked(workshop: Workshop, server: str, owner: Page) -> None:
    study = workshop.study("vote")
    for page in ("-/people", f"{study.settings.name}/members"):
        owner.goto(f"{server}/manage/{page}")
        owner.get_by_role("button", name="Make a link").click()
        link = owner.get_by_label("Link for a").input_value()
        secret = link.rpartition("/")[2]
        assert invites.look_at(workshop.store, secret)
        owner.reload()
        owner.get_by_role("button", name="Revoke the link").click()
        expect(owner.get_by_role("button", name="Revoke the link")).to_have_count(0)
        with pytest.raises(NotFoundError):
            invites.look_at(workshop.store, secret)


PAGES = ("", "/items", "/members", "/export", "/candidates.jsonl")
READABLE = ("/dashboard", "/dashboard/progress", "/dashboard/results", "/transcripts")


def test_pages_are_for_those_whom_they_are_for(workshop: Workshop) -> None:
    study = workshop.study("dialogue")
    client = TestClient(build_application(workshop.store), follow_redirects=False)

    def statuses(role: str, paths: tuple[str, ...], base: str) -> set[int]:
        person = person_of_role(workshop, role)  # type: ignore[arg-type]
        cookie = {"Cookie": f"hark_session={cookie_of(workshop, person)}"}
        return {client.get(f"{base}{path}", headers=cookie).status_code for path in paths}

    of_study = f"/manage/{study.settings.name}"
    everything = (*PAGES, *READABLE, "/transcripts/none", "/export/none/none")
    assert statuses("labeler", everything, of_study) == {403}
    assert statuses("labeler", ("/", "/-/new", "/-/people"), "/manage") <= {403, 307}
    assert statuses("labeler", ("",), "/manage/no-such-study/items") == {403}
    assert statuses("reviewer", PAGES, of_study) == {403}
    assert statuses("reviewer", READABLE, of_study) == {200}
    assert statuses("researcher", (*PAGES, *READABLE), of_study) == {200}
    assert statuses("researcher", ("/-/people",), "/manage") == {403}
    assert client.get(f"{of_study}/items").status_code == 303


def test_a_directory_that_only_looks_like_a_snapshot_is_named_and_breaks_nothing(
    workshop: Workshop, tmp_path: Path
) -> None:
    study = workshop.study("vote")
    for name, text in (("0123456789ab", None), ("0123456789ac", "{"), ("0123456789ad", "{}")):
        folder = tmp_path / f"{study.settings.name}-{name}"
        folder.mkdir()
        if text is not None:
            (folder / "snapshot.json").write_text(text)
    client = TestClient(build_application(workshop.store, settings=WebSettings(exports=tmp_path)))
    cookie = {"Cookie": f"hark_session={cookie_of(workshop, workshop.owner)}"}
    page = client.get(f"/manage/{study.settings.name}/export", headers=cookie)
    assert page.status_code == 200
    assert "0 snapshots" in page.text
    assert "unfinished or not made by hark" in page.text
    assert page.text.count("vote-study-0123456789a") == 3


def test_a_labeler_changes_nothing_and_nobody_does_without_the_token(workshop: Workshop) -> None:
    study = workshop.study("vote")
    client = TestClient(build_application(workshop.store))
    paths = ("", "/state", "/invites", "/export", "/members/x", "/grades/x", "/scores")
    for person in (person_of_role(workshop, "labeler"), workshop.owner):
        cookie = {"Cookie": f"hark_session={cookie_of(workshop, person)}"}
        for path in paths:
            sent = client.post(f"/manage/{study.settings.name}{path}", headers=cookie, data={})
            assert sent.status_code == 403, (person.role, path)


def test_a_file_is_not_read_before_its_sender_is_known(workshop: Workshop) -> None:
    study = workshop.study("vote")
    application = build_application(workshop.store)
    labeler = cookie_of(workshop, person_of_role(workshop, "labeler"))
    for cookie, status in (("", 401), (f"hark_session={labeler}", 403)):
        for path in ("items", "scores"):
            got, taken = send_for_ever(application, f"/manage/{study.settings.name}/{path}", cookie)
            assert (got, taken) == (status, 0), path


def send_for_ever(application: FastAPI, path: str, cookie: str) -> tuple[int, int]:
    """The status, and how many pieces of a form without an end were taken."""
    taken, statuses = 0, []
    headers = {"cookie": cookie, "content-type": "multipart/form-data; boundary=x"}
    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"", "client": ("a", 1),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value],
    }  # fmt: skip

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b" " * 1_000_000, "more_body": True}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.append(message.get("status"))

    with start_blocking_portal() as portal:  # Playwright's loop runs in this thread.
        portal.call(application, scope, receive, send)
    return statuses[0], taken


@pytest.mark.parametrize("name", ["..", ".", "a" * 300 + ".jsonl", "a\x7fb.jsonl", "none"])
def test_a_file_with_an_odd_name_is_refused(workshop: Workshop, name: str) -> None:
    study = workshop.study("vote")
    client = TestClient(build_application(workshop.store))
    cookie = cookie_of(workshop, workshop.owner)
    client.cookies.set("hark_session", cookie)
    csrf = client.get("/api/v1/me").json()["csrf"]
    sent = client.post(
        f"/manage/{study.settings.name}/items",
        files={"file": (name, b"{}")},
        headers={"X-CSRF-Token": csrf},
    )
    assert sent.status_code == 400, sent.text


def test_behind_a_proxy_links_are_as_people_open_them_and_the_log_has_who_asked(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    study = workshop.study("vote")
    settings = WebSettings(secure_cookies=True, trusted_proxies=("testclient",))
    client = TestClient(build_application(workshop.store, settings=settings))
    headers = {
        "Cookie": f"hark_session={cookie_of(workshop, workshop.owner)}",
        "Host": "labels.example.org",
        "X-Forwarded-For": "192.0.2.7",
    }
    csrf = {"X-CSRF-Token": client.get("/api/v1/me", headers=headers).json()["csrf"]}
    for path in (f"/manage/{study.settings.name}/invites", "/manage/-/people/invites"):
        made = client.post(path, headers=headers | csrf, data={"role": "labeler"})
        assert 'value="https://labels.example.org/invite/' in made.text
        client.post(path, headers=headers, data={"role": "labeler"})
        assert "address=192.0.2.7: " in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    "path",
    [
        "/manage/%00/items",
        "/manage/vote-study/items?start=99999999999999999999",
        "/manage/vote-study/items?use=%00",
        "/manage/vote-study/items?state=%ED%A0%80",
        "/manage/vote-study/transcripts?start=99999999999999999999",
        "/manage/vote-study/transcripts/%00",
        "/study/%00",
        "/study/vote-study/done?before=%00",
        "/study/vote-study/done/%00",
    ],
)
def test_an_address_that_no_database_takes_is_refused(workshop: Workshop, path: str) -> None:
    study = workshop.study("vote")
    studies.join(workshop.store, study.id, workshop.owner.id)
    client = TestClient(build_application(workshop.store))
    headers = {"Cookie": f"hark_session={cookie_of(workshop, workshop.owner)}"}
    assert client.get(path, headers=headers).status_code == 422


def a_study_full_of_votes(workshop: Workshop) -> tuple[Study, Person]:
    """Three labelers for each of 84 items, an owner's labels, a model's scores; and a spammer."""
    study = workshop.study(
        "vote", name="helpfulness-2026", title="Which answer helps more?", overlap=3,
        gold_fraction=0.15, pay_per_hour=18.0, pay_per_label=0.05,
    )  # fmt: skip
    add_vote_items(workshop, study, 84, gold=12)
    labelers = [workshop.labeler(study) for _ in range(7)]
    real, clock = workshop.store.clock, Clock()
    clock.now = real() - 270 * 20.0
    workshop.store.clock = clock
    studies.join(workshop.store, study.id, workshop.owner.id)
    label_all(workshop, study, [workshop.owner, labelers[0]], most=30, clock=clock)
    label_all(workshop, study, labelers, most=240, spammer=labelers[-1], clock=clock)
    workshop.store.clock = real
    give_scores(workshop, study)
    return study, labelers[-1]


def give_scores(workshop: Workshop, study: Study) -> None:
    """What a preference model says of every candidate."""
    draw = random.Random(3)
    scores = {}
    with workshop.store.read() as connection:
        rows, _ = registers.list_items(workshop.store, study.id, count=200)
        for row in rows:
            for one in items.candidates_of(connection, row.id)[0]:
                scores[one.id] = STRENGTHS[one.snapshot or ""] + draw.gauss(0, 0.5)
    given = CandidateScores(model="pm-52m", scores=scores)
    put_scores(workshop.store, study.id, given, by=workshop.owner.id)


def test_a_study_full_of_votes_looks_right_on_screens_of_all_widths(
    workshop: Workshop, server: str, owner: Page
) -> None:
    study, spammer = a_study_full_of_votes(workshop)
    owner.goto(f"{server}/manage/{study.settings.name}/dashboard")
    expect(owner.get_by_role("heading", name="Models")).to_be_visible()
    flagged = owner.locator("tr.flagged", has_text=spammer.pseudonym)
    expect(flagged).to_contain_text("what stands first is the best in")
    expect(flagged).to_contain_text("characters a second")
    agreement = owner.get_by_role("region", name="Agreement by question").locator("tbody tr")
    assert [row.locator("th").text_content() for row in agreement.all()] == [
        "labelers", "labelers and researchers", "labelers and pm-52m",
    ]  # fmt: skip
    rated = owner.get_by_role("region", name="Elo as a table").locator("tbody th")
    assert rated.last.text_content() == "base"
    shoot(owner, "dashboard")
    assert serious_findings(owner) == []
    for path, name in (("", "studies"), ("/items", "items"), ("/export", "export")):
        owner.goto(f"{server}/manage" + (f"/{study.settings.name}{path}" if path else ""))
        if name == "export":
            owner.get_by_role("button", name="Make a snapshot").click()
            expect(owner.get_by_role("heading", name="1 snapshot")).to_be_visible()
            owner.get_by_text("Data card").click()
        shoot(owner, f"manage-{name}")
        assert serious_findings(owner) == []
    owner.set_viewport_size({"width": 400, "height": 800})
    for path in ("dashboard", "items", "members", "export", ""):
        owner.goto(f"{server}/manage/{study.settings.name}/{path}".rstrip("/"))
        if path == "dashboard":
            expect(owner.get_by_role("heading", name="Models")).to_be_visible()
            shoot(owner, "manage-dashboard-narrow")
        assert owner.evaluate("document.documentElement.scrollWidth") <= 400, path
        assert serious_findings(owner) == []


def test_a_reviewer_reads_transcripts_without_models_names_and_behind_a_click(
    workshop: Workshop, server: str, page: Page
) -> None:
    warning = "Attempts to make a model say harmful things."
    study = workshop.study("dialogue", categories={"attacks": warning})
    task = {"kind": "dialogue", "mode": "redteam"}
    item = NewItem.read({"task": task, "overlap": 3, "categories": ["attacks"]}, what="a test")
    items.add_items(workshop.store, study.id, [item], by=workshop.owner.id)
    attacker = workshop.labeler(study)
    studies.opt_in(workshop.store, study.id, attacker.id, "attacks", client_key="attacks")
    hold_dialogue(workshop, study, attacker, ["How do locks work?", "And picks?"], success=3)
    page.set_viewport_size({"width": 1100, "height": 800})
    sign_in_page(page, server, workshop, person_of_role(workshop, "reviewer"))
    page.goto(f"{server}/manage/{study.settings.name}/transcripts")
    expect(page.get_by_text(warning)).to_be_visible()
    expect(page.get_by_role("link", name="Settings")).to_have_count(0)
    page.get_by_role("link", name="Open the transcript").click()
    expect(page.get_by_text("tension wrench").first).not_to_be_visible()
    page.get_by_text("Show the transcript").click()
    expect(page.get_by_text("And picks?")).to_be_visible()
    assert page.get_by_text("Sure! First you need a tension wrench.").count() == 2
    expect(page.get_by_text("3 of 4", exact=True)).to_be_visible()
    assert "rlhf" not in page.content()
    shoot(page, "manage-transcript")
    assert serious_findings(page) == []
    sign_in_page(page, server, workshop, workshop.owner)
    page.reload()
    assert "rlhf" in page.content()
