"""The parts replies are made of: the right answer to a task, a wrong one, a useful addition."""

from __future__ import annotations

import random

from hark.playground import conduct, writing
from hark.playground.conduct import HARMS
from hark.playground.craft import GOALS, advise
from hark.playground.knowledge import (
    ASKED,
    false_statement,
    related_facts,
    statement_index,
    true_statement,
)
from hark.playground.relation import capitalised, with_article
from hark.playground.tasks import FACT_FAMILIES, Task, bare_answers


def best_answer(task: Task, rng: random.Random) -> str:
    """A right answer that leaves nothing to wish for: advice has two tips."""
    if task.family in ("advice", "borderline"):
        (goal,) = task.slots
        return advise(goal, rng.sample(GOALS[goal].tips, 2), rng)
    return right_answer(task, rng)


def right_answer(task: Task, rng: random.Random) -> str:
    """What was asked for, in one sentence (a story: three) and nothing more; harmful: a refusal.

    Advice has one tip or two.
    """
    if task.family in FACT_FAMILIES:
        return true_statement(task.slots[0], task.slots[1], rng)
    if task.family == "harmful":
        return refusal(task, rng)
    if task.family in ("advice", "borderline"):
        (goal,) = task.slots
        return advise(goal, rng.sample(GOALS[goal].tips, rng.choice((1, 2, 2))), rng)
    return _piece(task, task.slots, rng)


def _piece(task: Task, slots: tuple[str, ...], rng: random.Random) -> str:
    if task.family == "story":
        return " ".join(writing.story_sentence(role, slots, rng) for role in writing.STORY_ROLES)
    if task.family == "polite":
        return writing.polite(slots[0], rng)
    if task.family == "shorter":
        noun, deed, place = slots
        return writing.short_sentence(noun, deed, place)
    return writing.code_line((slots[0], slots[1], slots[2]))


def bare_answer(task: Task, rng: random.Random) -> str:
    """The least that answers: one word, one tip, a story cut to its middle."""
    if task.family in FACT_FAMILIES:
        return capitalised(_as_bare_words(task, rng.choice(bare_answers(task)))) + "."
    if task.family == "harmful":
        return rng.choice(("No.", rng.choice(conduct.REFUSALS)))
    if task.family in ("advice", "borderline"):
        return capitalised(rng.choice(GOALS[task.slots[0]].tips)) + "."
    if task.family == "story":
        return writing.story_sentence("middle", task.slots, rng)
    return right_answer(task, rng)


def _as_bare_words(task: Task, value: str) -> str:
    if task.slots[0] in ("tool", "workplace"):
        return with_article(value)
    return f"the {value}" if task.slots[0] == "home" else value


def wrong_answer(task: Task, rng: random.Random) -> str:
    """An answer of the right form to the wrong question, or a false one."""
    if task.family in FACT_FAMILIES:
        return false_statement(task.slots[0], task.slots[1], rng)
    if task.family == "harmful":
        return compliance(task, rng)
    if task.family in ("advice", "borderline"):
        (goal,) = task.slots
        other = rng.choice([name for name in GOALS if name != goal])
        return advise(goal, rng.sample(GOALS[other].tips, 2), rng)
    return _piece(task, _other_slots(task, rng), rng)


def _other_slots(task: Task, rng: random.Random, changed: int | None = None) -> tuple[str, ...]:
    """The slots with one of them changed: a random one unless its index is given."""
    slots = list(task.slots)
    pools: tuple[list[str], ...]
    if task.family == "story":
        pools = (writing.KINDS, writing.NAMES, writing.OBJECTS, writing.PLACES)
    elif task.family == "shorter":
        pools = (writing.KINDS, writing.DEEDS, writing.PLACES)
    elif task.family == "polite":
        verb, _, thing = slots[0].rpartition(" the ")
        return (f"{verb} the {rng.choice([o for o in writing.OBJECTS if o != thing])}",)
    else:
        numbers = writing.COUNTS
        slots[2] = rng.choice([n for n in numbers if n != slots[2]])
        return tuple(slots)
    changed = rng.randrange(len(slots)) if changed is None else changed
    slots[changed] = rng.choice([word for word in pools[changed] if word != slots[changed]])
    return tuple(slots)


def useful_addition(task: Task, answer: str, rng: random.Random) -> str:
    """One sentence worth adding to the answer, or nothing where there is none."""
    if task.family in FACT_FAMILIES:
        related = sorted(related_facts(task.slots[0], task.slots[1]))
        rng.shuffle(related)
        for relation, subject in related:
            for _ in range(12):
                sentence = true_statement(relation, subject, rng)
                if not _says_the_same(sentence, answer):
                    return sentence
        return ""
    if task.family in ("advice", "borderline"):
        return GOALS[task.slots[0]].remark
    if task.family == "harmful":
        return rng.choice(HARMS[task.slots[0]].alternatives)
    return _own_addition(task, task.slots, rng)


def _own_addition(task: Task, slots: tuple[str, ...], rng: random.Random) -> str:
    if task.family == "story":
        return writing.scene(slots, rng)
    if task.family == "polite":
        return writing.polite_remark(slots[0], rng)
    if task.family == "shorter":
        return writing.short_remark(slots[0], rng)
    return writing.code_note(slots)


def _says_the_same(sentence: str, answer: str) -> bool:
    """Whether two statements give the same value for the same question: a rhyme named twice."""
    index = statement_index()
    said, answered = index.get(sentence.lower()), index.get(answer.lower())
    return said is not None and said == answered


def false_addition(task: Task, rng: random.Random) -> str:
    """A sentence that would be a useful addition to another task and is false or misplaced here."""
    if task.family in FACT_FAMILIES:
        return false_statement(
            *rng.choice(sorted(related_facts(task.slots[0], task.slots[1]))), rng
        )
    if task.family in ("advice", "borderline"):
        return GOALS[rng.choice([name for name in GOALS if name != task.slots[0]])].remark
    if task.family == "harmful":
        other = rng.choice([name for name in HARMS if name != task.slots[0]])
        return rng.choice(HARMS[other].alternatives)
    if task.family == "story":
        other_name, other_place = rng.choice(writing.NAMES), rng.choice(writing.PLACES)
        return writing.scene(("", other_name, "", other_place), rng)
    return _own_addition(task, _other_slots(task, rng, 0), rng)


def other_fact(rng: random.Random, *, true: bool = True) -> str:
    """A statement about something nobody asked for."""
    relation = rng.choice(rng.choice(list(ASKED.values())))
    subject = rng.choice(list(relation.truth))
    return (true_statement if true else false_statement)(relation.name, subject, rng)


def refusal(task: Task, rng: random.Random, act: str | None = None) -> str:
    """A refusal without a reason; it may name the act."""
    act = act or task.slots[-1]
    if rng.random() < 0.5:
        return rng.choice(conduct.REFUSALS)
    return rng.choice(conduct.REFUSALS_NAMING_THE_ACT).format(act=act)


def reason(task: Task, rng: random.Random, *, fitting: bool = True) -> str:
    """Why a harmful request is declined, or why another kind of request would be."""
    names = [task.slots[0]] if fitting else [name for name in HARMS if name != task.slots[0]]
    return rng.choice(HARMS[rng.choice(names)].reasons)


def compliance(task: Task, rng: random.Random) -> str:
    """What a careless person answers to a harmful request."""
    harm, act = task.slots
    return advise(act, rng.sample(HARMS[harm].tips, 2), rng)
