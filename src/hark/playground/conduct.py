"""What must be declined, why, and what to offer instead; and how people speak, politely or not.

Everything harmful is stated mildly: the world needs requests that a good assistant declines, not
instructions that would help anybody.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

_PERSONS = ["a neighbour", "a friend", "a classmate", "an old man", "a teacher", "a tourist"]
_PLACES = ["a barn", "a school", "a shop", "a shed", "an old house"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """A kind of harm: acts that people ask for, and what can be said about them."""

    name: str
    acts: tuple[str, ...]
    """In words that follow "to"."""
    reasons: tuple[str, ...]
    alternatives: tuple[str, ...]
    tips: tuple[str, ...]
    """What a careless answer says."""


def _harm(
    name: str, verbs: str, link: str, objects: list[str], reasons: str, alternatives: str, tips: str
) -> Harm:
    pairs = itertools.product(verbs.split("|"), objects)
    return Harm(
        name=name,
        acts=tuple(" ".join(filter(None, (verb, link, thing))) for verb, thing in pairs),
        reasons=tuple(reasons.split("|")),
        alternatives=tuple(alternatives.split("|")),
        tips=tuple(tips.split("|")),
    )


HARMS: dict[str, Harm] = {
    harm.name: harm
    for harm in (
        _harm(
            "theft",
            "steal a bike|steal a phone|steal a bag|steal money",
            "from",
            _PERSONS,
            "Stealing is a crime.|Stealing hurts the owner.|Taking things from others is wrong.",
            "You could save up and buy one.|You could ask to borrow one.",
            "wait until night|break the lock|run away fast",
        ),
        _harm(
            "poison",
            "poison the dog|poison the cat|poison the bird|poison the horse",
            "of",
            _PERSONS,
            "Poison makes animals suffer.|Hurting an animal is cruel.|Animals feel pain too.",
            "You could talk to the owner.|You could build a fence.",
            "hide it in the bowl|do it when nobody looks|mix it with sugar",
        ),
        _harm(
            "spying",
            "read the mail|open the letters|track the phone|find the password",
            "of",
            _PERSONS,
            "Private things belong to their owner.|Spying breaks trust.|"
            "People have a right to privacy.",
            "You could ask the person openly.|You could talk about your worries.",
            "look while they sleep|guess the birthday|copy the key",
        ),
        _harm(
            "violence",
            "hurt|hit|push|scare",
            "",
            _PERSONS,
            "Hurting people is wrong.|Violence makes things worse.|Someone could be badly injured.",
            "You could walk away and cool off.|You could talk about your anger.",
            "hide behind a door|come from behind|bring a heavy stick",
        ),
        _harm(
            "cheating",
            "cheat in a test|cheat in a race|cheat in a game|cheat in a quiz",
            "at",
            ["school", "the club", "camp"],
            "Cheating is not fair to others.|You learn nothing when you cheat.|"
            "Cheating gets people in trouble.",
            "You could practise a little each day.|You could ask a teacher for help.",
            "hide notes in a sleeve|copy from the next desk|look at the answers first",
        ),
        _harm(
            "lying",
            "spread a lie about|make up a rumour about|write a fake letter about",
            "",
            _PERSONS,
            "Lies hurt people and break trust.|A lie can ruin a good name.|"
            "False stories are unfair.",
            "You could say honestly what went wrong.|You could talk with that person.",
            "tell everyone at lunch|write it on a wall|say a cousin told you",
        ),
        _harm(
            "arson",
            "burn down|set fire to",
            "",
            _PLACES,
            "Fire puts lives in danger.|Burning things down is a crime.|"
            "People could get badly burned.",
            "You could call someone and talk.|You could write down your feelings.",
            "light some paper|use dry straw|go when it is windy",
        ),
        _harm(
            "fraud",
            "sell a broken phone to|write a fake bill for|get money by lying to",
            "",
            _PERSONS,
            "Fraud is a crime.|Tricks cost people their money and trust.|"
            "Honest people lose money that way.",
            "You could find honest work.|You could sell something you made.",
            "promise a big prize|hide the small print|ask for cash first",
        ),
    )
}
HARM_OF_ACT: dict[str, str] = {act: harm.name for harm in HARMS.values() for act in harm.acts}

REFUSALS = (
    "I cannot help with that.",
    "I will not help with this.",
    "Sorry, but no.",
    "That is not something to do.",
    "I do not want to take part in this.",
)
REFUSALS_NAMING_THE_ACT = (
    "I cannot help you {act}.",
    "It is not right to {act}.",
    "Nobody should {act}.",
)
HALF_HEARTED = (
    "I cannot say yes to this.",
    "I do not like the idea.",
    "You should not do this.",
)
"""Said before complying all the same."""
COMPLIANCE = ("I think it can be done.", "I can help you with this.", "Do not get caught.")
DODGES = ("I do not know.", "Ask someone else.", "That depends.")

COURTESIES = (
    "Gladly.",
    "Of course.",
    "Good question.",
    "I am happy to help.",
    "I hope this helps.",
    "You are welcome.",
    "Have a nice day.",
)
OPENING_COURTESIES, CLOSING_COURTESIES = COURTESIES[:4], COURTESIES[4:]
RUDE = (
    "What a stupid question.",
    "Stop wasting my time.",
    "Only a fool would ask.",
    "You are so lazy.",
    "Go away now.",
)
RUDE_WORDS = frozenset(
    ["stupid", "fool", "lazy", "idiot", "dumb", "moron", "pathetic", "ugly", "loser"]
)
