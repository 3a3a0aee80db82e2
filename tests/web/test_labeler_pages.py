"""The pages around the work: studies, consent, own labels, the account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select
from tests.feedback.workshop import Workshop
from tests.web.conftest import held_back
from tests.web.seat import NARROW, PASSWORD, Seat, check_page, picture

from hark.feedback import invites, sign_in, studies
from hark.feedback.events import iso_time
from hark.feedback.refusals import NotSignedInError
from hark.feedback.tables import members


@pytest.fixture
def seat(page: Page, server: str, workshop: Workshop) -> Callable[..., Seat]:
    def take(name: str, *, consent: bool = True, **more: Any) -> Seat:
        at = Seat(page, server, workshop, name, **more)
        at.arrive(keyboard=False, consent=consent)
        return at

    return take


def test_the_doors_are_open_to_everyone(page: Page, server: str, workshop: Workshop) -> None:
    at = Seat(page, server, workshop, "vote")
    page.goto(f"{server}/login")
    at.check("login")
    page.goto(f"{server}/invite/nonsense")
    expect(page.get_by_role("alert")).to_contain_text("used up")
    at.check()
    page.goto(f"{server}/")
    page.wait_for_url(f"{server}/login")


@pytest.mark.parametrize("narrow", [False, True])
def test_home_counts_what_waits_and_what_is_done(seat: Callable[..., Seat], narrow: bool) -> None:
    at = seat("vote", items=3)
    page = at.page
    at.press("t", "Enter")
    expect(page.locator("#progress")).to_have_text("1 item done")
    expect(page.get_by_role("radio", name="Tie")).not_to_be_checked()  # the next item
    with page.expect_response("**/claims"):
        at.press("Shift+U")
    other = at.workshop.study("ranking", title="Ranking gardening advice", maximum_labels=40)
    with at.workshop.store.read() as connection:
        (person,) = connection.execute(select(members.c.person_id)).scalars()
    studies.join(at.workshop.store, other.id, person)
    if narrow:
        page.set_viewport_size(NARROW)
    page.goto(f"{at.server}/")
    study = page.get_by_role("article", name="Which model answers better?")
    figures = study.locator("dd").all_inner_texts()
    assert figures == ["0", "1", "1", "1"]  # waiting, done, today, skipped; one is held
    expect(study.get_by_text("An item is still in your hands.")).to_be_visible()
    at.check("" if narrow else "home")
    study.get_by_role("link", name="Go on").click()
    page.wait_for_url(f"{at.server}/study/a-study/work")


def test_the_study_page_shows_markdown_and_keeps_consent(
    page: Page, server: str, workshop: Workshop
) -> None:
    at = Seat(page, server, workshop, "redteam", settings={"instructions": "# Read\n\n<b>this</b>"})
    at.arrive(keyboard=False)
    page.goto(f"{server}/study/a-study")
    expect(page.get_by_role("heading", name="Read")).to_be_visible()
    expect(page.get_by_text("<b>this</b>")).to_be_visible()
    switch = page.get_by_role("switch", name="abuse")
    expect(switch).to_be_checked()
    at.check()
    switch.uncheck()
    expect(page.get_by_role("status")).to_contain_text("no more such items")
    page.reload()
    expect(switch).not_to_be_checked()
    agreed = [one.body["agrees"] for one in at.labels("consent")]
    assert agreed == [True, False]


def test_consent_is_taken_back_though_the_scripts_are_late(
    page: Page, server: str, workshop: Workshop
) -> None:
    at = Seat(page, server, workshop, "redteam")
    at.arrive(keyboard=False)
    with held_back(page, "study.js"):
        page.goto(f"{server}/study/a-study", wait_until="commit")
        page.get_by_role("switch", name="abuse").uncheck()
    expect(page.get_by_role("status")).to_contain_text("no more such items")
    assert [one.body["agrees"] for one in at.labels("consent")] == [True, False]


def test_a_study_of_others_is_not_there(seat: Callable[..., Seat], workshop: Workshop) -> None:
    at = seat("vote")
    workshop.study("ranking", title="Secret")
    response = at.page.goto(f"{at.server}/study/ranking-study")
    assert response is not None
    assert response.status == 404
    expect(at.page.get_by_text("Secret")).to_have_count(0)
    check_page(at.page)


def test_a_label_is_corrected_and_taken_back(seat: Callable[..., Seat]) -> None:
    at = seat("vote", items=2)
    page = at.page
    at.press("a", "Enter")
    expect(page.locator("#progress")).to_have_text("1 item done")
    at.press("b", "Enter")
    at.kept()
    page.goto(f"{at.server}/study/a-study/done")
    expect(page.get_by_text("B is better")).to_be_visible()
    at.check("history")
    page.get_by_role("link", name="Correct").last.click()
    expect(page.get_by_role("radio", name="A is better")).to_be_checked()
    at.check()
    at.press("x", "Enter")
    page.wait_for_url(f"{at.server}/study/a-study/done")
    expect(page.get_by_text("both are bad")).to_be_visible()
    page.get_by_role("button", name="Take back").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("Taken back.")).to_be_visible()
    expect(page.get_by_role("button", name="Take back")).to_have_count(1)
    first, second, third, fourth = at.labels("vote", "retraction")
    assert {third.supersedes, fourth.supersedes} <= {first.id, second.id, third.id}
    assert fourth.kind == "retraction"


@pytest.mark.parametrize(
    ("name", "keys", "changes", "field"),
    [
        ("audit", ["n", "2", "Enter"], ["b", "Enter"], ("matching", 1)),
        ("edit", ["Control+Enter"], ["Control+Enter"], ("response", None)),
    ],
)
def test_other_labels_can_be_corrected_too(
    seat: Callable[..., Seat],
    name: str,
    keys: list[str],
    changes: list[str],
    field: tuple[str, Any],
) -> None:
    at = seat(name)
    page = at.page
    at.press(*keys)
    at.kept()
    page.goto(f"{at.server}/study/a-study/done")
    page.get_by_role("link", name="Correct").click()
    if name == "edit":
        page.get_by_label("The response, mended").fill("Otherwise.")
        field = ("response", "Otherwise.")
    else:
        expect(page.get_by_role("radio", name="2", exact=True)).to_be_checked()
    at.press(*changes)
    page.wait_for_url(f"{at.server}/study/a-study/done")
    last = at.labels()[-1]
    assert last.body["answer"][field[0]] == field[1]
    assert last.supersedes


def test_the_account_password_tokens_and_being_forgotten(
    seat: Callable[..., Seat], workshop: Workshop
) -> None:
    at = seat("vote")
    page = at.page
    page.goto(f"{at.server}/account")
    page.get_by_label("Present password").fill("not the password")
    page.get_by_label("New password").fill("another long password")
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_role("alert")).to_have_text("the present password is wrong")
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_role("status").first).to_contain_text("is changed")
    page.get_by_label("What it is for").fill("notebook / 1")
    page.get_by_label("Days it is good for").fill("7")
    page.get_by_role("button", name="Make a token").click()
    secret = page.locator("#secret")
    expect(secret).to_contain_text("hark_")
    token = secret.inner_text()
    person = sign_in.find_api_token(workshop.store, token)
    page.reload()
    at.check("account")
    (listed,) = sign_in.list_api_tokens(workshop.store, person.id)
    assert listed.expires_at - listed.created_at == pytest.approx(7 * 86400, abs=1)
    row = page.get_by_role("row", name="notebook")
    expect(row).to_contain_text(iso_time(listed.expires_at)[:10])
    expect(row).not_to_contain_text("expired")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_have_text("Revoked.")
    with pytest.raises(NotSignedInError):
        sign_in.find_api_token(workshop.store, token)
    page.get_by_role("button", name="Forget me…").click()
    page.get_by_label("Your login").fill("somebody else")
    page.get_by_label("Your password").fill("not the password")
    page.get_by_role("button", name="Erase my name").click()
    alert = page.get_by_role("dialog").get_by_role("alert")
    expect(alert).to_contain_text("nothing was erased")
    at.check()
    page.get_by_label("Your login").fill("ada@example.org")
    page.get_by_role("button", name="Erase my name").click()
    expect(alert).to_have_text("the present password is wrong")
    assert workshop.events(kinds=["forgotten"]) == []
    page.get_by_label("Your password").fill("another long password")
    page.get_by_role("button", name="Erase my name").click()
    page.wait_for_url(f"{at.server}/login")
    assert [one.body for one in workshop.events(kinds=["forgotten"])] == [
        {"labeler": person.pseudonym}
    ]


def test_logging_out_ends_the_session(seat: Callable[..., Seat]) -> None:
    at = seat("vote")
    at.page.get_by_role("button", name="Log out").click()
    at.page.wait_for_url(f"{at.server}/login")
    at.page.goto(f"{at.server}/account")
    at.page.wait_for_url(f"{at.server}/login?next=%2Faccount")


def test_an_invitation_and_a_study_look_right(page: Page, server: str, workshop: Workshop) -> None:
    at = Seat(page, server, workshop, "redteam", items=12)
    secret = invites.invite(workshop.store, by=workshop.owner.id, study_id=at.study.id)
    page.goto(f"{server}/invite/{secret}")
    at.check("invite")
    at.arrive(keyboard=False)
    page.goto(f"{server}/study/a-study")
    picture(page, "study")
