"""Why a request was not answered, in the form in which OpenAI's clients expect it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hark.errors import did_you_mean

WITHHELD_REPLY = "I cannot help with that."
"""What a prompt is answered that a detector of outliers keeps from the models."""


class Refusal(Exception):  # noqa: N818 (it is an answer, not a defect)
    """A request is answered with an HTTP status and an error body instead."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        """param: the field of the body that offends; code: what a program can go by."""
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def headers(self) -> dict[str, str]:
        """A server too busy says when to come again."""
        return {"Retry-After": "1"} if self.status == 503 else {}

    def to_json(self) -> dict[str, Any]:
        """The body, with the four fields that OpenAI's has."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def bad_field(problems: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> Refusal:
    """The first of pydantic's problems with a body whose fields are `fields`."""
    problem = problems[0]
    place = [str(part) for part in problem["loc"] if part != "body"]
    if problem["type"] == "json_invalid" or not place:
        return Refusal(400, f"the body is not a JSON object of this endpoint: {problem['msg']}")
    # Beyond the field, pydantic names the alternatives of its type that it has tried.
    param = place[0] + "".join(f"[{part}]" for part in place[1:] if part.isdigit())
    if problem["type"] == "extra_forbidden":
        message = f"there is no parameter '{param}' here{did_you_mean(param, fields)}"
    elif problem["type"] == "missing":
        message = f"'{param}' is required"
    else:
        told = problem["msg"].removeprefix("Value error, ")
        message = f"'{param}': {told} (got {_short(problem['input'])})"
    return Refusal(400, message, param=param, code="invalid_value")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
