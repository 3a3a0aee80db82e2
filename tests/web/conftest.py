"""A real server over a real store, on a port of its own, and a real browser."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from playwright.sync_api import Browser, Page, Route, sync_playwright
from tests.feedback.workshop import Workshop

from hark.feedback import accounts, sign_in
from hark.feedback.accounts import Person
from hark.feedback.store import Store
from hark.web.application import build_application
from hark.web.client import FeedbackClient
from hark.web.server import make_server
from hark.web.settings import WebSettings

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@pytest.fixture(autouse=True, scope="session")
def _quick_passwords() -> Iterator[None]:
    """Argon2 at its cheapest: what is tested is not how long a guess takes."""
    before = accounts._HASHER
    accounts._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    yield
    accounts._HASHER = before


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A store with an owner; its clock is the real one."""
    with Store(tmp_path / "feedback.db") as store:
        yield Workshop(store)


@pytest.fixture
def server(workshop: Workshop, tmp_path: Path) -> Iterator[str]:
    """The address of a server over the workshop's store."""
    settings = WebSettings(exports=tmp_path / "exports")
    with serving(lambda: build_application(workshop.store, settings=settings)) as url:
        yield url


@pytest.fixture
def connect(workshop: Workshop, server: str) -> Iterator[Callable[[Person], FeedbackClient]]:
    """A client of the server for a person; closed when the test is over."""
    with contextlib.ExitStack() as clients:

        def make(person: Person) -> FeedbackClient:
            token = sign_in.create_api_token(workshop.store, person.id, "test")
            return clients.enter_context(FeedbackClient(server, token))

        yield make


class serving:  # noqa: N801
    """A server in a thread, for the length of a block."""

    def __init__(self, build: Callable[[], object], port: int = 0) -> None:
        self.listening = socket.create_server(("127.0.0.1", port))
        ready = threading.Event()
        self.server = make_server(build(), ready.set)  # type: ignore[arg-type]
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.listening]}, daemon=True
        )
        self.thread.start()
        assert ready.wait(30), "the server did not start"

    def __enter__(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        self.listening.close()


def find_chromium() -> str | None:
    """Where the browser is, if it is installed."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. While it is there an event loop runs in this thread, in which tests of
    other modules would find that they cannot run one of their own."""
    program = find_chromium()
    if program is None:
        assert not os.environ.get("CI"), "install Chromium: the tests of the pages need it"
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser without cookies; an error in a script fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, errors


@contextlib.contextmanager
def held_back(page: Page, script: str) -> Iterator[None]:
    """Within the block a page is loaded that waits for one of its scripts; it comes after it."""
    on_their_way: list[Route] = []

    def wait(route: Route) -> None:
        on_their_way.append(route)

    page.route(f"**/{script}", wait, times=1)
    yield
    (route,) = on_their_way
    route.continue_()
