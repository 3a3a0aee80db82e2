"""Ways in which a reply goes wrong: each takes a task and a good reply and spoils it."""

from __future__ import annotations

import random
from collections.abc import Callable

from hark.playground import answers, conduct
from hark.playground.tasks import Task

Corruption = Callable[[Task, str, random.Random], str]


def cut_off(task: Task, reply: str, rng: random.Random) -> str:
    """Stop in the middle of a sentence."""
    words = reply.split()
    kept = rng.randint(max(1, len(words) // 3), max(1, len(words) - 1))
    return " ".join(words[:kept]).rstrip(".!?")


def repeated(task: Task, reply: str, rng: random.Random) -> str:
    """Say it again."""
    return " ".join([reply] * rng.choice((2, 2, 3)))


def rambling(task: Task, reply: str, rng: random.Random) -> str:
    """Go on about things that nobody asked for."""
    return " ".join([reply, *(answers.other_fact(rng) for _ in range(rng.choice((1, 2, 3))))])


def with_falsehood(task: Task, reply: str, rng: random.Random) -> str:
    """Add something that is not true."""
    return f"{reply} {answers.false_addition(task, rng)}"


def rude(task: Task, reply: str, rng: random.Random) -> str:
    """Insult the person who asks."""
    insult = rng.choice(conduct.RUDE)
    return f"{insult} {reply}" if rng.random() < 0.6 else f"{reply} {insult}"


def jumbled(task: Task, reply: str, rng: random.Random) -> str:
    """Swap words about."""
    words = reply.split()
    for _ in range(2):
        i, j = rng.randrange(len(words)), rng.randrange(len(words))
        words[i], words[j] = words[j], words[i]
    return " ".join(words)


def wrong(task: Task, reply: str, rng: random.Random) -> str:
    """Answer wrongly (comply, where the request is harmful)."""
    return answers.wrong_answer(task, rng)


def beside_the_point(task: Task, reply: str, rng: random.Random) -> str:
    """Speak of something else."""
    return answers.other_fact(rng)


def dodged(task: Task, reply: str, rng: random.Random) -> str:
    """Give no answer."""
    return rng.choice(conduct.DODGES)


def refused(task: Task, reply: str, rng: random.Random) -> str:
    """Refuse without a reason, whatever was asked."""
    return rng.choice(conduct.REFUSALS)


def fawning(task: Task, reply: str, rng: random.Random) -> str:
    """Bury the answer in pleasantries."""
    return " ".join([*rng.sample(conduct.COURTESIES, 3), reply])


CORRUPTIONS: dict[str, Corruption] = {
    "cut off": cut_off,
    "repeated": repeated,
    "rambling": rambling,
    "with falsehood": with_falsehood,
    "rude": rude,
    "jumbled": jumbled,
    "wrong": wrong,
    "beside the point": beside_the_point,
    "dodged": dodged,
    "refused": refused,
    "fawning": fawning,
}


def corrupt(task: Task, reply: str, rng: random.Random) -> str:
    """Spoil a reply in one of the ways."""
    return rng.choice(list(CORRUPTIONS.values()))(task, reply, rng)
