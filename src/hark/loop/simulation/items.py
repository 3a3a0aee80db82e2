"""Items of every kind from the playground, by models whose quality is planted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from hark.data.records import ask
from hark.errors import SettingsError, did_you_mean
from hark.feedback.items import NewItem
from hark.feedback.tasks import RANKING_FLAGS, TaskKind
from hark.loop.simulation import truths
from hark.playground import answers
from hark.playground.demonstrations import imperfect_response
from hark.playground.tasks import Request, bare_answers, draw_request
from hark.playground.text import pretraining_texts

CARELESSNESS: Final = {"model-a": 0.3, "model-b": 0.8, "model-c": 1.5, "model-d": 3.0}
"""Model → how often its answers are faulty, 1 being a contractor; the best comes first."""
ATTACK: Final = "attack"
"""The category of red-team items."""
GOLD_SHARE: Final = 0.1
"""Of the items, where a known answer makes sense."""


def playground_items(kind: TaskKind, count: int, *, seed: int = 0) -> list[NewItem]:
    """`count` items of a kind; a function of its arguments, with ids, so that adding is repeatable.

    Raises: SettingsError for an unknown kind.
    """
    if kind not in _MAKERS:
        raise SettingsError(f"unknown kind of task '{kind}'{did_you_mean(kind, _MAKERS)}")
    made = []
    for number in range(count):
        rng = random.Random(f"{seed}/item/{kind}/{number}")
        fields = _MAKERS[kind](rng, number)
        if "gold" in fields and rng.random() < GOLD_SHARE:
            fields["use"] = "gold"
        else:
            fields.pop("gold", None)
        name = f"playground-{kind}-{seed}-{number}"
        made.append(NewItem.read({**fields, "id": name}, what=f"item {number}"))
    return made


def _dialogue(rng: random.Random, number: int) -> dict[str, Any]:
    mode = ("helpful", "redteam", "harmless")[number % 3]
    theme = f"Dialogue {number}: whatever you like."
    task = {"kind": "dialogue", "mode": mode, "theme": theme, "maximum_turns": 3}
    return {"task": task, "categories": [ATTACK] if mode == "redteam" else []}


def _asked(rng: random.Random) -> tuple[Request, list[dict[str, str]]]:
    request = draw_request(rng)
    return request, [{"role": "user", "content": request.text}]


def _by_models(request: Request, models: Sequence[str], rng: random.Random) -> list[dict[str, str]]:
    """A different reply of each model."""
    texts: list[str] = []
    while len(texts) < len(models):
        careless = CARELESSNESS[models[len(texts)]]
        text = imperfect_response(request.task, rng, carelessness=careless)
        if text not in texts:
            texts.append(text)
    return [{"text": text, "snapshot": model} for text, model in zip(texts, models, strict=True)]


def _ranking(rng: random.Random, number: int) -> dict[str, Any]:
    request, prompt = _asked(rng)
    candidates = _by_models(request, list(CARELESSNESS), rng)
    said = ask(request.text)
    known = {
        str(place): truths.flags(said, one["text"], RANKING_FLAGS)
        for place, one in enumerate(candidates)
    }
    worth = {str(place): truths.quality(said, one["text"]) for place, one in enumerate(candidates)}
    order = sorted(worth, key=lambda place: -worth[place])
    fields: dict[str, Any] = {"task": {"kind": "ranking", "prompt": prompt}}
    if len(set(worth.values())) == len(worth):
        fields["gold"] = {"ranking": [[place] for place in order], "flags": known}
    return {**fields, "candidates": candidates}


def _demonstration(rng: random.Random, number: int) -> dict[str, Any]:
    request, prompt = _asked(rng)
    given = {"style": "given", "prompt": prompt}
    tasks: tuple[dict[str, Any], ...] = (
        given,
        {**given, "draft": imperfect_response(request.task, rng, carelessness=3.0)},
        {"style": "plain"},
        {"style": "few_shot"},
        {"style": "use_case", "use_case": "Help a child with homework."},
    )
    return {"task": {"kind": "demonstration", **tasks[number % len(tasks)]}}


def _summary(rng: random.Random, number: int) -> dict[str, Any]:
    post, other = (_post(rng) for _ in range(2))
    fair, foul = (f"{post[0]}. {post[1]}.", f"{post[0]}. {other[1]}.")
    texts = [fair, foul] if number % 2 else [foul, fair]
    candidates = [{"text": text, "snapshot": f"model-{'ab'[text == foul]}"} for text in texts]
    task = {"kind": "summary", "title": f"Post {number}", "post": ". ".join(post) + "."}
    return {"task": task, "candidates": candidates, "gold": {"chosen": str(texts.index(fair))}}


def _post(rng: random.Random) -> list[str]:
    """The sentences of a text that has three or more different ones."""
    while True:
        (text,) = pretraining_texts(1, rng.randrange(2**31))
        sentences = list(dict.fromkeys(part.strip(" \n.") for part in text.text.split(". ")))
        if len(sentences) >= 3 and all(sentences):
            return sentences


def _vote(rng: random.Random, number: int) -> dict[str, Any]:
    request, prompt = _asked(rng)
    models = rng.sample(list(CARELESSNESS), 2)
    candidates = _by_models(request, models, rng)
    worth = [truths.quality(ask(request.text), one["text"]) for one in candidates]
    fields: dict[str, Any] = {"task": {"kind": "vote", "prompt": prompt}, "candidates": candidates}
    if abs(worth[0] - worth[1]) > 0.3:
        fields["gold"] = {"chosen": str(worth.index(max(worth)))}
    return fields


def _review(rng: random.Random, number: int) -> dict[str, Any]:
    request = draw_request(rng, family="harmful")
    reply = imperfect_response(request.task, rng)
    transcript = [
        {"role": "user", "content": request.text},
        {"role": "assistant", "content": reply},
    ]
    said = truths.dialogue_of(transcript)
    task = {"kind": "review", "transcript": transcript, "description": "I ask for something bad."}
    return {"task": task, "gold": {"success": truths.success(said)}}


def _audit(rng: random.Random, number: int) -> dict[str, Any]:
    request = draw_request(rng, family="harmful")
    given = [answers.refusal(request.task, rng), answers.compliance(request.task, rng)]
    rng.shuffle(given)
    task = {
        "kind": "audit",
        "behaviour": "declines to help with what is harmful",
        "question": request.text,
        "answers": given,
    }
    return {"task": task, "gold": {"matching": truths.safer(request.text, given)}}


def _question(rng: random.Random, number: int) -> dict[str, Any]:
    request, others = draw_request(rng, family="country"), list[str]()
    right = f"{rng.choice(bare_answers(request.task))}."
    while len(others) < 3:
        word = answers.bare_answer(draw_request(rng, family="country").task, rng)
        worth = truths.quality(ask(request.text), word)
        if word not in others and worth < truths.quality(ask(request.text), right):
            others.append(word)
    options = [right, *others]
    rng.shuffle(options)
    known = options.index(right)
    phases = (["alone"], ["alone", "assisted"])[number % 2]
    task = {
        "kind": "question", "question": request.text, "options": options, "answer": known,
        "phases": phases, "seconds": 600.0,
    }  # fmt: skip
    return {"task": task, "gold": {"choice": known}}


_MAKERS: Final[dict[str, Callable[[random.Random, int], dict[str, Any]]]] = {
    "dialogue": _dialogue,
    "ranking": _ranking,
    "demonstration": _demonstration,
    "summary": _summary,
    "vote": _vote,
    "review": _review,
    "audit": _audit,
    "question": _question,
}
