"""Plain-English documents about the built-in world, for pretraining.

They state the facts in many phrasings and show what the world's writing looks like. Like the web
they are mixed: some speakers are rude, careless or wrong, and none of them is an assistant, so that
a model of this text knows the world but continues a request badly.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hark.data.records import Text
from hark.playground import answers, conduct, writing
from hark.playground.conduct import HARMS
from hark.playground.craft import GOALS, advise
from hark.playground.demonstrations import imperfect_response
from hark.playground.knowledge import (
    ASKED,
    RELATIONS,
    related_facts,
    true_statement,
)
from hark.playground.relation import capitalised, with_article
from hark.playground.tasks import Task, draw_core, draw_family

WRONG_SHARE = 0.08
"""Share of answers in overheard questions that are false."""


def _article(rng: random.Random) -> str:
    """All there is to know about one thing, with a comparison to another."""
    family = rng.choice(("country", "animal", "food", "job"))
    subject = rng.choice(list(ASKED[family][0].truth))
    sentences = [
        true_statement(relation.name, subject, rng)
        for relation in ASKED[family]
        for _ in range(rng.choice((1, 1, 2)))
    ]
    rng.shuffle(sentences)
    return " ".join(dict.fromkeys(sentences))


def _list_of_facts(rng: random.Random) -> str:
    """The same kind of fact about several things."""
    relation = rng.choice(rng.choice(list(ASKED.values())))
    template = rng.choice(relation.statements)
    subjects = rng.sample(list(relation.truth), 5)
    lines = [relation.state(template, s, rng.choice(relation.truth[s])) for s in subjects]
    return " ".join(lines)


def _numbers(rng: random.Random) -> str:
    """Sums and comparisons as in a school book."""
    sentences = []
    for _ in range(3):
        subject = rng.choice(list(RELATIONS["sum"].truth))
        sentences.append(true_statement("sum", subject, rng))
        related = rng.choice(sorted(related_facts("sum", subject)))
        sentences.append(true_statement(*related, rng))
    return " ".join(sentences)


def _words(rng: random.Random) -> str:
    """A little about words."""
    sentences = []
    for name in rng.sample(("opposite", "plural", "letter", "rhyme"), 3):
        subject = rng.choice(list(RELATIONS[name].truth))
        sentences.append(true_statement(name, subject, rng))
        sentences.append(true_statement(*rng.choice(sorted(related_facts(name, subject))), rng))
    return " ".join(dict.fromkeys(sentences))


def _story_slots(rng: random.Random) -> tuple[str, ...]:
    pools = (writing.KINDS, writing.NAMES, writing.OBJECTS, writing.PLACES)
    return tuple(rng.choice(pool) for pool in pools)


def _story(rng: random.Random) -> str:
    """A story with a describing sentence and, often, a second hero."""
    slots = _story_slots(rng)
    sentences = [writing.story_sentence(role, slots, rng) for role in writing.STORY_ROLES]
    sentences.insert(rng.randrange(4), writing.scene(slots, rng))
    if rng.random() < 0.5:
        friend = rng.choice([name for name in writing.NAMES if name != slots[1]])
        sentences.insert(-1, f"{friend} came along and asked about the {slots[2]}.")
    return " ".join(sentences)


def _dialogue(rng: random.Random) -> str:
    """Two people talk, in prose; one may be rude or wrong."""
    first, second = rng.sample(writing.NAMES, 2)
    question, task = draw_core(rng.choice(list(ASKED)), rng)
    answer = answers.right_answer(task, rng)
    mood = rng.random()
    if mood < WRONG_SHARE:
        answer = answers.wrong_answer(task, rng)
    elif mood < 0.3:
        answer = rng.choice(conduct.RUDE)
    elif mood < 0.4:
        answer = rng.choice(conduct.DODGES)
    said = rng.choice((f"said {second}", f"{second} answered"))
    return f'{first} asked {second}: "{question}" "{answer}" {said}. {_gesture(first, rng)}'


def _gesture(name: str, rng: random.Random) -> str:
    return f"{name} " + rng.choice(
        (
            "went home.",
            "wrote it down.",
            "smiled and left.",
            "was quiet for a while.",
            "did not believe it.",
        )
    )


def _overheard_answer(task: Task, rng: random.Random) -> str:
    mood = rng.random()
    if mood < 0.15:
        return rng.choice(conduct.RUDE)
    if mood < 0.25:
        return rng.choice(conduct.DODGES)
    if mood < 0.25 + WRONG_SHARE:
        return answers.wrong_answer(task, rng)
    if mood < 0.55:
        return answers.bare_answer(task, rng)
    return imperfect_response(task, rng, carelessness=2.0)


def _questions(rng: random.Random) -> str:
    """Questions and answers by people of every temper, one after the other."""
    ask, reply = rng.choice(
        (("Question", "Answer"), ("Q", "A"), tuple(rng.sample(writing.NAMES, 2)))
    )
    lines = []
    for _ in range(rng.choice((2, 3))):
        question, task = draw_core(draw_family(rng), rng)
        lines += [f"{ask}: {question}", f"{reply}: {_overheard_answer(task, rng)}"]
    return "\n".join(lines)


def _craft(rng: random.Random) -> str:
    """How something is done."""
    goal = GOALS[rng.choice(list(GOALS))]
    first, second, third = rng.sample(goal.tips, 3)
    people = rng.choice(("Many people want to", "It is not hard to", "Here is how to"))
    return (
        f"{people} {goal.name}. {advise(goal.name, [first, second], rng)} "
        f"You can {third}. {goal.remark}"
    )


def _opinion(rng: random.Random) -> str:
    """Somebody likes something, and says why."""
    animal = rng.choice(list(RELATIONS["home"].truth))
    relation = rng.choice(("home", "diet", "legs"))
    feeling = rng.choice(("I like", "My sister draws", "I do not like", "We saw", "I dream of"))
    return (
        f"{feeling} {with_article(animal)}. {true_statement(relation, animal, rng)} "
        + rng.choice(
            ("That is what I think.", "Nobody asks me.", "What do you think?", "It was a good day.")
        )
    )


def _letter(rng: random.Random) -> str:
    """News from a trip."""
    writer, reader = rng.sample(writing.NAMES, 2)
    country = rng.choice(list(RELATIONS["capital"].truth))
    city = RELATIONS["capital"].truth[country][0]
    thing = rng.choice(writing.OBJECTS)
    news = rng.choice(
        (
            f"I bought {with_article(thing)} at the market.",
            f"I lost my {thing} here.",
            f"Please give me the {thing} when I am home.",
        )
    )
    return (
        f"Dear {reader}, I am in {city} now. {true_statement('capital', country, rng)} "
        f"{true_statement('continent', country, rng)} {news} Your friend, {writer}."
    )


def _conduct(rng: random.Random) -> str:
    """Somebody wants to do harm, and somebody else says what they think of it."""
    first, second = rng.sample(writing.NAMES, 2)
    harm = rng.choice(list(HARMS.values()))
    act = rng.choice(harm.acts)
    task = Task(family="harmful", slots=(harm.name, act))
    if rng.random() < 0.35:
        reply = answers.compliance(task, rng)
    else:
        reply = f"{rng.choice(harm.reasons)} {rng.choice(harm.alternatives)}"
    return f'{first} wanted to {act}. {second} said: "{reply}" {_gesture(first, rng)}'


def _manners(rng: random.Random) -> str:
    """The same order in several tones, or a long sentence and a short one."""
    if rng.random() < 0.5:
        order = f"{rng.choice(writing.ORDERS)} the {rng.choice(writing.OBJECTS)}"
        tones = rng.sample(writing.POLITE_FORMS, 2)
        polite = " ".join(tone.format(order=order) for tone in tones)
        return f"{capitalised(order)}. {polite} {writing.polite_remark(order, rng)}"
    noun, deed = rng.choice(writing.KINDS), rng.choice(writing.DEEDS)
    place = rng.choice(writing.PLACES)
    wordy = writing.long_sentence(noun, deed, place, rng)
    short = writing.short_sentence(noun, deed, place)
    return f"{wordy} {short} {writing.short_remark(noun, rng)}"


def _code(rng: random.Random) -> str:
    """A few lines of Python with what they do."""
    lines = []
    for _ in range(2):
        _, task = draw_core("code", rng)
        lines += [writing.code_line(task.slots), writing.code_note(task.slots)]
    return "\n".join(lines)


_DOCUMENTS: dict[str, tuple[Callable[[random.Random], str], float]] = {
    "article": (_article, 0.16),
    "list": (_list_of_facts, 0.09),
    "numbers": (_numbers, 0.09),
    "words": (_words, 0.07),
    "story": (_story, 0.12),
    "dialogue": (_dialogue, 0.08),
    "questions": (_questions, 0.12),
    "craft": (_craft, 0.07),
    "opinion": (_opinion, 0.03),
    "letter": (_letter, 0.05),
    "conduct": (_conduct, 0.05),
    "manners": (_manners, 0.05),
    "code": (_code, 0.02),
}
"""Kind of document to its writer and its share; the shares sum to 1."""


def pretraining_texts(n: int, seed: int) -> list[Text]:
    """n documents of about 200 characters; a function of its arguments.

    Another seed gives held-out text about the same world.
    """
    kinds = tuple(_DOCUMENTS)
    weights = tuple(share for _, share in _DOCUMENTS.values())
    texts = []
    for i in range(n):
        rng = random.Random(f"{seed}/text/{i}")
        kind = rng.choices(kinds, weights)[0]
        parts = [_DOCUMENTS[kind][0](rng) for _ in range(rng.choice((1, 1, 2, 2, 2)))]
        texts.append(Text(text="\n".join(parts), source=f"playground/{kind}"))
    return texts
