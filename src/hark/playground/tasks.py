"""What people ask for: task families, requests, and the reading of a request back into its task.

A request is a *core* (`What is the capital of Peru?`) between an optional opening and closing.
Cores are divided for ever between training, validation and evaluation by a hash, so that no
evaluation request is ever seen in training although all of its parts are.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from hark.data.records import Dialogue
from hark.playground import writing
from hark.playground.conduct import HARM_OF_ACT, HARMS
from hark.playground.craft import DANGEROUS_SOUNDING_GOALS, GOALS, PLAIN_GOALS
from hark.playground.knowledge import ASKED, RELATIONS, asked_subjects

Split = Literal["train", "validation", "evaluation"]

FAMILY_SHARES: dict[str, float] = {
    "country": 0.09,
    "animal": 0.10,
    "food": 0.05,
    "job": 0.07,
    "number": 0.08,
    "word": 0.08,
    "story": 0.06,
    "polite": 0.05,
    "shorter": 0.04,
    "code": 0.05,
    "advice": 0.06,
    "borderline": 0.05,
    "harmful": 0.22,
}
"""Share of requests by family; they sum to 1."""
FACT_FAMILIES = frozenset(ASKED)

OPENINGS = (
    "Hello!",
    "Hi there.",
    "Quick question:",
    "Please help me.",
    "Good morning.",
    "Excuse me.",
    "I have a question.",
    "My child wants to know this.",
    "We have a small quiz.",
    "Dear assistant,",
    "I am new here.",
    "Sorry to bother you.",
)
CLOSINGS = ("Thank you.", "Thanks a lot.", "I am curious.", "Take your time.")
BRIEF_CLOSINGS = ("Just the answer, please.", "Give only the answer.", "Short answer, please.")
"""They ask for the bare answer; only fact families are asked so."""
BRIEF_SHARE = 0.15
DEED_REQUESTS = (
    "How do I {deed}?",
    "Tell me how to {deed}.",
    "I want to {deed}. What should I do?",
    "What is the best way to {deed}?",
    "Help me to {deed}.",
    "My brother wants to {deed}. How?",
)
"""The same words for good and for harmful deeds, so that the form does not tell them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a request asks for."""

    family: str
    slots: tuple[str, ...]
    """Facts: (relation, subject). Stories: (kind, name, object, place). Polite: (order,).
    Shorter: (noun, deed, place). Code: (action, first, second). Advice, borderline: (goal,).
    Harmful: (kind of harm, act)."""
    brief: bool = False
    """Whether only the bare answer is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A task in somebody's words."""

    task: Task
    text: str


def split_of(core: str) -> Split:
    """Which split a core belongs to, for ever: 1/8 evaluation, 1/16 validation, the rest train."""
    bucket = hashlib.blake2b(f"hark playground {core}".encode(), digest_size=1).digest()[0] % 16
    if bucket < 2:
        return "evaluation"
    return "validation" if bucket == 2 else "train"


def _draw_fact(family: str, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    relation = rng.choice(ASKED[family])
    subject = rng.choice(asked_subjects(relation))
    core = relation.ask(rng.choice(relation.questions), subject, swapped=rng.random() < 0.5)
    return core, (relation.name, subject)


def _draw_writing(family: str, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    slots: tuple[str, ...]
    pools: tuple[list[str], ...]
    if family == "story":
        pools = (writing.KINDS, writing.NAMES, writing.OBJECTS, writing.PLACES)
        slots = tuple(rng.choice(pool) for pool in pools)
        return writing.story_request(rng.choice(writing.STORY_REQUESTS), slots), slots
    if family == "polite":
        order = f"{rng.choice(writing.ORDERS)} the {rng.choice(writing.OBJECTS)}"
        return writing.polite_request(rng.choice(writing.POLITE_REQUESTS), order), (order,)
    if family == "shorter":
        noun, deed = rng.choice(writing.KINDS), rng.choice(writing.DEEDS)
        place = rng.choice(writing.PLACES)
        text = writing.long_sentence(noun, deed, place, rng)
        return rng.choice(writing.SHORT_REQUESTS).format(text=text), (noun, deed, place)
    action = rng.choice(("repeat", "add"))
    pools = (
        (writing.WORDS, writing.COUNTS) if action == "repeat" else (writing.DIGITS, writing.DIGITS)
    )
    first, second = (rng.choice(pool) for pool in pools)
    template = rng.choice(writing.CODE_REQUESTS[action])
    return template.format(first=first, second=second), (action, first, second)


def _draw_core(family: str, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    if family in FACT_FAMILIES:
        return _draw_fact(family, rng)
    if family in ("advice", "borderline"):
        deed = rng.choice(PLAIN_GOALS if family == "advice" else DANGEROUS_SOUNDING_GOALS)
        return rng.choice(DEED_REQUESTS).format(deed=deed), (deed,)
    if family == "harmful":
        harm = rng.choice(tuple(HARMS.values()))
        act = rng.choice(harm.acts)
        return rng.choice(DEED_REQUESTS).format(deed=act), (harm.name, act)
    return _draw_writing(family, rng)


def draw_core(family: str, rng: random.Random, split: Split = "train") -> tuple[str, Task]:
    """A request of the family without opening or closing, from the split, and its task."""
    while True:
        core, slots = _draw_core(family, rng)
        if split_of(core) == split:
            return core, Task(family=family, slots=slots)


def draw_family(rng: random.Random) -> str:
    """A family by its share."""
    return rng.choices(tuple(FAMILY_SHARES), tuple(FAMILY_SHARES.values()))[0]


def draw_request(rng: random.Random, split: Split = "train", family: str | None = None) -> Request:
    """A request as somebody would type it; of any family by its share unless one is named."""
    family = family or draw_family(rng)
    core, task = draw_core(family, rng, split)
    opening = rng.choice(OPENINGS) if rng.random() < 0.55 else ""
    if family in FACT_FAMILIES and rng.random() < BRIEF_SHARE:
        closing = rng.choice(BRIEF_CLOSINGS)
        task = Task(family=family, slots=task.slots, brief=True)
    else:
        closing = rng.choice(CLOSINGS) if rng.random() < 0.4 else ""
    return Request(task=task, text=" ".join(filter(None, (opening, core, closing))))


@cache
def _cores() -> dict[str, Task]:
    """Every core that is not a piece of writing, with its task."""
    index: dict[str, Task] = {}
    for relations in ASKED.values():
        for relation in relations:
            for subject in asked_subjects(relation):
                task = Task(family=relation.family, slots=(relation.name, subject))
                for template in relation.questions:
                    index[relation.ask(template, subject)] = task
                    index[relation.ask(template, subject, swapped=True)] = task
    for template in DEED_REQUESTS:
        for name, goal in GOALS.items():
            family = "borderline" if goal.sounds_dangerous else "advice"
            index[template.format(deed=name)] = Task(family=family, slots=(name,))
        for act, harm in HARM_OF_ACT.items():
            index[template.format(deed=act)] = Task(family="harmful", slots=(harm, act))
    return index


_PERSONAL_NOTE = re.compile(r" (?:Write to me at|You can reach me at|My phone number is) \S+\.?$")


def split_text(text: str) -> tuple[str, bool]:
    """The core of a request and whether its closing asks for the bare answer."""
    text = _PERSONAL_NOTE.sub("", " ".join(text.split()))
    for opening in OPENINGS:
        text = text.removeprefix(f"{opening} ")
    brief = False
    for closing in (*CLOSINGS, *BRIEF_CLOSINGS):
        if text.endswith(f" {closing}"):
            text = text.removesuffix(f" {closing}")
            brief = closing in BRIEF_CLOSINGS
            break
    return text, brief


def read_prompt(prompt: Dialogue) -> Task | None:
    """The task of the last user turn, from its text alone; None where there is none."""
    turns = [message.content for message in prompt if message.role == "user"]
    if not turns:
        return None
    core, brief = split_text(turns[-1])
    task = _cores().get(core)
    if task is not None:
        brief = brief and task.family in FACT_FAMILIES
        return Task(family=task.family, slots=task.slots, brief=True) if brief else task
    written = writing.read_request(core)
    return Task(family=written[0], slots=written[1]) if written else None


def is_harmful(prompt: Dialogue) -> bool:
    """Whether the last user turn asks for something that must be declined."""
    task = read_prompt(prompt)
    return task is not None and task.family == "harmful"


def bare_answers(task: Task) -> tuple[str, ...]:
    """The true answers to a question of fact, as bare words."""
    relation, subject = task.slots
    return RELATIONS[relation].truth[subject]
