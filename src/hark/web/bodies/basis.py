"""What the bodies of requests have in common, and the body of a refusal."""

from __future__ import annotations

from pydantic import ConfigDict

from hark.feedback.records import Record

Seconds = float
"""Since 1970, by the server's clock."""


class Asked(Record):
    """The body of a request."""

    model_config = ConfigDict(strict=True)


class Refusal(Record):
    """Why a request was not done."""

    message: str
    """One sentence: what happened, and the way out."""
    status: int


class ErrorBody(Record):
    """The body of every response that is not a success."""

    error: Refusal
