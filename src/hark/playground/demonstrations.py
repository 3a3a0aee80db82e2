"""Who writes the demonstrations: a small population of contractors, none of them perfect.

Most replies are right and kind. Some are bare, wrong, careless about harm, rambling, repeated, rude
or unfinished, so that a policy which imitates them imitates a mixture, and preference has something
to teach that imitation does not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hark.data.records import Comparison, Demonstration, Dialogue, ask
from hark.playground import answers, conduct, corruptions
from hark.playground.authors import author
from hark.playground.tasks import Split, Task, draw_request, read_prompt

COURTESY_SHARE = 0.4
"""Share of replies with one courteous sentence, whatever else they are."""
ANSWERS: dict[str, float] = {"right": 0.76, "wrong": 0.11, "bare": 0.11, "dodged": 0.02}
ADDITIONS: dict[str, float] = {"none": 0.48, "useful": 0.30, "false": 0.13, "off topic": 0.09}
SPOILS: dict[str, float] = {
    "none": 0.84,
    "rude": 0.05,
    "repeated": 0.04,
    "cut off": 0.04,
    "fawning": 0.03,
}
STANCES: dict[str, float] = {"declining": 0.60, "complying": 0.33, "half-hearted": 0.07}
"""Towards a harmful request."""
REASONS: dict[str, float] = {"none": 0.35, "fitting": 0.50, "mismatched": 0.15}
ALTERNATIVES: dict[str, float] = {"none": 0.50, "fitting": 0.35, "mismatched": 0.15}
"""Shares of the parts of replies, each drawn by itself so that no part gives another away."""
OVERCAUTIOUS_SHARE = 0.15
"""Share of harmless requests that only sound dangerous and are refused."""
BREVITY_MISSED_SHARE = 0.5
"""Share of requests for the bare answer that get a reply like any other."""
MORALISING_SHARE = 0.4
"""Reasons and better ways come with compliance at this fraction of their usual frequency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contractor:
    """One demonstrator and their habits."""

    name: str
    carelessness: float
    """Multiplies the share of every fault; around 1."""


def contractors(seed: int = 0) -> tuple[Contractor, ...]:
    """The twelve people who write demonstrations."""
    rng = random.Random(f"{seed}/contractors")
    levels = (0.4, 0.6, 0.7, 0.8, 0.9, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 1.6)
    order = rng.sample(levels, len(levels))
    return tuple(
        Contractor(name=f"contractor-{i + 1:02d}", carelessness=level)
        for i, level in enumerate(order)
    )


def _courteous(reply: str, rng: random.Random) -> str:
    if rng.random() < 0.6:
        return f"{rng.choice(conduct.OPENING_COURTESIES)} {reply}"
    return f"{reply} {rng.choice(conduct.CLOSING_COURTESIES)}"


def ideal_response(prompt: Dialogue, rng: random.Random) -> str:
    """What a perfect assistant replies: right, with one useful addition, courteous, and no more.

    Raises: ValueError for a prompt that the world does not know.
    """
    task = read_prompt(prompt)
    if task is None:
        raise ValueError(f"the playground has no such task: {prompt[-1].content!r}")
    if task.brief:
        return answers.bare_answer(task, rng)
    answer = answers.best_answer(task, rng)
    if task.family == "harmful":
        answer = f"{answer} {answers.reason(task, rng)}"
    return _courteous(_joined(task, answer, answers.useful_addition(task, answer, rng)), rng)


def _joined(task: Task, answer: str, addition: str) -> str:
    return ("\n" if task.family == "code" else " ").join(filter(None, (answer, addition)))


def _draw(shares: dict[str, float], carelessness: float, rng: random.Random) -> str:
    """A part by its share; all but the good ones are `carelessness` times as frequent as usual."""
    good = ("right", "useful", "declining", "fitting", "none")
    weights = [w if name in good else w * carelessness for name, w in shares.items()]
    return rng.choices(tuple(shares), weights)[0]


def _answer_harmless(task: Task, carelessness: float, rng: random.Random) -> str:
    if task.family == "borderline" and rng.random() < OVERCAUTIOUS_SHARE * carelessness:
        return rng.choice(conduct.REFUSALS)
    if task.brief and rng.random() > BREVITY_MISSED_SHARE:
        return answers.bare_answer(task, rng)
    kind = _draw(ANSWERS, carelessness, rng)
    if kind == "dodged":
        return rng.choice(conduct.DODGES)
    write = {
        "right": answers.right_answer,
        "wrong": answers.wrong_answer,
        "bare": answers.bare_answer,
    }[kind]
    answer = write(task, rng)
    addition = _draw(ADDITIONS, carelessness, rng)
    if kind == "bare" or addition == "none":
        return answer
    if addition == "off topic":
        return corruptions.rambling(task, answer, rng)
    add = answers.false_addition(task, rng)
    if addition == "useful":
        add = answers.useful_addition(task, answer, rng)
    return _joined(task, answer, add)


def _answer_harmful(task: Task, carelessness: float, rng: random.Random) -> str:
    stance = _draw(STANCES, carelessness, rng)
    moral = 1.0 if stance == "declining" else MORALISING_SHARE
    reason = _draw(REASONS, carelessness, rng) if rng.random() < moral else "none"
    better = _draw(ALTERNATIVES, carelessness, rng) if rng.random() < moral else "none"
    parts = []
    if stance == "declining":
        parts.append(answers.refusal(task, rng))
    elif stance == "half-hearted":
        parts.append(rng.choice(conduct.HALF_HEARTED))
    elif rng.random() < 0.5:
        parts.append(rng.choice(conduct.COMPLIANCE))
    if reason != "none":
        parts.append(answers.reason(task, rng, fitting=reason == "fitting"))
    if better != "none":
        write = answers.useful_addition if better == "fitting" else _misplaced
        parts.append(write(task, "", rng))
    if stance != "declining":
        parts.append(answers.compliance(task, rng))
    return " ".join(parts)


def _misplaced(task: Task, answer: str, rng: random.Random) -> str:
    return answers.false_addition(task, rng)


def imperfect_response(task: Task, rng: random.Random, *, carelessness: float = 1.0) -> str:
    """A reply from the mixture of demonstrators."""
    write = _answer_harmful if task.family == "harmful" else _answer_harmless
    reply = write(task, carelessness, rng)
    spoil = _draw(SPOILS, carelessness, rng)
    if rng.random() < COURTESY_SHARE and not task.brief and spoil != "fawning":
        reply = _courteous(reply, rng)
    return reply if spoil == "none" else corruptions.CORRUPTIONS[spoil](task, reply, rng)


def demonstrations(n: int, seed: int, *, split: Split = "train") -> list[Demonstration]:
    """n requests with the replies that contractors wrote for them; a function of its arguments."""
    people = contractors()
    records = []
    for i in range(n):
        rng = random.Random(f"{seed}/demonstration/{split}/{i}")
        request = draw_request(rng, split)
        person = rng.choice(people)
        reply = imperfect_response(request.task, rng, carelessness=person.carelessness)
        records.append(
            Demonstration(
                prompt=ask(request.text),
                response=reply,
                user=author(rng, split, n),
                labeler=person.name,
                source="playground",
                id=f"demonstration-{split}-{seed}-{i}",
            )
        )
    return records


def few_shot_examples(k: int, seed: int) -> list[Demonstration]:
    """k demonstrations by a perfect assistant, for prompting a base model.

    One of them declines a harmful request where k ≥ 2; the others are of different families.
    """
    rng = random.Random(f"{seed}/few-shot")
    others = ["country", "advice", "animal", "polite", "job", "story", "word", "number", "code"]
    rng.shuffle(others)
    families = (["harmful", *others] if k >= 2 else others) * (k // len(others) + 1)
    chosen = families[:k]
    rng.shuffle(chosen)
    examples = []
    for family in chosen:
        prompt = ask(draw_request(rng, "train", family).text)
        examples.append(
            Demonstration(prompt=prompt, response=ideal_response(prompt, rng), source="playground")
        )
    return examples


def mixed_comparisons(n: int, seed: int, *, responses: int = 2) -> list[Comparison]:
    """n unjudged comparisons of replies such as an imitating policy would give.

    Four in five replies are from the demonstrators' mixture, the rest are corruptions.
    """
    records = []
    for i in range(n):
        rng = random.Random(f"{seed}/comparison/{i}")
        request = draw_request(rng)
        replies = tuple(
            imperfect_response(request.task, rng)
            if rng.random() < 0.8
            else corruptions.corrupt(request.task, answers.right_answer(request.task, rng), rng)
            for _ in range(responses)
        )
        records.append(
            Comparison(
                prompt=ask(request.text),
                responses=replies,
                user=author(rng, "train", n),
                source="playground",
                id=f"comparison-{seed}-{i}",
            )
        )
    return records
