"""A live dialogue, put together from its events and the responses drawn for it.

Nothing of it is stored as a whole: it is the opening, what the labeler wrote, and for each turn the
response that was chosen (two were drawn) or the only one (a question's assistant).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from hark.feedback.events import Event
from hark.feedback.items import Item, candidates_of
from hark.feedback.records import Candidate, Turn
from hark.feedback.tasks import AnyTask, DialogueTask, QuestionTask


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveDialogue:
    """Where a dialogue stands."""

    messages: tuple[Turn, ...]
    """All that was said, up to the labeler's last words or the response that followed them."""
    context_from: int
    """Index of the first message that the model still remembers (after a reset)."""
    turn: int
    """Number of the turn that `candidates` belong to, from 0."""
    candidates: tuple[Candidate, ...]
    """Drawn for this turn; none yet, or two to choose from, or the one response."""

    @property
    def waits_for_models(self) -> bool:
        """Whether responses to the last words are to be drawn, or drawn again."""
        asked = bool(self.messages) and self.messages[-1].role == "user"
        return asked and not (self.candidates and all(one.readable for one in self.candidates))


def dialogue_of(
    connection: Connection, item: Item, assignment_id: str, steps: Sequence[Event]
) -> LiveDialogue:
    """The dialogue of an assignment.

    steps: its events in order, without corrections: a dialogue went on from the first choice.
    """
    task = item.task
    assert isinstance(task, DialogueTask | QuestionTask)
    messages = list(task.opening) if isinstance(task, DialogueTask) else []
    context_from, turn = 0, -1
    drawn: list[Candidate] = []
    for step in steps:
        if step.kind == "message":
            turn += 1
            messages.append(Turn(role="user", content=step.body["answer"]["text"]))
            drawn, _ = candidates_of(connection, item.id, assignment_id, turn)
            if isinstance(task, QuestionTask) and drawn and drawn[0].readable:
                messages.append(Turn(role="assistant", content=drawn[0].text))
        elif step.kind == "comparison":
            chosen = step.body["answer"]["chosen"]
            text = next(one["text"] for one in step.body["candidates"] if one["id"] == chosen)
            messages.append(Turn(role="assistant", content=text))
        elif step.kind == "reset":
            context_from = len(messages)
    return LiveDialogue(
        messages=tuple(messages),
        context_from=context_from,
        turn=max(turn, 0),
        candidates=tuple(drawn),
    )


def with_passage(task: AnyTask, messages: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """What a model is given of a dialogue's messages, those before a reset left out.

    The passage of a question stands before the labeler's first words (2211.03540): the model reads
    what the labeler has no time for. The question itself is not told.
    """
    if not isinstance(task, QuestionTask) or not task.passage.strip() or not messages:
        return messages
    first = Turn(role="user", content=f"{task.passage}\n\n{messages[0].content}")
    return (first, *messages[1:])
