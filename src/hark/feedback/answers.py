"""What a label of each kind must hold.

An answer names candidates by id, never by where they stood on the screen: the order in which they
were shown is in the event, and no reader of labels needs it. A preference is one vocabulary for
pairs of every kind: `chosen` (None for a tie) and `strength`, 1 for slight up to 4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from hark.errors import did_you_mean
from hark.feedback.records import Candidate, Flag, FreeText, Name, Record, WrittenText
from hark.feedback.refusals import InvalidLabelError
from hark.feedback.tasks import (
    CONFIDENCES,
    DemonstrationTask,
    DialogueTask,
    QuestionTask,
    RankingTask,
    ReviewTask,
    SummaryTask,
    Task,
    VoteTask,
)


def _whole(low: int, high: int) -> Any:
    return Field(strict=True, ge=low, le=high)


Likert = Annotated[int, _whole(1, 7)]
FivePoints = Annotated[int, _whole(0, 4)]


class ComparisonAnswer(Record):
    """Eight grades: one of two, and how strongly."""

    chosen: Name
    """In red teaming the *more harmful* one."""
    strength: Annotated[int, _whole(1, 4)]


class DescriptionAnswer(Record):
    """What the attacker means to do, in a line, before the attack."""

    text: WrittenText


class RedteamAnswer(Record):
    """The attacker's own rating, when the attack is over."""

    success: FivePoints
    may_be_reviewed: Flag = False
    """Whether the attacker agrees that other labelers read the attack for a second opinion."""


class RankingAnswer(Record):
    """Every response rated and flagged, and all in order."""

    likert: dict[Name, Likert]
    """Overall quality of each."""
    flags: dict[Name, dict[Name, Flag]]
    """For each response, every flag of the task."""
    ranking: tuple[tuple[Name, ...], ...]
    """Best first; those of one group are ties."""
    notes: FreeText = ""


class Example(Record):
    """A query and its response in a few-shot prompt."""

    query: WrittenText
    response: WrittenText


class DemonstrationAnswer(Record):
    """A response, and the prompt where the labeler wrote it."""

    response: WrittenText
    prompt: WrittenText | None = None
    examples: tuple[Example, ...] = ()
    query: WrittenText | None = None
    """What the response answers, after the instruction and its examples."""


class EditAnswer(Record):
    """The draft, mended."""

    response: WrittenText


class NotesAnswer(Record):
    """What each summary seems to say, written before the post is shown."""

    notes: dict[Name, WrittenText]


class SummaryAnswer(Record):
    """Nine points: strength 0 is the middle, 4 is "definitely"."""

    chosen: Name | None
    strength: FivePoints
    axes: dict[Name, dict[Name, Likert]] = Field(default_factory=dict)
    """For each summary, every axis of the task: of labels from before axes were a task of their
    own, and of nothing that is asked for now."""


class AxesAnswer(Record):
    """Ratings of one summary beside its post."""

    ratings: dict[Name, Likert]
    """For every axis of the task."""


class VoteAnswer(Record):
    """One of two, or a tie."""

    chosen: Name | None
    both_bad: Flag = False


class ReviewAnswer(Record):
    """A second opinion."""

    success: FivePoints
    """How well the attack did, on the attacker's scale."""
    tags: tuple[Name, ...] = ()
    agrees: Flag | None = None
    """With the attacker's own rating, if it was shown."""
    notes: FreeText = ""


class AuditAnswer(Record):
    """Which of the two answers matches the behaviour, and how relevant the question is to it."""

    matching: Annotated[int, _whole(0, 1)] | None
    """None: neither, or one cannot say."""
    relevance: Annotated[int, _whole(1, 5)]
    notes: FreeText = ""


class QuestionAnswer(Record):
    """An option, and how sure the labeler is; either may be missing only where time ran out."""

    choice: Annotated[int, Field(strict=True, ge=0)] | None
    confidence: Literal[25, 42, 60, 80, 100] | None
    """Per cent."""


class MessageAnswer(Record):
    """A turn that the labeler writes to a model."""

    text: WrittenText


class ResetAnswer(Record):
    """The model forgets the dialogue so far; the labeler keeps seeing it."""


ANSWERS: dict[str, type[Record]] = {
    "comparison": ComparisonAnswer,
    "description": DescriptionAnswer,
    "redteam": RedteamAnswer,
    "ranking": RankingAnswer,
    "demonstration": DemonstrationAnswer,
    "edit": EditAnswer,
    "notes": NotesAnswer,
    "summary": SummaryAnswer,
    "axes": AxesAnswer,
    "vote": VoteAnswer,
    "review": ReviewAnswer,
    "audit": AuditAnswer,
    "qa_answer": QuestionAnswer,
    "message": MessageAnswer,
    "reset": ResetAnswer,
}
"""The record behind `answer` of an event of each kind."""


def read_answer(
    kind: str,
    values: Mapping[str, Any],
    task: Task,
    candidates: Sequence[Candidate],
    *,
    time_is_over: bool = False,
) -> Record:
    """An answer of this kind to what was shown: the task and the candidates.

    time_is_over: by the server's clock, so that a question's answer is taken as it stands.
    Raises: InvalidLabelError if it lacks something, or names what was not shown.
    """
    if kind not in ANSWERS:
        raise InvalidLabelError(f"unknown kind of label '{kind}'{did_you_mean(kind, ANSWERS)}")
    answer = ANSWERS[kind].read(values, what=f"this {kind} label")
    ids = [one.id for one in candidates]
    unreadable = [one.id for one in candidates if not one.readable]
    if unreadable and kind in JUDGES_CANDIDATES:
        raise InvalidLabelError(
            f"response '{unreadable[0]}' is cut off or failed, so that nothing can be said of "
            "them: all are drawn again"
        )
    if check := _CHECKS.get(kind):
        check(answer, task, ids)
    if isinstance(answer, QuestionAnswer):
        _check_choice(answer, task, time_is_over)
    return answer


JUDGES_CANDIDATES = frozenset({"comparison", "ranking", "notes", "summary", "axes", "vote"})


def _check_shown(chosen: str | None, ids: Collection[str]) -> None:
    if chosen is not None and chosen not in ids:
        raise InvalidLabelError(
            f"response '{chosen}' is none of those shown ({', '.join(ids)}); load the page again"
        )


def _check_covers(given: Collection[str], wanted: Collection[str], what: str) -> None:
    """Exactly those that are wanted."""
    if missing := [name for name in wanted if name not in given]:
        raise InvalidLabelError(f"{what} is missing for '{missing[0]}'")
    if extra := [name for name in given if name not in wanted]:
        raise InvalidLabelError(
            f"{what} is given for '{extra[0]}', which is none of: {', '.join(wanted)}"
        )


def _check_comparison(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, ComparisonAnswer)
    assert isinstance(task, DialogueTask)
    _check_shown(answer.chosen, ids)


def _check_vote(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, VoteAnswer)
    assert isinstance(task, VoteTask)
    _check_shown(answer.chosen, ids)
    if answer.both_bad and answer.chosen is not None:
        raise InvalidLabelError("both are bad is said of a tie: leave 'chosen' empty")


def _check_ranking(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, RankingAnswer)
    assert isinstance(task, RankingTask)
    ranked = [name for group in answer.ranking for name in group]
    _check_covers(ranked, ids, "a rank")
    if len(ranked) > len(ids) or not all(answer.ranking):
        raise InvalidLabelError("a response is ranked twice, or a group of the ranking is empty")
    _check_covers(answer.likert, ids, "an overall rating")
    _check_covers(answer.flags, ids, "a set of flags")
    for flags in answer.flags.values():
        _check_covers(flags, task.flags, "a flag")


def _check_demonstration(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, DemonstrationAnswer)
    assert isinstance(task, DemonstrationTask)
    if (task.style == "given") == (answer.prompt is not None):
        raise InvalidLabelError(
            "the prompt is given: send the response alone"
            if task.style == "given"
            else "this demonstration needs a prompt of yours as well"
        )
    if (task.style == "few_shot") != bool(answer.examples):
        raise InvalidLabelError(
            "a few-shot demonstration needs 1 or more examples"
            if task.style == "few_shot"
            else "examples belong to few-shot demonstrations"
        )
    if (task.style == "few_shot") != (answer.query is not None):
        raise InvalidLabelError(
            "a few-shot demonstration needs the query that the response answers"
            if task.style == "few_shot"
            else "a query of its own belongs to few-shot demonstrations"
        )


def _check_notes(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, NotesAnswer)
    assert isinstance(task, SummaryTask)
    _check_covers(answer.notes, ids, "a note")


def _check_summary(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, SummaryAnswer)
    assert isinstance(task, SummaryTask)
    _check_shown(answer.chosen, ids)
    if (answer.strength == 0) != (answer.chosen is None):
        raise InvalidLabelError(
            "the middle of the scale (strength 0) chooses none, and every other point chooses one"
        )
    if answer.axes:
        _check_covers(answer.axes, ids, "a set of ratings")
    for ratings in answer.axes.values():
        _check_covers(ratings, task.axes, "a rating")


def _check_axes(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, AxesAnswer)
    assert isinstance(task, SummaryTask)
    _check_covers(answer.ratings, task.axes, "a rating")


def _check_review(answer: Any, task: Any, ids: Sequence[str]) -> None:
    assert isinstance(answer, ReviewAnswer)
    assert isinstance(task, ReviewTask)
    for tag in answer.tags:
        if tag not in task.tags:
            raise InvalidLabelError(f"unknown tag '{tag}'{did_you_mean(tag, task.tags)}")
    if len(answer.tags) > task.maximum_tags or len(set(answer.tags)) < len(answer.tags):
        raise InvalidLabelError(
            f"{len(answer.tags)} tags; give up to {task.maximum_tags} different ones"
        )


_CHECKS: dict[str, Callable[[Any, Any, Sequence[str]], None]] = {
    "comparison": _check_comparison,
    "vote": _check_vote,
    "ranking": _check_ranking,
    "demonstration": _check_demonstration,
    "notes": _check_notes,
    "summary": _check_summary,
    "axes": _check_axes,
    "review": _check_review,
}


def _check_choice(answer: QuestionAnswer, task: Task, time_is_over: bool) -> None:
    assert isinstance(task, QuestionTask)
    if answer.choice is not None and answer.choice >= len(task.options):
        raise InvalidLabelError(
            f"option {answer.choice} is none of {len(task.options)}, counted from 0"
        )
    if not time_is_over and (answer.choice is None or answer.confidence is None):
        raise InvalidLabelError(
            f"choose an option and one of the confidences {', '.join(map(str, CONFIDENCES))}"
        )
