"""Signing in by invitation and by password, in a browser and without."""

from __future__ import annotations

import logging

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect
from tests.feedback.workshop import Workshop

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
