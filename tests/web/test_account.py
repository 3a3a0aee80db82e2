"""Signing in by invitation and by password, in a browser and without."""

from __future__ import annotations

import logging

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect
from tests.feedback.workshop import Workshop
from tests.web.managing import cookie_of

from hark.feedback import invites
from hark.web.application import build_application


def invitation(workshop: Workshop) -> str:
    study = workshop.study()
    return invites.invite(workshop.store, by=workshop.owner.id, study_id=study.id)


def test_an_invited_labeler_makes_an_account_and_logs_in_again(
    workshop: Workshop, server: str, page: Page
) -> None:
    page.goto(f"{server}/invite/{invitation(workshop)}")
    page.get_by_label("Choose a login").fill("ada@example.org")
    page.get_by_label("Choose a password").fill("a long password")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server}/")
    page.context.clear_cookies()
    page.goto(f"{server}/login")
    page.get_by_label("Login").fill("ada@example.org")
    page.get_by_label("Password").fill("a wrong password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("the login or the password is wrong")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server}/")


def test_the_login_leads_back_to_the_page_that_was_asked_for(
    workshop: Workshop, server: str, page: Page
) -> None:
    study = workshop.study()
    secret = invites.invite(workshop.store, by=workshop.owner.id, study_id=study.id)
    invites.accept(workshop.store, secret, "ada@example.org", "a long password")
    asked = f"{server}/study/{study.settings.name}?a=b%20c"
    page.goto(asked)
    assert page.url.startswith(f"{server}/login?next=")
    page.get_by_label("Login").fill("ada@example.org")
    page.get_by_label("Password").fill("a wrong password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    page.wait_for_url(asked)


ELSEWHERE = (
    "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
    "\t//evil.example", "/\n/evil.example", " //evil.example", "https://evil.example",
    "https:evil.example", "javascript:alert(1)", "evil.example", "@evil.example", ".", "",
    "/login", "/login?next=/login", "/\u2028/evil.example",
)  # fmt: skip


@pytest.mark.parametrize("asked", ELSEWHERE)
def test_the_login_leads_nowhere_else(workshop: Workshop, asked: str) -> None:
    study = workshop.study()
    secret = invites.invite(workshop.store, by=workshop.owner.id, study_id=study.id)
    invites.accept(workshop.store, secret, "ada@example.org", "a long password")
    client = TestClient(build_application(workshop.store), follow_redirects=False)
    shown = client.get("/login", params={"next": asked})
    assert 'name="next"' not in shown.text
    given = {"login": "ada@example.org", "password": "a long password", "next": asked}
    response = client.post("/login", data=given)
    assert (response.status_code, response.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("method", "path", "heading"),
    [
        ("GET", "/nowhere", "Not found"),
        ("GET", "/study/nothing", "Not found"),
        ("GET", "/manage", "You may not do this"),
        ("POST", "/nowhere", "Not found"),
        ("PUT", "/login", "This was not done"),
    ],
)
def test_a_refusal_is_headed_by_what_it_is(
    workshop: Workshop, method: str, path: str, heading: str
) -> None:
    cookies = {"hark_session": cookie_of(workshop, workshop.labeler())}
    client = TestClient(build_application(workshop.store), cookies=cookies)
    text = client.request(method, path).text
    assert f"<h1>{heading}</h1>" in text
    assert f"<title>{heading} · hark</title>" in text


@pytest.mark.parametrize("cookie", ["", "x", "x.y", "a" * 5000])
def test_a_forged_cookie_is_refused_and_logged(
    workshop: Workshop, cookie: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = TestClient(build_application(workshop.store), follow_redirects=False)
    caplog.set_level(logging.WARNING, "hark.web")
    response = client.post("/logout", headers={"Cookie": f"hark_session={cookie}"})
    assert response.status_code == 401
    assert "refused 401 POST /logout" in caplog.text


def test_a_form_from_another_site_is_refused(workshop: Workshop) -> None:
    client = TestClient(build_application(workshop.store))
    foreign = {"Origin": "https://elsewhere.example"}
    response = client.post("/login", data={"login": "a", "password": "b"}, headers=foreign)
    assert response.status_code == 403


def test_a_body_of_more_than_a_megabyte_is_refused_whether_or_not_it_says_so(
    workshop: Workshop,
) -> None:
    client = TestClient(build_application(workshop.store))
    assert client.post("/login", content=b"x" * 1_100_000).status_code == 413
    pieces = (b"x" * 100_000 for _ in range(11))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=pieces, headers=form).status_code == 413
