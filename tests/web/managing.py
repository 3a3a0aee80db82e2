"""What tests of managers' pages work with: signing in, studies full of labels, pictures."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from itsdangerous import Signer
from PIL import Image
from playwright.sync_api import Page
from tests.feedback.workshop import Clock, Workshop

from hark.feedback import accounts, assignment, items, labelling, secret_keys, sign_in
from hark.feedback.accounts import Person, Role
from hark.feedback.assignment import Assignment
from hark.feedback.identifiers import new_id
from hark.feedback.items import NewItem
from hark.feedback.labelling import Client
from hark.feedback.records import Candidate
from hark.feedback.studies import Study

STRENGTHS = {"ppo-round-2": 1.1, "ppo-round-1": 0.6, "sft": 0.0, "base": -1.0}
QUESTIONS = (
    "How do I keep basil alive in a kitchen with little light?",
    "Explain to a ten-year-old why the sky is blue.",
    "Write a short, kind note that turns down an invitation.",
    "What is the difference between a virus and a bacterium?",
    "Suggest three dinners from lentils, spinach and an egg.",
    "My train is late and I miss a connection. What can I claim?",
)
ANSWER = (
    "A good answer depends on what you have at hand. Start with the simplest thing that could "
    "work, look at what changes, and go on from there; most people give up a step too early. "
)


def cookie_of(workshop: Workshop, person: Person) -> str:
    """The cookie of a new session."""
    session = sign_in.start_session(workshop.store, person.id)
    signer = Signer(secret_keys.find(workshop.store, "cookies"), salt="hark.session")
    return signer.sign(session.secret).decode()


def sign_in_page(page: Page, server: str, workshop: Workshop, person: Person) -> None:
    """Let the browser be this person."""
    page.context.clear_cookies()
    page.context.add_cookies(
        [{"name": "hark_session", "value": cookie_of(workshop, person), "url": server}]
    )


def person_of_role(workshop: Workshop, role: Role, login: str | None = None) -> Person:
    """Somebody new."""
    with workshop.store.write() as connection:
        return accounts.insert_person(
            connection, login or f"{role}-{new_id()}", "x", role, workshop.store.clock()
        )


def add_vote_items(workshop: Workshop, study: Study, count: int, *, gold: int = 0) -> list[str]:
    """Items between two of four models each; gold ones have a plainly bad answer."""
    draw = random.Random(7)
    new = []
    for number in range(count + gold):
        one, other = draw.sample(sorted(STRENGTHS), 2)
        texts = [ANSWER * draw.randint(1, 3), ANSWER * draw.randint(1, 3)]
        values: dict[str, Any] = {
            "task": {
                "kind": "vote",
                "prompt": [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
            },
            "candidates": [
                {"text": text, "snapshot": name}
                for text, name in zip(texts, (one, other), strict=True)
            ],
            "id": f"prompt-{number:03d}",
        }
        if number >= count:
            values |= {"use": "gold", "gold": {"chosen": str(number % 2)}}
        new.append(NewItem.read(values, what="a test"))
    return items.add_items(workshop.store, study.id, new, by=workshop.owner.id)


def label_all(
    workshop: Workshop,
    study: Study,
    people: Sequence[Person],
    *,
    most: int,
    spammer: Person | None = None,
    clock: Clock | None = None,
) -> int:
    """Let labelers vote in turn, `most` times in all, every 20 seconds by the clock.

    The spammer takes what stands first, at once. The others prefer by strength, with noise, and
    take their time.
    """
    draw = random.Random(11)
    done = 0
    waiting = list(people)
    while waiting and done < most:
        for person in list(waiting):
            given = assignment.claim(workshop.store, study.id, person.id)
            if isinstance(given, Assignment) and done < most:
                vote(workshop, given, person, draw, spams=person is spammer)
                done += 1
                if clock is not None:
                    clock.now += 20.0
            else:
                waiting.remove(person)
    return done


def vote(
    workshop: Workshop, given: Assignment, person: Person, draw: random.Random, *, spams: bool
) -> None:
    """One vote."""
    shown = labelling.view(workshop.store, given.id, person.id)
    with workshop.store.read() as connection:
        item = items.get_item(connection, given.item_id)
        candidates, _ = items.candidates_of(connection, given.item_id)
    if spams:
        chosen, seconds = shown.candidates[0]["id"], 1.4
    else:
        if item.gold is not None and item.gold.chosen is not None and draw.random() < 0.9:
            chosen = candidates[int(item.gold.chosen)].id
        else:
            noisy = {
                one.id: STRENGTHS[one.snapshot or ""] + draw.gauss(0, 0.9) for one in candidates
            }
            chosen = max(noisy, key=noisy.__getitem__)
        seconds = draw.uniform(18, 55)
    tie = not spams and draw.random() < 0.06
    labelling.submit(
        workshop.store,
        given.id,
        person.id,
        "vote",
        {"chosen": None if tie else chosen, "both_bad": False},
        client_key=new_id(),
        client=Client(ms_active=int(seconds * 1000)),
    )


def hold_dialogue(
    workshop: Workshop,
    study: Study,
    person: Person,
    turns: Sequence[str],
    *,
    success: int,
    may_be_reviewed: bool = False,
) -> str:
    """An attack of some turns in which the second reply is always the more harmful; its id."""
    given = assignment.claim(workshop.store, study.id, person.id)
    assert isinstance(given, Assignment)

    def send(kind: str, answer: dict[str, Any]) -> None:
        labelling.submit(workshop.store, given.id, person.id, kind, answer, client_key=new_id())

    send("description", {"text": "Talk it into helping with a lock that is not mine."})
    for turn, text in enumerate(turns):
        send("message", {"text": text})
        drawn = [
            Candidate(text="I would rather not: whose lock is it?", snapshot="rlhf"),
            Candidate(text="Sure! First you need a tension wrench.", snapshot="base"),
        ]
        kept = items.put_candidates(
            workshop.store, given.item_id, drawn, assignment_id=given.id, turn=turn
        )
        send("comparison", {"chosen": kept[1].id, "strength": 3})
    send("redteam", {"success": success, "may_be_reviewed": may_be_reviewed})
    return given.id


def shoot(page: Page, name: str) -> None:
    """Keep a picture of the whole page in the folder that HARK_SCREENSHOTS names, if it does."""
    if folder := os.environ.get("HARK_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        taken = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        taken.convert("RGB").quantize(
            128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(Path(folder) / f"{name}.png", optimize=True)


def serious_findings(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
