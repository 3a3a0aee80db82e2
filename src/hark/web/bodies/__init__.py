"""What requests and responses of the API hold; the server and its client read the same records.

Requests are closed to unknown names, strict about types, and bounded. Nothing that a labeler gets
(`StudyForLabeler`, `ViewBody`, `OwnLabel`) has a place for a model's name, gold, or anybody else.
"""

from __future__ import annotations

from hark.feedback.export import ExportSettings
from hark.feedback.labelling import Client
from hark.feedback.records import Candidate
from hark.feedback.studies import StudySettings
from hark.web.bodies.basis import (
    Asked,
    ErrorBody,
    Refusal,
)
from hark.web.bodies.people import (
    ChangeBody,
    ForgetBody,
    InviteBody,
    InviteLink,
    InviteRequest,
    LoginBody,
    MeBody,
    OpenInviteBody,
    PasswordBody,
    PersonBody,
    PersonChanges,
    RevokedBody,
    SessionBody,
    TokenBody,
    TokenRequest,
)
from hark.web.bodies.studies import (
    CandidatesBody,
    CandidatesRequest,
    DecisionBody,
    ExportBody,
    ExportFile,
    GradeRequest,
    ItemBody,
    ItemIds,
    MemberBody,
    MemberChanges,
    MembershipBody,
    StateRequest,
    StudyForLabeler,
    StudyForManager,
    StudyLine,
)
from hark.web.bodies.work import (
    AssignmentBody,
    CorrectionRequest,
    KeptBody,
    LeaseBody,
    OpenedBody,
    OwnLabel,
    ReceiptBody,
    ShownCandidate,
    ShownTurn,
    SkipRequest,
    StepKind,
    StepRequest,
    ViewBody,
)

__all__ = [
    "Asked",
    "AssignmentBody",
    "Candidate",
    "CandidatesBody",
    "CandidatesRequest",
    "ChangeBody",
    "Client",
    "CorrectionRequest",
    "DecisionBody",
    "ErrorBody",
    "ExportBody",
    "ExportFile",
    "ExportSettings",
    "ForgetBody",
    "GradeRequest",
    "InviteBody",
    "InviteLink",
    "InviteRequest",
    "ItemBody",
    "ItemIds",
    "KeptBody",
    "LeaseBody",
    "LoginBody",
    "MeBody",
    "MemberBody",
    "MemberChanges",
    "MembershipBody",
    "OpenInviteBody",
    "OpenedBody",
    "OwnLabel",
    "PasswordBody",
    "PersonBody",
    "PersonChanges",
    "ReceiptBody",
    "Refusal",
    "RevokedBody",
    "SessionBody",
    "ShownCandidate",
    "ShownTurn",
    "SkipRequest",
    "StateRequest",
    "StepKind",
    "StepRequest",
    "StudyForLabeler",
    "StudyForManager",
    "StudyLine",
    "StudySettings",
    "TokenBody",
    "TokenRequest",
    "ViewBody",
]
