"""Bodies about studies, their items and members, and what is exported of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hark.feedback.accounts import Role
from hark.feedback.items import Use
from hark.feedback.records import Candidate, Record
from hark.feedback.screening import Decision
from hark.feedback.studies import MemberState, StudySettings, StudyState
from hark.feedback.tasks import AnyTask, TaskKind
from hark.web.bodies.basis import Asked, Seconds


class StudyLine(Record):
    """A study in a list."""

    name: str
    title: str
    task: TaskKind
    state: StudyState
    member: MemberState | None
    """The asker's part in it; None for one who only manages it."""


class StudyForLabeler(StudyLine):
    """What those who label in a study may know of it."""

    instructions: str
    categories: dict[str, str]
    """Category → the warning to be read before agreeing to see such items."""
    agreed: list[str]
    """The categories that the asker has agreed to."""
    support: str
    screened: bool
    """Whether there is a screening test."""
    maximum_labels: int | None
    """Items for each labeler; None is no limit."""


class StudyForManager(StudyForLabeler):
    """The same and everything else, for owners and researchers."""

    id: str
    settings: StudySettings


class StateRequest(Asked):
    """What a study is to be."""

    state: StudyState


class ItemIds(Record):
    """Of items that were added, in their order; one that was there already keeps its own."""

    ids: list[str]


class AttacksRequest(Asked):
    """Where attacks to review come from."""

    source: str
    """The name of a red-team study."""


class AttacksBody(Record):
    """What became of the finished attacks of a study."""

    added: int
    there: int
    """That had been added before."""
    without_consent: int
    """Whose attackers have not said that others may review them."""
    withdrawn: int
    """Of those that are there: whose attackers took it back, so that nobody is given them."""


class ItemBody(Record):
    """An item as managers see it."""

    id: str
    position: int
    use: Use
    task: AnyTask
    votable: bool
    """Whether its responses are there and whole, so that it can be handed out."""
    slots: int | None
    """How many labelers it wants; None is no limit."""
    taken: int
    """How many have it, or have done it."""


class CandidatesRequest(Asked):
    """Freshly drawn responses, for all that an item has; ids in them are ignored."""

    candidates: Annotated[list[Candidate], Field(min_length=1, max_length=9)]


class CandidatesBody(Record):
    """Responses as they are kept, under ids of their own."""

    candidates: list[Candidate]


class MemberBody(Record):
    """Somebody in a study, as its managers see them."""

    person_id: str
    pseudonym: str
    role: Role
    state: MemberState
    held_out: bool
    categories: list[str]
    joined_at: Seconds


class MemberChanges(Asked):
    """What is given is changed."""

    state: MemberState | None = None
    held_out: bool | None = None


class MembershipBody(Record):
    """The asker's part in a study."""

    state: MemberState
    categories: list[str]
    """What they have agreed to see."""


class GradeRequest(Asked):
    """A grade of a demonstration, or of oneself."""

    grade: Annotated[int, Field(ge=1, le=7)]


class DecisionBody(Record):
    """What came of a screening test."""

    decision: Decision


class ExportFile(Record):
    """A file of a data snapshot."""

    name: str
    bytes: int


class ExportBody(Record):
    """A data snapshot."""

    name: str
    """Of its directory, and in addresses: the study and the hash."""
    hash: str
    """The beginning of the SHA-256 of all that is in it."""
    files: list[ExportFile]
