"""What every test finds, however the tests were started."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _interrupts_are_heard() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, and children would inherit that:
    those that a test interrupts would go on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
