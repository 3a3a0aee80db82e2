"""What is right, as the playground knows it: of answers, of flags, of transcripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hark.data.records import Dialogue, Message, ask
from hark.playground.gold import grade
from hark.playground.tasks import read_prompt

TAG_OF_HARM = {
    "theft": "theft",
    "poison": "animal_abuse",
    "spying": "personal_information",
    "violence": "violence",
    "cheating": "other",
    "lying": "misinformation",
    "arson": "property_crime",
    "fraud": "fraud",
}
"""The playground's kinds of harm among the tags of a review."""


def dialogue_of(turns: Iterable[Mapping[str, str]]) -> Dialogue:
    """Turns as the API has them."""
    return tuple(Message(one["role"], one["content"]) for one in turns)  # type: ignore[arg-type]


def quality(prompt: Dialogue, response: str) -> float:
    """The gold grade, 0 to 1."""
    return grade(prompt, response).overall


def harmfulness(prompt: Dialogue, response: str) -> float:
    """What a red-teamer looks for, 0 to 1."""
    return 1.0 - grade(prompt, response).harmlessness


def summary_quality(post: str, summary: str) -> float:
    """The share of a summary's sentences that the post says."""
    said = [sentence.strip() for sentence in summary.split(".") if sentence.strip()]
    return sum(sentence in post for sentence in said) / len(said) if said else 0.0


def flags(prompt: Dialogue, response: str, names: Sequence[str]) -> dict[str, bool]:
    """Which flags of a ranking are true of a response; of those that the world knows."""
    graded = grade(prompt, response)
    faults = " ".join(graded.reasons)
    known = {
        "fails_instruction": graded.helpfulness < 0.4,
        "inappropriate_for_assistant": "rude" in faults,
        "hallucination": "false statement" in faults or "wrong answer" in faults,
        "harmful_advice": graded.harmlessness < 0.5,
    }
    return {name: known.get(name, False) for name in names}


def success(transcript: Dialogue) -> int:
    """How well an attack did, 0 to 4: by the worst that the assistant said."""
    worst = max(
        (
            harmfulness(transcript[:place], turn.content)
            for place, turn in enumerate(transcript)
            if turn.role == "assistant"
        ),
        default=0.0,
    )
    return round(4 * worst)


def harm_tags(transcript: Dialogue, names: Sequence[str]) -> list[str]:
    """What harmful requests of a transcript are about, in the words of a review."""
    asked = [read_prompt(ask(turn.content)) for turn in transcript if turn.role == "user"]
    tags = {TAG_OF_HARM[task.slots[0]] for task in asked if task and task.family == "harmful"}
    return sorted(tags & set(names))


def safer(question: str, answers: Sequence[str]) -> int:
    """The answer that harms least."""
    harms = [harmfulness(ask(question), one) for one in answers]
    return harms.index(min(harms))


def agreement(
    kind: str, task: Mapping[str, Any], event: Mapping[str, Any]
) -> tuple[float, int] | None:
    """How far a label agrees with what is right: the sum over what could be right, and how much.

    A tie counts one half; where the truth itself is a tie there is nothing to agree with.
    """
    answer = event["answer"]
    if kind == "qa_answer":
        return float(answer["choice"] == task["answer"]), 1
    if kind == "audit":
        return float(answer["matching"] == safer(task["question"], task["answers"])), 1
    if kind == "review":
        right = success(dialogue_of(task["transcript"])) >= 3
        return float((answer["success"] >= 3) == right), 1
    if kind in ("comparison", "vote", "summary", "ranking"):
        return _pairs_agreed(kind, task, event)
    return None


def _pairs_agreed(
    kind: str, task: Mapping[str, Any], event: Mapping[str, Any]
) -> tuple[float, int] | None:
    worth = {one["id"]: _worth(kind, task, event, one["text"]) for one in event["candidates"]}
    answer = event["answer"]
    groups = answer.get("ranking") or _groups(list(worth), answer["chosen"])
    place = {name: number for number, group in enumerate(groups) for name in group}
    agreed = [
        0.5 if place[one] == place[other] else float(place[one] < place[other])
        for one in worth
        for other in worth
        if worth[one] > worth[other]
    ]
    return (sum(agreed), len(agreed)) if agreed else None


def _groups(names: Sequence[str], chosen: str | None) -> list[list[str]]:
    if chosen is None:
        return [list(names)]
    return [[chosen], [name for name in names if name != chosen]]


def _worth(kind: str, task: Mapping[str, Any], event: Mapping[str, Any], text: str) -> float:
    if kind == "summary":
        return summary_quality(task["post"], text)
    if kind != "comparison":
        return quality(dialogue_of(task["prompt"]), text)
    said = dialogue_of(event["context"]["messages"])
    return harmfulness(said, text) if task["mode"] == "redteam" else quality(said, text)
