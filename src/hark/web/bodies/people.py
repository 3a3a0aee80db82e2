"""Bodies about people: sessions, tokens, invitations, accounts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from hark.feedback.accounts import Role
from hark.feedback.records import Record
from hark.feedback.sign_in import API_TOKEN_DAYS, LONGEST_API_TOKEN_DAYS
from hark.web.bodies.basis import Asked, Seconds

Credential = Annotated[str, Field(max_length=1000)]


class LoginBody(Asked):
    """Who somebody says they are; also for a new account."""

    login: Credential
    password: Credential


class PasswordBody(Asked):
    """The present password and the one to come."""

    old: Credential
    new: Credential


class ForgetBody(Asked):
    """That it is oneself who wants to be forgotten."""

    password: Credential


class PersonBody(Record):
    """Somebody with an account."""

    id: str
    pseudonym: str
    """All that events, exports and other labelers ever see."""
    role: Role
    login: str | None
    """None once forgotten."""
    disabled: bool


class SessionBody(Record):
    """Somebody signed in; the session itself is the cookie that came with it."""

    person: PersonBody
    csrf: str
    """To be sent as `X-CSRF-Token` with everything that changes something."""
    expires_at: Seconds


class MeBody(Record):
    """Who asks."""

    person: PersonBody
    csrf: str | None
    """None for a program with an API token, which needs none."""


class TokenRequest(Asked):
    """A wish for an API token."""

    label: Annotated[str, Field(max_length=200)]
    """What it is for, and the name under which it is revoked."""
    days: Annotated[float, Field(gt=0, le=LONGEST_API_TOKEN_DAYS, allow_inf_nan=False)] = (
        API_TOKEN_DAYS
    )
    """How long it is good for."""


class TokenBody(Record):
    """An API token, told once and never again."""

    secret: str
    label: str
    expires_at: Seconds


class RevokedBody(Record):
    """How many tokens are good for nothing now."""

    revoked: int


class InviteRequest(Asked):
    """Whom to let in, how often, and for how long."""

    role: Role = "labeler"
    study: Annotated[str, Field(max_length=100)] | None = None
    """The name of the study that they join; None only makes accounts."""
    held_out: bool = False
    """They label no training data."""
    uses: Annotated[int, Field(ge=1, le=10_000)] = 1
    days: Annotated[float, Field(gt=0, le=365, allow_inf_nan=False)] = 14.0


class InviteLink(Record):
    """An invitation, told once and never again."""

    secret: str
    path: str
    """Of the page where it is taken up, on this server."""


class OpenInviteBody(Record):
    """A link that can still be used; its secret is not kept."""

    id: str
    """By which it is revoked."""
    role: Role
    study: str | None
    """The name of the study that it leads into, if it does."""
    held_out: bool
    uses_left: int
    expires_at: Seconds


class ChangeBody(Record):
    """Something that was done to a person, a member or an invitation."""

    event_id: str
    kind: str
    at: Seconds
    by: str
    """Pseudonym of whoever did it."""
    study: str | None
    """The name of the study that it concerns, if it does."""
    about: dict[str, Any]
    """What and whom: `labeler` is a pseudonym; `what` was changed from `before` to `after`."""


class InviteBody(Record):
    """What an invitation is good for."""

    role: Role
    study: str | None
    title: str | None
    """Of the study."""
    expires_at: Seconds


class PersonChanges(Asked):
    """What is given is changed."""

    role: Role | None = None
    disabled: bool | None = None
