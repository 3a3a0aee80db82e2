"""A labeler before a browser: from the invitation to the label, with keys alone or by mouse."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import select
from tests.feedback.workshop import Workshop
from tests.web import chores

from hark.feedback import events, invites, items
from hark.feedback.events import Event
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.tables import assignments

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PASSWORD = "a long password"


class Seat:
    """A study with items, and a page whose labeler was invited to it."""

    def __init__(self, page: Page, server: str, workshop: Workshop, name: str, **more: Any) -> None:
        self.page, self.server, self.workshop, self.name = page, server, workshop, name
        page.emulate_media(
            reduced_motion="reduce"
        )  # colours that are on their way have no contrast
        settings = {
            "instructions": chores.INSTRUCTIONS, "support": chores.SUPPORT, "name": "a-study",
            **chores.SETTINGS[name], **more.pop("settings", {}),
        }  # fmt: skip
        item = chores.item_of(name)
        item["task"] = {**item["task"], **more.pop("task", {})}
        self.study = workshop.study(item["task"]["kind"], **settings)
        count = more.pop("items", 1)
        assert not more, more
        new = [NewItem.read(item, what="a test") for _ in range(count)]
        self.items = items.add_items(workshop.store, self.study.id, new, by=workshop.owner.id)

    def arrive(self, *, keyboard: bool, consent: bool = True) -> None:
        """Take up the invitation, read the instructions, begin."""
        page = self.page
        secret = invites.invite(
            self.workshop.store, by=self.workshop.owner.id, study_id=self.study.id
        )
        page.goto(f"{self.server}/invite/{secret}")
        if keyboard:
            page.keyboard.type("ada@example.org")
            page.keyboard.press("Tab")
            page.keyboard.type(PASSWORD)
            page.keyboard.press("Enter")
        else:
            page.get_by_label("Choose a login").fill("ada@example.org")
            page.get_by_label("Choose a password").fill(PASSWORD)
            page.get_by_role("button", name="Make an account").click()
        page.wait_for_url(f"{self.server}/")
        link = page.get_by_role("heading", name=self.study.settings.title).get_by_role("link")
        self.go(link, keyboard=keyboard)
        page.wait_for_url(f"{self.server}/study/a-study")
        if consent:
            for switch in page.get_by_role("switch").all():
                self.go(switch, keyboard=keyboard, key="Space")
                expect(page.get_by_role("status")).to_contain_text("Noted: you may")
        self.go(page.locator("#begin"), keyboard=keyboard)
        expect(page.locator("#place")).to_have_attribute("aria-busy", "false")

    def go(self, target: Locator, *, keyboard: bool, key: str = "Enter") -> None:
        """Click it; or reach it with Tab, as somebody without a mouse, and press a key."""
        if not keyboard:
            target.click()
            return
        expect(target).to_be_visible()
        for _ in range(60):
            if target.evaluate("element => element === document.activeElement"):
                self.page.keyboard.press(key)
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {target}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def begin(self) -> None:
        """Begin a timed question, under a clock that `let_pass` moves."""
        self.page.clock.install()
        self.page.get_by_role("button", name="Begin").click()
        expect(self.page.get_by_role("timer")).to_be_visible()

    def let_pass(self, seconds: float) -> None:
        """The server's clock and the page's go on by so much, however slow the machine is."""
        before = self.workshop.store.clock
        self.workshop.store.clock = lambda: before() + seconds
        self.page.clock.fast_forward(round(1000 * seconds))

    def unveil(self, *, keyboard: bool) -> None:
        expect(self.page.get_by_role("heading", name="This may be upsetting")).to_be_visible()
        if keyboard:
            self.press("v")
        else:
            self.page.get_by_role("button", name="Show it").click()

    def models_say(self, *texts: str, **broken: Any) -> list[Candidate]:
        """What the models answer, as soon as the page waits for it."""
        expect(self.page.locator("[data-waiting]")).to_be_visible()
        with self.workshop.store.read() as connection:
            held = connection.execute(
                select(assignments).where(assignments.c.state == "open")
            ).one()
            said = len(list(events.iterate(connection, assignment_id=held.id, kinds=["message"])))
        drawn = [Candidate(text=text, snapshot=f"model-{n}") for n, text in enumerate(texts)]
        drawn[-1] = drawn[-1].model_copy(update=broken)
        return items.put_candidates(
            self.workshop.store, held.item_id, drawn, assignment_id=held.id, turn=said - 1
        )

    def labels(self, *kinds: str) -> list[Event]:
        return self.workshop.events(study_id=self.study.id, kinds=kinds or events.LABELS)

    def kept(self) -> None:
        """Wait until the page says that all is done."""
        expect(self.page.get_by_role("heading", name="Nothing waits for you now")).to_be_visible()

    def check(self, name: str = "") -> None:
        """No serious finding of axe; and a picture, where they are wanted."""
        check_page(self.page)
        if name:
            picture(self.page, name)
            self.page.emulate_media(color_scheme="dark")
            check_page(self.page)
            self.page.emulate_media(color_scheme="light")


def check_page(page: Page) -> None:
    """Nothing that keeps people out, and nothing wider than the window."""
    found = Axe().run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, "\n".join(
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}" for one in serious
    )
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"the page is {wide} pixels wider than its window"


def picture(page: Page, name: str) -> None:
    """Below the directory in HARK_SCREENSHOTS, if it is set: how docs/feedback is renewed."""
    folder = os.environ.get("HARK_SCREENSHOTS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    taken = Image.open(io.BytesIO(page.screenshot(animations="disabled", full_page=True)))
    small = taken.convert("RGB").quantize(colors=256, dither=Image.Dither.NONE)
    small.save(Path(folder) / f"{name}.png", optimize=True)
