"""A crowd of simulated labelers at once, each in a thread with a client of its own."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from hark.loop.simulation.characters import Character
from hark.loop.simulation.labeler import Diary, SimulatedLabeler, wait_for_replies
from hark.loop.simulation.latency import Timed, TimedTransport
from hark.loop.simulation.ledger import Ledger, Receipt
from hark.settings import Settings
from hark.web.client import FeedbackClient, Patience

Seat = Callable[[Character], FeedbackClient]
"""Gives a character an account in the study, and a client that is signed in."""


class WorkSettings(Settings):
    """How a crowd works."""

    labels_each: Annotated[int, Field(ge=1)] | None = None
    """Items that each does; None is until nothing is left."""
    pace: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that they wait for each that a person would take; 0 is as fast as can be."""
    away_seconds: Annotated[float, Field(ge=0)] = 2.0
    """How long somebody is gone who walks off."""
    arrival_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Within which they come; to check a password takes long."""
    pages: bool = False
    """Load the pages that a browser would; needs seats with a session."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a crowd did."""

    diaries: tuple[Diary, ...]
    notes: tuple[Timed, ...]
    seconds: float

    @property
    def receipts(self) -> list[Receipt]:
        """Of all labelers."""
        return [one for diary in self.diaries for one in diary.receipts]

    @property
    def errors(self) -> list[str]:
        """Of all labelers."""
        return [one for diary in self.diaries for one in diary.errors]


@dataclass(frozen=True, kw_only=True)
class Invited:
    """Seats by invitation: an account is made, left, and entered again with its password."""

    owner: FeedbackClient
    url: str
    study: str
    notes: list[Timed]
    patience: Patience | None = None

    def __call__(self, character: Character) -> FeedbackClient:
        """Invite a character and sign it in."""
        client = timed_client(self.url, self.notes, patience=self.patience)
        # Accounts that anybody could enter who knows the seed do not belong on a real server.
        login, password = f"{character.name}-{secrets.token_hex(4)}", secrets.token_urlsafe(24)
        try:
            client.accept_invite(self.owner.invite(study=self.study).secret, login, password)
            client.log_out()
            client.log_in(login, password)
        except BaseException:
            client.close()
            raise
        return client


def timed_client(
    url: str, notes: list[Timed], token: str | None = None, *, patience: Patience | None = None
) -> FeedbackClient:
    """A client whose requests are timed."""
    return FeedbackClient(url, token, transport=TimedTransport(notes), patience=patience)


def work(
    characters: Sequence[Character],
    seat: Seat,
    study: str,
    settings: WorkSettings,
    *,
    notes: list[Timed],
    replies: Callable[[FeedbackClient, str], bool] = wait_for_replies,
    on_item: Callable[[], None] = lambda: None,
    ledger: Ledger | None = None,
) -> Outcome:
    """Let all of them label at once, until each has ended.

    notes: where the clients of `seat` note their requests. on_item: called, in any thread, after
    each item that is done. ledger: of what was sent before, by labelers of the same names; what has
    no receipt there is sent again first.
    """
    diaries: list[Diary] = []

    def one(character: Character) -> None:
        diary = Diary(character=character)
        diaries.append(diary)
        time.sleep(settings.arrival_seconds * character.draw("arrival"))
        try:
            with seat(character) as client:
                if ledger is not None:
                    ledger.send_again(character.name, client)
                SimulatedLabeler(
                    character=character,
                    client=client,
                    study=study,
                    pace=settings.pace,
                    away_seconds=settings.away_seconds,
                    pages=settings.pages,
                    replies=replies,
                    on_item=on_item,
                    diary=diary,
                    ledger=ledger,
                ).work(settings.labels_each)
        except Exception as error:  # A defect of one must not pass for a quiet labeler.
            diary.errors.append(f"{character.name}: {type(error).__name__}: {error}")

    began = time.perf_counter()
    threads = [threading.Thread(target=one, args=(character,)) for character in characters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Outcome(
        diaries=tuple(sorted(diaries, key=lambda diary: diary.character.index)),
        notes=tuple(notes),
        seconds=time.perf_counter() - began,
    )
