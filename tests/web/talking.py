"""A study whose models answer, a labeler who talks with them, and how replies are read."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from tests.feedback.workshop import Workshop

from hark.feedback import assignment, items, labelling, sign_in
from hark.feedback.accounts import Person
from hark.feedback.assignment import Assignment
from hark.feedback.items import NewItem
from hark.feedback.labelling import View
from hark.feedback.studies import Study

Result = TypeVar("Result")
_KEYS = itertools.count()


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, in a thread: Playwright leaves a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def add(workshop: Workshop, study: Study, task: dict[str, Any], **fields: Any) -> str:
    """One item of a study."""
    item = NewItem.read({"task": task, **fields}, what="a test")
    return items.add_items(workshop.store, study.id, [item], by=workshop.owner.id)[0]


@dataclass(frozen=True)
class Conversation:
    """A labeler with a live assignment."""

    workshop: Workshop
    person: Person
    id: str
    token: str

    @classmethod
    def begin(cls, workshop: Workshop, task: dict[str, Any] | None = None, **settings: Any) -> Any:
        """A study of one dialogue, claimed by a labeler."""
        task = task or {"kind": "dialogue"}
        # Tiny models err when they are given the chance.
        settings = {"sampling": {"temperature": 0.1}, **settings}
        study = workshop.study(task["kind"], **settings)
        add(workshop, study, task)
        person = workshop.labeler(study)
        claimed = assignment.claim(workshop.store, study.id, person.id)
        assert isinstance(claimed, Assignment)
        token = sign_in.create_api_token(workshop.store, person.id, "test")
        return cls(workshop, person, claimed.id, token)

    def say(self, text: str = "Hello") -> None:
        self.step("message", {"text": text})

    def step(self, kind: str, answer: dict[str, Any]) -> None:
        key = f"key-{next(_KEYS)}"
        labelling.submit(self.workshop.store, self.id, self.person.id, kind, answer, client_key=key)

    @property
    def view(self) -> View:
        return labelling.view(self.workshop.store, self.id, self.person.id)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def events(self, server: str) -> Iterator[tuple[str, Any]]:
        """The stream of replies, event by event, until it ends."""
        url = f"{server}/api/v1/assignments/{self.id}/replies"
        with (
            httpx2.Client(headers=self.headers, timeout=30) as client,
            client.sse(url) as source,
        ):
            assert source.response.status_code == 200, source.response.read()
            for event in source:
                yield event.event, json.loads(event.data)


def texts(events: list[tuple[str, Any]]) -> dict[int, str]:
    """What a page would show at each place after these events."""
    shown: dict[int, str] = {}
    for kind, data in events:
        if kind == "again":
            shown.clear()
        if kind == "delta":
            shown[data["place"]] = shown.get(data["place"], "") + data["text"]
    return shown
