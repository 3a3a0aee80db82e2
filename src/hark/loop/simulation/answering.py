"""What a simulated labeler answers to what is shown: a function of the two, for every kind of step.

A step is chosen among those that are due; its answer holds what `hark.feedback.answers` asks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hark.data.records import Dialogue, ask
from hark.feedback.tasks import CONFIDENCES
from hark.loop.simulation import truths
from hark.loop.simulation.characters import Character
from hark.playground.answers import right_answer
from hark.playground.demonstrations import ideal_response, imperfect_response
from hark.playground.labelers import STRENGTH_STEPS, rank
from hark.playground.tasks import draw_request, read_prompt
from hark.web.bodies import StepKind, ViewBody

Answer = dict[str, Any]
Step = StepKind | Literal["finish"]
JUNK: Final = "good good good"
INSTRUCTION: Final = "Answer each request."
FLAG_ERRORS: Final = 0.05
"""How often a labeler who reads takes a flag for its opposite."""
REPELLED: Final = 0.25
"""Two responses that are tied below this grade are both bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is to be sent next, and how it came about."""

    kind: Step
    answer: Answer
    seconds: float
    """That a person would have taken."""
    pasted_characters: int

    @property
    def client(self) -> dict[str, Any]:
        """What the page says beside the answer."""
        pasted = {"pasted_characters": self.pasted_characters} if self.pasted_characters else {}
        return {"ms_active": round(1000 * self.seconds), "ui": "simulated", **pasted}


def reply(labeler: Character, view: ViewBody) -> Reply | None:
    """The next step of a labeler; None where nothing is due."""
    kind = _next_kind(labeler, view)
    if kind is None:
        return None
    answer = {} if kind in ("finish", "reset") else _ANSWERS[kind](labeler, view)
    written = _written(answer)
    read = sum(len(one.text) for one in view.candidates) + len(str(view.task))
    pasted = labeler.kind == "paster"
    work = read + (0 if pasted else 4 * written)  # writing takes longer
    return Reply(
        kind=kind,
        answer=answer,
        seconds=labeler.seconds_for(work, kind, fingerprint(view)),
        pasted_characters=written if pasted else 0,
    )


def fingerprint(view: ViewBody) -> tuple[str, ...]:
    """What is shown, without ids and places: the same for the same item at any time.

    All dialogues begin with the same empty page: `_item` tells these apart.
    """
    texts = sorted(one.text for one in view.candidates)
    said = [one.content for one in view.messages]
    begins = [_item(view)] if view.task["kind"] == "dialogue" and not said else []
    return (repr(sorted(view.task.items(), key=str)), *texts, *said, *begins)


def _item(view: ViewBody) -> str:
    """Tells dialogues apart that have nothing in common yet; those without a theme only by id."""
    if view.task.get("theme") or view.task.get("opening"):
        return repr((view.task["theme"], view.task["opening"]))
    return view.assignment_id


def _written(answer: Answer) -> int:
    texts = [answer.get(name) or "" for name in ("text", "response", "prompt")]
    return sum(map(len, [*texts, *answer.get("notes", {})])) if answer else 0


def _next_kind(labeler: Character, view: ViewBody) -> Step | None:
    due: Sequence[Any] = view.next_steps
    if view.task["kind"] == "question" and "message" in due:
        return _next_of_question(labeler, view)
    if "message" not in due:
        return due[0] if due else None
    turns = sum(one.role == "assistant" for one in view.messages)
    wanted = 1 + int(labeler.draw("turns", _item(view)) * 2)
    if turns >= wanted and "redteam" in due:
        return "redteam"
    return "finish" if turns >= wanted and view.may_finish else "message"


def _next_of_question(labeler: Character, view: ViewBody) -> Step:
    """In the assisted phase most ask the model once; some let it forget that."""
    asked = sum(one.role == "user" for one in view.messages)
    if not asked:
        return "message" if labeler.happens(0.8, "asks", view.task["question"]) else "qa_answer"
    if asked == 1 and labeler.happens(0.2, "asks again", view.task["question"]):
        return "message" if any(one.kind == "reset" for one in view.answered) else "reset"
    return "qa_answer"


# Judgements


def _by_grade(labeler: Character, view: ViewBody, prompt: Dialogue) -> dict[str, float]:
    return {
        one.id: labeler.likes(prompt, one.text, place) for place, one in enumerate(view.candidates)
    }


def preference(labeler: Character, likings: dict[str, float]) -> tuple[str | None, int]:
    """The best of two and by how much, 1 to 4; none and 0 for a tie."""
    gap = max(likings.values()) - min(likings.values())
    if gap <= labeler.tie_threshold:
        return None, 0
    best = max(likings, key=lambda name: likings[name])
    return best, 1 + sum(gap > step for step in STRENGTH_STEPS)


def _seven(liking: float) -> int:
    return max(1, min(7, 1 + round(6 * liking)))


def _comparison(labeler: Character, view: ViewBody) -> Answer:
    prompt = truths.dialogue_of(one.model_dump() for one in view.messages)
    if view.task["mode"] == "redteam":  # the more harmful one
        likings = {
            one.id: labeler.likes_as(
                truths.harmfulness(prompt, one.text), place, "harm", prompt, one.text
            )
            for place, one in enumerate(view.candidates)
        }
    else:
        likings = _by_grade(labeler, view, prompt)
    chosen, strength = preference(labeler, likings)
    return {"chosen": chosen or view.candidates[0].id, "strength": strength or 1}


def _vote(labeler: Character, view: ViewBody) -> Answer:
    likings = _by_grade(labeler, view, truths.dialogue_of(view.task["prompt"]))
    chosen, _ = preference(labeler, likings)
    return {"chosen": chosen, "both_bad": chosen is None and max(likings.values()) < REPELLED}


def _ranking(labeler: Character, view: ViewBody) -> Answer:
    prompt = truths.dialogue_of(view.task["prompt"])
    likings = _by_grade(labeler, view, prompt)
    ranks = dict(zip(likings, rank(list(likings.values()), labeler.tie_threshold), strict=True))
    groups = [[name for name in ranks if ranks[name] == r] for r in sorted(set(ranks.values()))]
    return {
        "likert": {name: _seven(liking) for name, liking in likings.items()},
        "flags": {one.id: _flags(labeler, view, prompt, one.text) for one in view.candidates},
        "ranking": groups,
        "notes": "",
    }


def _flags(labeler: Character, view: ViewBody, prompt: Dialogue, text: str) -> dict[str, bool]:
    names = view.task["flags"]
    if labeler.kind in ("spammer", "guesser"):
        return dict.fromkeys(names, False)
    true = truths.flags(prompt, text, names)
    return {
        name: value != labeler.happens(FLAG_ERRORS, "flag", name, prompt, text)
        for name, value in true.items()
    }


def _summary(labeler: Character, view: ViewBody) -> Answer:
    post = view.task["post"]
    likings = {
        one.id: labeler.likes_as(truths.summary_quality(post, one.text), place, post, one.text)
        for place, one in enumerate(view.candidates)
    }
    chosen, strength = preference(labeler, likings)
    return {"chosen": chosen, "strength": strength}


def _axes(labeler: Character, view: ViewBody) -> Answer:
    post, (summary,) = view.task["post"], view.candidates
    quality = truths.summary_quality(post, summary.text)
    liking = labeler.likes_as(quality, 0, post, summary.text)
    return {"ratings": dict.fromkeys(view.task["axes"], _seven(liking))}


def _review(labeler: Character, view: ViewBody) -> Answer:
    transcript = truths.dialogue_of(view.task["transcript"])
    noise = round(3 * labeler.population.settings.noise * (labeler.draw("off", transcript) - 0.5))
    success = max(0, min(4, truths.success(transcript) + noise))
    if labeler.kind in ("spammer", "guesser"):
        success = int(5 * labeler.draw("success", transcript))
    tags = truths.harm_tags(transcript, view.task["tags"])
    return {"success": success, "tags": tags[: view.task["maximum_tags"]], "agrees": None}


def _audit(labeler: Character, view: ViewBody) -> Answer:
    question, answers = view.task["question"], view.task["answers"]
    likings = [
        labeler.likes_as(-truths.harmfulness(ask(question), one), place, question, one)
        for place, one in enumerate(answers)
    ]
    return {
        "matching": likings.index(max(likings)),
        "relevance": 5 if read_prompt(ask(question)) else 2,
    }


def _qa_answer(labeler: Character, view: ViewBody) -> Answer:
    question = view.task["question"]
    likings = [
        labeler.likes_as(truths.quality(ask(question), option), place, question, option)
        for place, option in enumerate(view.task["options"])
    ]
    best, second = sorted(likings, reverse=True)[:2]
    sure = sum(best - second > step for step in (0.05, 0.15, 0.3, 0.5))
    return {"choice": likings.index(best), "confidence": CONFIDENCES[sure]}


# Writing


def _rng(labeler: Character, purpose: str, view: ViewBody) -> random.Random:
    return random.Random(repr((labeler.seed, labeler.name, purpose, fingerprint(view))))


def _message(labeler: Character, view: ViewBody) -> Answer:
    if view.task["kind"] == "question":
        return {"text": view.task["question"]}
    attacks = view.task["mode"] == "redteam"
    family = "harmful" if attacks else None
    rng = _rng(labeler, f"message {_item(view)}", view)
    return {"text": draw_request(rng, family=family).text}


def _description(labeler: Character, view: ViewBody) -> Answer:
    return {"text": "I ask for something bad, in a friendly way."}


def _redteam(labeler: Character, view: ViewBody) -> Answer:
    said = truths.dialogue_of(one.model_dump() for one in view.messages)
    return {"success": truths.success(said)}


def _demonstration(labeler: Character, view: ViewBody) -> Answer:
    rng = _rng(labeler, "demonstration", view)
    style = view.task["style"]
    if style == "given":
        return {"response": _response(labeler, truths.dialogue_of(view.task["prompt"]), rng)}
    requests = [ask(draw_request(rng).text) for _ in range(3)]
    written = [(one[0].content, _response(labeler, one, rng)) for one in requests]
    prompt, response = written[0]
    if style != "few_shot":
        return {"prompt": prompt, "response": response}
    shots = [{"query": query, "response": response} for query, response in written[1:]]
    return {"prompt": INSTRUCTION, "examples": shots, "query": prompt, "response": response}


def _response(labeler: Character, prompt: Dialogue, rng: random.Random) -> str:
    task = read_prompt(prompt)
    if labeler.kind in ("spammer", "guesser") or task is None:
        return JUNK
    if labeler.kind == "speeder":
        return right_answer(task, rng)
    careless = imperfect_response(task, rng)
    return careless if rng.random() < 0.2 else ideal_response(prompt, rng)


def _edit(labeler: Character, view: ViewBody) -> Answer:
    rng = _rng(labeler, "edit", view)
    return {"response": _response(labeler, truths.dialogue_of(view.task["prompt"]), rng)}


def _notes(labeler: Character, view: ViewBody) -> Answer:
    return {"notes": {one.id: f"It seems to say: {one.text[:80]}" for one in view.candidates}}


_ANSWERS: Final[dict[str, Callable[[Character, ViewBody], Answer]]] = {
    "comparison": _comparison,
    "vote": _vote,
    "ranking": _ranking,
    "notes": _notes,
    "summary": _summary,
    "axes": _axes,
    "review": _review,
    "audit": _audit,
    "qa_answer": _qa_answer,
    "message": _message,
    "description": _description,
    "redteam": _redteam,
    "demonstration": _demonstration,
    "edit": _edit,
}
