"""Why a request to the feedback store was refused.

Each has the HTTP status under which the web application and the API pass it on. A label that does
not hold what its kind must hold is an `InvalidLabelError`.
"""

from __future__ import annotations

from hark.errors import HarkError


class FeedbackError(HarkError):
    """A request that the store does not do."""

    status = 400


class InvalidLabelError(FeedbackError):
    """A label lacks something, or names something that was not shown."""

    status = 422


class NotFoundError(FeedbackError):
    """There is no such study, item, assignment, event or link."""

    status = 404


class NotAllowedError(FeedbackError):
    """The person may not do this."""

    status = 403


class NotSignedInError(FeedbackError):
    """Nobody is signed in, or not any more."""

    status = 401


class ConflictError(FeedbackError):
    """Something else was done meanwhile, or under the same key."""

    status = 409


class ThrottledError(FeedbackError):
    """Too many failed attempts."""

    status = 429

    def __init__(self, message: str, *, seconds: float) -> None:
        """seconds: how long to wait."""
        super().__init__(message)
        self.seconds = seconds
