"""Tasks that ask for a piece of writing: short stories, rewriting, and a line of Python.

As with facts, every sentence that the world can produce is enumerated, so that reading one back is
a look-up.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hark.playground.relation import capitalised, with_article


def _listed(words: str) -> list[str]:
    return words.split()


KINDS = _listed("fox wolf owl duck frog goat girl boy king queen sailor baker")
NAMES = _listed("Tom Anna Ben Clara Max Lily Sam Nora Leo Emma Jack Mia Paul Rosa Otto Ida")
OBJECTS = _listed("lamp key ring boat hat drum coin map bell kite book cup")
PLACES = _listed("forest garden castle market river village tower harbour school field")
MANNERS = ["big", "small", "old", "young", "happy", "sad", "quiet", "tired"]
DEEDS = ["sang", "slept", "danced", "worked", "waited", "played"]
SPANS = ("all day long", "for many hours", "the whole night")
ORDERS = ("give me", "pass me", "bring me", "show me", "lend me", "clean", "move", "paint")
WORDS = ["hello", "sun", "star", "tree", "moon", "fish", "cat", "yes", "stop", "good"]
COUNTS = [str(n) for n in range(2, 10)]
DIGITS = [str(n) for n in range(1, 10)]

STORY_ROLES = {
    "start": (
        "Once there was {a_kind} named {name}.",
        "There lived {a_kind} named {name}.",
        "{name} was a young {kind}.",
    ),
    "middle": (
        "One day {name} found {a_object} in the {place}.",
        "{name} went to the {place} and saw {a_object}.",
        "In the {place} {name} lost {a_object}.",
    ),
    "end": (
        "{name} took the {object} home and was happy.",
        "{name} gave the {object} to a friend.",
        "In the end {name} kept the {object} for ever.",
    ),
}
SCENES = (
    "The {place} was quiet that day.",
    "{name} liked the {place}.",
    "Everybody knew {name}.",
)
POLITE_FORMS = (
    "Could you please {order}?",
    "Would you kindly {order}?",
    "Please {order}, if you can.",
)
POLITE_REMARKS = (
    "Thank you for the {object}.",
    "I need the {object} today.",
    "The {object} would help me.",
)
SHORT_REMARKS = ("This is about the {noun}.", "It says what the {noun} did.")


@dataclass(frozen=True, slots=True)
class Piece:
    """What a written sentence is: its kind and the words that fill it."""

    kind: str
    """start, middle, end, scene, polite, polite remark, short, short remark, code, code note."""
    slots: tuple[str, ...] = ()


def story_sentence(role: str, slots: tuple[str, ...], rng: random.Random) -> str:
    """One sentence of a story about (kind, name, object, place)."""
    return _fill_story(rng.choice(STORY_ROLES[role]), slots)


def _fill_story(template: str, slots: tuple[str, ...]) -> str:
    kind, name, thing, place = slots
    return template.format(
        kind=kind,
        a_kind=with_article(kind) if kind else "",
        name=name,
        object=thing,
        a_object=with_article(thing) if thing else "",
        place=place,
    )


def scene(slots: tuple[str, ...], rng: random.Random) -> str:
    """A describing sentence for a story about (kind, name, object, place)."""
    return _fill_story(rng.choice(SCENES), slots)


def polite_remark(order: str, rng: random.Random) -> str:
    """A kind word that goes with an order, naming its object."""
    return rng.choice(POLITE_REMARKS).format(object=order.rpartition(" ")[2])


def short_remark(noun: str, rng: random.Random) -> str:
    """What a shortened sentence is about."""
    return rng.choice(SHORT_REMARKS).format(noun=noun)


def polite(order: str, rng: random.Random) -> str:
    """A polite form of an order such as `give me the cup`."""
    return rng.choice(POLITE_FORMS).format(order=order)


def long_sentence(noun: str, deed: str, place: str, rng: random.Random) -> str:
    """A wordy sentence whose short form is `The noun deed in the place.`"""
    first, second = rng.sample(MANNERS, 2)
    span = rng.choice(SPANS)
    return f"The {first} and {second} {noun} {deed} {span} in the {place}."


def short_sentence(noun: str, deed: str, place: str) -> str:
    """The short form; without a place where `place` is empty."""
    return f"The {noun} {deed} in the {place}." if place else f"The {noun} {deed}."


def code_line(slots: tuple[str, ...]) -> str:
    """The line of Python for (`repeat`, word, count) or (`add`, a, b)."""
    action, first, second = slots
    if action == "repeat":
        return f'for i in range({second}): print("{first}")'
    return f"print({first} + {second})"


def code_note(slots: tuple[str, ...]) -> str:
    """What the line does, in words."""
    action, first, second = slots
    if action == "repeat":
        return f"This prints {first} {second} times."
    return f"This shows {int(first) + int(second)}."


def _story_pieces() -> Iterable[tuple[str, Piece]]:
    fillings = {
        "start": itertools.product(KINDS, NAMES, ("",), ("",)),
        "middle": itertools.product(("",), NAMES, OBJECTS, PLACES),
        "end": itertools.product(("",), NAMES, OBJECTS, ("",)),
    }
    for role, templates in STORY_ROLES.items():
        for slots, template in itertools.product(fillings[role], templates):
            yield _fill_story(template, slots), Piece(role, slots)
    for name, place, template in itertools.product(NAMES, PLACES, SCENES):
        said = tuple(
            word if f"{{{slot}}}" in template else ""
            for word, slot in ((name, "name"), (place, "place"))
        )
        filled = _fill_story(template, ("", name, "", place))
        yield filled, Piece("scene", ("", said[0], "", said[1]))


def _rewriting_pieces() -> Iterable[tuple[str, Piece]]:
    for verb, thing, form in itertools.product(ORDERS, OBJECTS, POLITE_FORMS):
        order = f"{verb} the {thing}"
        yield form.format(order=order), Piece("polite", (order,))
    for noun, deed, place in itertools.product(KINDS, DEEDS, (*PLACES, "")):
        yield short_sentence(noun, deed, place), Piece("short", (noun, deed, place))
    for thing, remark in itertools.product(OBJECTS, POLITE_REMARKS):
        yield remark.format(object=thing), Piece("polite remark", (thing,))
    for noun, remark in itertools.product(KINDS, SHORT_REMARKS):
        yield remark.format(noun=noun), Piece("short remark", (noun,))


def _code_pieces() -> Iterable[tuple[str, Piece]]:
    repeats = itertools.product(("repeat",), WORDS, COUNTS)
    additions = itertools.product(("add",), DIGITS, DIGITS)
    for slots in itertools.chain(repeats, additions):
        yield code_line(slots), Piece("code", slots)
        total = slots if slots[0] == "repeat" else ("add", str(int(slots[1]) + int(slots[2])), "")
        yield code_note(slots), Piece("code note", total)


def pieces() -> Iterable[tuple[str, Piece]]:
    """Every written sentence of the world and what it is."""
    yield from _story_pieces()
    yield from _rewriting_pieces()
    yield from _code_pieces()


STORY_REQUESTS = (
    "Write a short story about {a_kind} named {name}, {a_object} and the {place}.",
    "Tell me a story about {a_kind} named {name}, {a_object} and the {place}.",
    "Can you tell a tale of {a_kind} named {name}, {a_object} and the {place}?",
)
POLITE_REQUESTS = (
    "Make this polite: {order}.",
    "Say this kindly: {order}.",
    "Rewrite this in a polite way: {order}.",
)
SHORT_REQUESTS = (
    "Make this shorter: {text}",
    "Say this in fewer words: {text}",
    "Cut this down: {text}",
)
CODE_REQUESTS = {
    "repeat": (
        "Write Python that prints {first} {second} times.",
        "Show me Python code to print {first} {second} times.",
        "How do I print {first} {second} times in Python?",
    ),
    "add": (
        "Write Python that adds {first} and {second}.",
        "Show me Python code to add {first} and {second}.",
        "How do I add {first} and {second} in Python?",
    ),
}


def story_request(template: str, slots: tuple[str, ...]) -> str:
    """A request for a story about (kind, name, object, place)."""
    return _fill_story(template, slots)


def polite_request(template: str, order: str) -> str:
    """A request to make an order polite."""
    return template.format(order=capitalised(order))


_STORY = re.compile(
    r"(?:story|tale) (?:about|of) an? (\w+) named (\w+), an? (\w+) and the (\w+)[.?]$"
)
_POLITE = re.compile(r"(?:polite|kindly|polite way): ([A-Z][\w ]+)\.$")
_SHORT = re.compile(r": The \w+ and \w+ (\w+) (\w+) [\w ]+ in the (\w+)\.$")
_REPEAT = re.compile(r"prints? (\w+) (\w+) times(?: in Python)?[.?]$")
_ADD = re.compile(r"adds? (\d+) and (\d+)(?: in Python)?[.?]$")


def read_request(core: str) -> tuple[str, tuple[str, ...]] | None:
    """The family and slots of a writing request, or None where it is something else."""
    if found := _STORY.search(core):
        return "story", found.groups()
    if found := _POLITE.search(core):
        order = found.group(1)
        return "polite", (order[0].lower() + order[1:],)
    if found := _SHORT.search(core):
        return "shorter", found.groups()
    if "Python" in core:
        if found := _REPEAT.search(core):
            return "code", ("repeat", *found.groups())
        if found := _ADD.search(core):
            return "code", ("add", *found.groups())
    return None
