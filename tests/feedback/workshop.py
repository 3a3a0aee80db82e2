"""What tests of the feedback store work with: a clock, people, studies and items."""

from __future__ import annotations

from typing import Any

from hark.feedback import accounts, events, items, studies
from hark.feedback.accounts import Person
from hark.feedback.events import Event
from hark.feedback.identifiers import new_id
from hark.feedback.items import NewItem
from hark.feedback.store import Store
from hark.feedback.studies import Study, StudySettings

ATTACK = "attack"
"""The category of red-team items, to which the workshop's labelers agree."""


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Workshop:
    """A store with an owner, and short ways to make studies and labelers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.write() as connection:
            self.owner = accounts.insert_person(connection, "owner", "x", "owner", store.clock())

    def study(self, task: str = "vote", *, open_it: bool = True, **settings: Any) -> Study:
        given: dict[str, Any] = {
            "name": f"{task}-study",
            "title": "A study",
            "instructions": "Choose.",
        }
        if task == "dialogue":
            given |= {"categories": {ATTACK: "Attacks on a model."}}
        parsed = StudySettings.parse({**given, "task": task, **settings})
        made = studies.create_study(self.store, parsed, by=self.owner.id)
        if open_it:
            made = studies.set_state(self.store, made.id, "open", by=self.owner.id)
        return made

    def labeler(self, study: Study | None = None, *, held_out: bool = False) -> Person:
        with self.store.write() as connection:
            name = f"labeler-{new_id()}"
            person = accounts.insert_person(connection, name, "x", "labeler", self.store.clock())
        if study is not None:
            studies.join(self.store, study.id, person.id, held_out=held_out)
            if ATTACK in study.settings.categories:
                studies.opt_in(self.store, study.id, person.id, ATTACK, client_key="attack")
        return person

    def votes(self, study: Study, count: int, **fields: Any) -> list[str]:
        """Items of two readable responses each."""
        new = [vote_item(prompt=f"Question {number}", **fields) for number in range(count)]
        return items.add_items(self.store, study.id, new, by=self.owner.id)

    def events(self, **where: Any) -> list[Event]:
        with self.store.read() as connection:
            return list(events.iterate(connection, **where))


def vote_item(
    prompt: str = "Question", texts: tuple[str, ...] = ("a", "b"), **fields: Any
) -> NewItem:
    """A vote between responses of two snapshots."""
    candidates = [{"text": text, "snapshot": f"model-{text}"} for text in texts]
    task = {"kind": "vote", "prompt": [{"role": "user", "content": prompt}]}
    return NewItem.read({"task": task, "candidates": candidates, **fields}, what="a test")
