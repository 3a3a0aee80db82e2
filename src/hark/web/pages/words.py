"""Kinds of task and of label, and what a label says, in words for the one who gave it."""

from __future__ import annotations

from typing import Any, Final

from hark.feedback.history import OwnLabel

KINDS: Final = {
    "dialogue": "dialogue",
    "ranking": "ranking",
    "demonstration": "writing",
    "summary": "summaries",
    "vote": "vote",
    "review": "review",
    "audit": "audit",
    "question": "question",
}
"""What is done in a study, by the kind of its tasks."""
LABELS: Final = {
    "comparison": "Choice between two responses",
    "description": "Plan of an attack",
    "redteam": "Rating of an attack",
    "ranking": "Ranking",
    "demonstration": "Demonstration",
    "edit": "Mended draft",
    "notes": "Notes on summaries",
    "summary": "Choice between two summaries",
    "axes": "Ratings of a summary",
    "vote": "Vote",
    "review": "Review of an attack",
    "audit": "Audit of a question",
    "qa_answer": "Answer to a question",
}
STRENGTHS: Final = ("no difference", "slightly", "somewhat", "clearly", "much")
SUCCESS: Final = ("not at all", "a little", "half", "mostly", "completely")
EXCERPT: Final = 280


def about(label: OwnLabel) -> str:
    """The beginning of what the label is about."""
    task = label.task
    turns = label.messages or task.get("prompt") or task.get("transcript") or ()
    asked = [turn["content"] for turn in turns if turn["role"] == "user"]
    text = (
        (asked[-1] if asked else "")
        or task.get("post")
        or task.get("question")
        or task.get("use_case")
        or task.get("theme")
        or ""
    )
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT].rstrip()} …"


def said(label: OwnLabel) -> str:
    """The answer in a line."""
    return _SAYINGS[label.kind](label, label.answer)


def _letter(label: OwnLabel, candidate_id: str | None) -> str:
    ids = [one["id"] for one in label.candidates]
    return chr(ord("A") + ids.index(candidate_id)) if candidate_id in ids else "neither"


def _compared(label: OwnLabel, answer: dict[str, Any]) -> str:
    if answer["chosen"] is None:
        return "no difference"
    redteam = label.task.get("mode") == "redteam"
    word = "more harmful" if redteam else "better"
    return f"{_letter(label, answer['chosen'])} is {STRENGTHS[answer['strength']]} {word}"


def _rated(_label: OwnLabel, answer: dict[str, Any]) -> str:
    return ", ".join(f"{axis} {value} of 7" for axis, value in answer["ratings"].items())


def _voted(label: OwnLabel, answer: dict[str, Any]) -> str:
    if answer["chosen"] is None:
        return "both are bad" if answer["both_bad"] else "a tie"
    return f"{_letter(label, answer['chosen'])} is better"


def _ranked(label: OwnLabel, answer: dict[str, Any]) -> str:
    groups = [" = ".join(_letter(label, name) for name in group) for group in answer["ranking"]]
    return " > ".join(groups)


def _reviewed(_label: OwnLabel, answer: dict[str, Any]) -> str:
    tags = ", ".join(tag.replace("_", " ") for tag in answer["tags"])
    return f"it succeeded {SUCCESS[answer['success']]}{f'; {tags}' if tags else ''}"


def _audited(label: OwnLabel, answer: dict[str, Any]) -> str:
    place = answer["matching"]
    matching = "neither answer" if place is None else f"“{label.task['answers'][place].strip()}”"
    return f"{matching} matches; relevance {answer['relevance']} of 5"


def _answered(label: OwnLabel, answer: dict[str, Any]) -> str:
    if answer["choice"] is None:
        return "nothing in time"
    sure = answer["confidence"]
    return label.task["options"][answer["choice"]] + ("" if sure is None else f" ({sure} %)")


def _attacked(_label: OwnLabel, answer: dict[str, Any]) -> str:
    agreed = "; others may review it" if answer.get("may_be_reviewed") else ""
    return f"it succeeded {SUCCESS[answer['success']]}{agreed}"


def _noted(_label: OwnLabel, answer: dict[str, Any]) -> str:
    return " · ".join(answer["notes"].values())


_SAYINGS: Final = {
    "comparison": _compared,
    "summary": _compared,
    "axes": _rated,
    "vote": _voted,
    "ranking": _ranked,
    "review": _reviewed,
    "audit": _audited,
    "qa_answer": _answered,
    "notes": _noted,
    "description": lambda _label, answer: answer["text"],
    "redteam": _attacked,
    "demonstration": lambda _label, answer: answer["response"],
    "edit": lambda _label, answer: answer["response"],
}
