"""Bodies about labelling."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hark.feedback.assignment import State
from hark.feedback.events import LabelKind
from hark.feedback.labelling import Client
from hark.feedback.records import FreeText, Record
from hark.web.bodies.basis import Asked, Seconds

StepKind = Literal[LabelKind, "message", "reset"]


class AssignmentBody(Record):
    """An item in the asker's hands."""

    assignment_id: str
    expires_at: Seconds


class ShownCandidate(Record):
    """All that a labeler gets of a response."""

    id: str
    text: str


class ShownTurn(Record):
    """A turn of a live dialogue."""

    role: Literal["system", "user", "assistant"]
    content: str


class OwnStep(Record):
    """A step that the labeler has done."""

    kind: str
    answer: dict[str, Any] | None
    """None for a step that has none."""


class ViewBody(Record):
    """An assignment as its labeler sees it."""

    assignment_id: str
    state: State
    expires_at: Seconds
    task: dict[str, Any]
    """As far as it may be seen after the steps that are done."""
    candidates: list[ShownCandidate]
    """In the order to be shown."""
    messages: list[ShownTurn]
    """Of a live dialogue, so far."""
    waits_for_models: bool
    next_steps: list[str]
    may_finish: bool
    deadline: Seconds | None
    """When the time for the opened step is over."""
    categories: dict[str, str]
    """Category → its warning; an item that has any is not shown before the labeler asks for it."""
    answered: list[OwnStep]
    """The labeler's own steps so far."""
    now: Seconds


class LeaseBody(Record):
    """Until when an item is held."""

    expires_at: Seconds


class OpenedBody(Record):
    """The time limit of the step that is looked at now."""

    deadline: Seconds | None
    """None if there is no limit."""
    now: Seconds


class StepRequest(Asked):
    """A step of an assignment: a label, a message, a reset."""

    kind: StepKind
    answer: dict[str, Any]
    """What a step of this kind holds (docs/feedback-api.md)."""
    client: Client = Field(default_factory=Client)


class SkipRequest(Asked):
    """Why an item is left to others."""

    reason: FreeText


class ReceiptBody(Record):
    """A step is on the disk."""

    event_id: str
    repeated: bool
    """Whether it was there before, under the same key."""
    state: State
    """Of the assignment, now."""
    next_steps: list[str]
    """The kinds that may follow; empty when the item is done."""
    may_finish: bool


class KeptBody(Record):
    """Something beside the steps is on the disk."""

    event_id: str
    repeated: bool


class CorrectionRequest(Asked):
    """Another answer in place of the first; None takes it back."""

    answer: dict[str, Any] | None


class OwnLabel(Record):
    """A label that the asker gave, as it stands."""

    event_id: str
    kind: str
    ts: str
    """When it was kept."""
    assignment_id: str
    task: dict[str, Any]
    """As far as it may be seen now."""
    messages: list[ShownTurn]
    """Of a live dialogue, up to the label."""
    candidates: list[ShownCandidate]
    """In the order that was shown."""
    categories: dict[str, str]
    """Category → its warning; what has any is not shown before the labeler asks for it."""
    answer: dict[str, Any]
