"""The base of what clients send: frozen, typed, closed to unknown names, and bounded in size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic import ValidationError as PydanticValidationError

from hark.errors import did_you_mean
from hark.feedback.refusals import InvalidLabelError
from hark.settings import describe_validation_error, unknown_name

MAXIMUM_TEXT_CHARACTERS = 100_000


def _without_nul(text: str) -> str:
    # PostgreSQL has no place for it in a text, nor a person any use.
    if "\0" in text:
        raise ValueError("has a NUL character")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


FreeText = Annotated[
    str,
    StringConstraints(strict=True, max_length=MAXIMUM_TEXT_CHARACTERS),
    AfterValidator(_without_nul),
]
"""What a person or a model wrote; may be empty."""
WrittenText = Annotated[FreeText, AfterValidator(_not_blank)]
Name = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=200), AfterValidator(_without_nul)
]
"""Of a candidate, a model, a category."""
Flag = Annotated[bool, Field(strict=True)]


class Record(BaseModel):
    """Something that a client sends or the store keeps as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, values: Any) -> Any:
        if isinstance(values, dict) and (said := unknown_name(cls, values)) is not None:
            raise ValueError(
                f"unknown field '{said}'{did_you_mean(said, cls.model_fields)}; "
                f"expected: {', '.join(cls.model_fields) or 'none'}"
            )
        return values

    @classmethod
    def read(cls, values: Mapping[str, Any], *, what: str) -> Self:
        """Build from plain values; `what` names them in the error.

        Raises: InvalidLabelError with a clause for each thing that is wrong.
        """
        try:
            return cls.model_validate(values)
        except PydanticValidationError as error:
            raise InvalidLabelError(_short(describe_validation_error(error, where=what))) from None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode="json")


def _short(message: str) -> str:
    """An error repeats the offending value, which may be a book."""
    return message if len(message) <= 600 else f"{message[:600]}…"


class Turn(Record):
    """One turn of a dialogue, as `hark.data.records.Message`."""

    role: Literal["system", "user", "assistant"]
    content: WrittenText


class Sampling(Record):
    """How a response was drawn."""

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: int | None = None
    best_of: Annotated[int, Field(ge=1)] = 1


class Candidate(Record):
    """A response that may be judged."""

    id: str = ""
    """Given by the store; says nothing of the model."""
    text: FreeText
    snapshot: Name | None = None
    """The model that wrote it, or "human"; no labeler ever sees it."""
    sampling: Sampling | None = None
    logprob: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Of the whole response, in nats."""
    finish: Literal["stop", "length", "error"] = "stop"
    """Why it ended; "length" is a response that was cut off."""
    error: FreeText | None = None
    """What went wrong while it was drawn."""

    @property
    def readable(self) -> bool:
        """Whether it is whole; a comparison with one that is not is no comparison."""
        return self.finish == "stop" and self.error is None and bool(self.text.strip())

    def shown(self) -> dict[str, str]:
        """What a labeler sees of it."""
        return {"id": self.id, "text": self.text}
