"""Care for labelers: warnings, skipping, limits, pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.feedback.workshop import Workshop
from tests.web.seat import Seat


@pytest.fixture
def seat(page: Page, server: str, workshop: Workshop) -> Callable[..., Seat]:
    def take(name: str, *, consent: bool = True, **more: Any) -> Seat:
        at = Seat(page, server, workshop, name, **more)
        at.arrive(keyboard=False, consent=consent)
        return at

    return take


def test_a_sensitive_item_is_hidden_until_it_is_asked_for(seat: Callable[..., Seat]) -> None:
    at = seat("review")
    page = at.page
    warning = page.get_by_role("region", name="Content warning")
    expect(warning).to_contain_text("People are insulted or threatened")
    expect(page.get_by_role("complementary", name="Support")).to_contain_text("0800 555 010")
    expect(page.locator("#stage")).to_have_attribute("inert", "")  # nor by ear, nor by Tab
    at.check("warning")
    at.press("3")
    at.press("v")
    expect(warning).to_be_hidden()
    expect(page.get_by_role("radio", name="3 mostly")).not_to_be_checked()
    page.reload()
    expect(page.get_by_role("radio", name="3 mostly")).to_be_visible()
    at.press("v")
    expect(warning).to_be_visible()


def test_without_consent_nothing_sensitive_comes(seat: Callable[..., Seat]) -> None:
    at = seat("review", consent=False)
    at.kept()


@pytest.mark.parametrize("by", ["click", "key"])
def test_too_upsetting_needs_no_reason_and_costs_nothing(
    seat: Callable[..., Seat], by: str
) -> None:
    at = seat("review", settings={"maximum_labels": 1}, items=2)
    with at.page.expect_response("**/claims"):
        if by == "click":
            at.page.get_by_role("button", name="Too upsetting, skip").click()
        else:
            at.press("Shift+U")
    at.unveil(keyboard=True)  # the other item: the first counted against nothing
    (skipped,) = at.labels("skip")
    assert skipped.body == {"skip_reason": "too upsetting"}


def test_a_plain_skip_says_why(seat: Callable[..., Seat]) -> None:
    at = seat("vote")
    at.press("Shift+S")
    at.page.get_by_label("Or in your own words").fill("both are about eggs, which I never boil")
    at.press("Enter")
    at.kept()
    assert at.labels("skip")[0].body["skip_reason"].startswith("both are about eggs")


def test_enough_sensitive_items_for_a_day(seat: Callable[..., Seat]) -> None:
    at = seat("review", settings={"maximum_sensitive_per_day": 1}, items=2)
    at.press("Shift+U")
    expect(at.page.get_by_role("heading", name="That is enough for today")).to_be_visible()
    at.check()


def test_a_pause_is_suggested_between_items(seat: Callable[..., Seat]) -> None:
    at = seat("vote", settings={"break_minutes": 1e-9}, items=2)
    at.press("a", "Enter")
    dialog = at.page.get_by_role("dialog", name="Time for a pause?")
    expect(dialog).to_be_visible()
    at.check()
    dialog.get_by_role("button", name="Go on").click()
    expect(at.page.get_by_role("radio", name="A is better")).to_be_visible()
    assert len(at.labels()) == 1


def test_twenty_sensitive_items_in_a_row_are_reason_for_a_pause(
    seat: Callable[..., Seat],
) -> None:
    at = seat("review", settings={"break_minutes": None}, items=2)
    at.page.evaluate(
        """() => {
        const name = Object.keys(localStorage).find((one) => one.startsWith("hark care"));
        localStorage.setItem(name, JSON.stringify({ last: Date.now(), sensitive: 19 })); }"""
    )
    at.press("Shift+U")
    expect(at.page.get_by_text("That was 20 difficult items in a row.")).to_be_visible()


def test_single_keys_can_be_turned_off(seat: Callable[..., Seat]) -> None:
    at = seat("vote")
    page = at.page
    at.press("?")
    help_dialog = page.get_by_role("dialog", name="Keys")
    expect(help_dialog.get_by_text("A, B, tie, both bad")).to_be_visible()
    at.check("keys")
    help_dialog.get_by_label("Single letters and digits").uncheck()
    at.press("Escape")
    at.press("a")
    expect(page.get_by_role("radio", name="A is better")).not_to_be_checked()
