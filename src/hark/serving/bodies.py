"""What clients send: the fields of OpenAI's two endpoints that hark knows, and a few more.

Beyond OpenAI's, with vLLM's names where it has them: `top_k`, `min_tokens`, `best_of` for chats,
where the server's preference model chooses, and `sequence_id`, which stands for the request in the
random numbers, so that a request draws what `hark.models.generation.generate` draws for that seed
and id.

Departures from OpenAI: a field that would be ignored is refused, unless it is the client's own
book-keeping (`user`, `metadata`) or has the value that changes nothing.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hark.data.records import Dialogue, Message, Role
from hark.models.sampling import SamplingSettings
from hark.serving.refusal import Refusal

MOST_CHOICES = 128
TEMPLATE_ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
}  # fmt: skip

Finite = Annotated[float, Field(allow_inf_nan=False)]


class StreamOptions(BaseModel):
    """What a stream is to end with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    """One more chunk, after the last text, with the counts of tokens."""


class Body(BaseModel):
    """The fields that both endpoints have."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    model: str
    temperature: Annotated[Finite, Field(ge=0)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    sequence_id: Annotated[int, Field(ge=0, lt=2**62)] = 0
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None

    @field_validator("stop", mode="after")
    @classmethod
    def _refuse_empty_stop(cls, value: str | list[str] | None) -> str | list[str] | None:
        if value == "" or (isinstance(value, list) and "" in value):
            raise ValueError("an empty string would end every response at once")
        return value

    @field_validator("frequency_penalty", "presence_penalty", "logit_bias", mode="after")
    @classmethod
    def _refuse_what_would_be_ignored(cls, value: Any) -> Any:
        if value not in (None, False, 0, "", "none", [], {}):
            raise ValueError("is not supported by this server; leave it out")
        return value

    @property
    def choices(self) -> int:
        """Responses to each prompt."""
        return self.n or 1

    @property
    def draws(self) -> int:
        """Responses drawn for each prompt, of which `choices` are told."""
        return self.choices

    @property
    def most_tokens(self) -> int | None:
        """The limit of a response that was asked for."""
        return self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many of the most probable tokens are told at each place; None for no
        log-probabilities at all."""
        return None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def drawn_seed(self) -> int:
        """The seed that was given, or a new one."""
        return secrets.randbits(63) if self.seed is None else self.seed

    def sampling(self, limit: int) -> SamplingSettings:
        """How tokens are drawn; temperature 0 takes the most probable one whatever else is said.

        Raises: Refusal if the shortest response asked for is longer than `limit`.
        """
        shortest = self.min_tokens or 0
        if shortest > limit:
            raise Refusal(
                400,
                f"'min_tokens' is {shortest}, but the response may have at most {limit} tokens",
                param="min_tokens",
            )
        temperature = 1.0 if self.temperature is None else self.temperature
        is_drawn = temperature > 0
        return SamplingSettings(
            temperature=temperature,
            top_p=(self.top_p or 1.0) if is_drawn else 1.0,
            top_k=max(self.top_k or 0, 0) if is_drawn else 0,
            max_response_tokens=limit,
            min_response_tokens=shortest,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
        )


class TextPart(BaseModel):
    """One part of a message's content."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def read(self) -> Message:
        """The turn as hark's record; several parts are one text."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Message(TEMPLATE_ROLES[self.role], text)


class ChatBody(Body):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    response_format: Any = None

    @field_validator("tools", "tool_choice", "functions", "response_format", mode="after")
    @classmethod
    def _refuse_tools(cls, value: Any) -> Any:
        return value if value == {"type": "text"} else cls._refuse_what_would_be_ignored(value)

    @field_validator("top_logprobs", mode="after")
    @classmethod
    def _needs_logprobs(cls, value: int | None, info: Any) -> int | None:
        if value and not info.data.get("logprobs"):
            raise ValueError("would be ignored unless logprobs is true")
        return value

    @field_validator("best_of", mode="after")
    @classmethod
    def _choose_among_different(cls, value: int | None, info: Any) -> int | None:
        if value is not None and value > 1:
            if (info.data.get("n") or 1) > 1:
                raise ValueError("chooses one response: leave out n")
            if info.data.get("temperature") == 0:
                raise ValueError("would choose among equals at temperature 0")
        return value

    @property
    def draws(self) -> int:
        return self.choices if self.best_of is None else max(self.choices, self.best_of)

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def dialogue(self) -> Dialogue:
        """The messages as hark's record."""
        return tuple(message.read() for message in self.messages)


class CompletionBody(Body):
    """`POST /v1/completions`."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: Any = None
    suffix: Any = None
    best_of: Any = None

    @field_validator("echo", "suffix", mode="after")
    @classmethod
    def _refuse_echo(cls, value: Any) -> Any:
        return cls._refuse_what_would_be_ignored(value)

    @field_validator("best_of", mode="after")
    @classmethod
    def _refuse_best_of(cls, value: Any, info: Any) -> Any:
        if value not in (None, info.data.get("n") or 1):
            raise ValueError("is not supported by this server unless it equals n")
        return value

    @property
    def most_tokens(self) -> int | None:
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def alternatives(self) -> int | None:
        return self.logprobs

    def prompts(self) -> list[str] | list[list[int]]:
        """Each prompt, as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt  # type: ignore[return-value]
