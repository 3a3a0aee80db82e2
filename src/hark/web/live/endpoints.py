"""Models behind OpenAI-compatible endpoints, whose responses are told piece by piece.

Whatever goes wrong while a response is drawn becomes part of its candidate, which is then not
readable: who draws decides what to do about it. Servers differ in what they take; what one refuses
by name (`logprobs`, `seed`, `max_tokens`) it is not sent again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import httpx2
from pydantic import ValidationError

from hark.errors import HarkError, ModelError, SettingsError
from hark.feedback.records import MAXIMUM_TEXT_CHARACTERS, Candidate, Sampling, Turn
from hark.serving.endpoint import KEY_VARIABLE, Endpoint, EndpointSettings

RESPONSE_SECONDS: Final = 120.0
"""How long one response may take in all."""
HOW_TO_GIVE_MODELS: Final = "start it with `hark serve --model NAME=URL`"
NEVER_DRAWN: Final = -9000.0
"""Servers say −9999 where they mean −∞."""


class UnavailableError(HarkError):
    """No model can answer now. The sentence is for labelers: it names no model."""

    def __init__(self, message: str, *, for_log: str = "", passes: bool = False) -> None:
        """for_log: what a labeler may not read; passes: whether waiting helps."""
        super().__init__(message)
        self.for_log, self.passes = for_log or message, passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A response to be drawn."""

    snapshot: str
    messages: tuple[Turn, ...]
    """Up to the words that are answered."""
    sampling: Sampling
    """With the response's own seed."""
    maximum_tokens: int


class LiveModel:
    """One model, asked over its endpoint; used in one event loop."""

    def __init__(self, name: str, address: str, *, seconds: float = RESPONSE_SECONDS) -> None:
        """address: `http://host:port/v1`, or with `#model` where the endpoint has several.

        The key is in the environment variable HARK_API_KEY_NAME (the model's name in capitals), or
        in HARK_API_KEY. Raises: SettingsError for an address or a key that cannot be used.
        """
        own = f"{KEY_VARIABLE}_{re.sub('[^A-Z0-9]', '_', name.upper())}"
        settings = EndpointSettings(
            api_key_variable=own if own in os.environ else None, timeout_seconds=seconds, attempts=1
        )
        self.name, self.seconds = name, seconds
        self._unasked = Endpoint.named(address, settings)
        self._found: Endpoint | None = None
        self._client: httpx2.AsyncClient | None = None
        self._refused: set[str] = set()
        """Fields of requests that the endpoint does not take."""

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def draw(self, wanted: Wanted, on_piece: Callable[[str], None]) -> Candidate:
        """A response, whose text is told to `on_piece` as it comes.

        It never raises for a failure of the endpoint: that is in the candidate.
        """
        drawn = _Drawn()
        try:
            async with asyncio.timeout(self.seconds):
                await self._draw(wanted, drawn, on_piece)
        except TimeoutError:
            drawn.error = f"no whole response in {self.seconds:g} seconds"
        except ModelError as error:
            drawn.error = str(error)
        except httpx2.HTTPError as error:
            drawn.error = f"the connection failed: {error or type(error).__name__}"
        return drawn.candidate(wanted)

    async def _draw(self, wanted: Wanted, drawn: _Drawn, on_piece: Callable[[str], None]) -> None:
        if self._found is None:
            self._found = await self._unasked.find()
        if self._client is None:
            self._client = self._found.client()
        body = self._body(wanted, self._found.model)
        while True:
            refused = await self._stream(body, drawn, on_piece)
            if refused is None:
                return
            self._refused.add(refused)
            body = self._body(wanted, self._found.model)

    async def _stream(
        self, body: dict[str, Any], drawn: _Drawn, on_piece: Callable[[str], None]
    ) -> str | None:
        """Read the stream; or a field of the body that the endpoint does not take.

        Raises: ModelError.
        """
        assert self._client is not None
        assert self._found is not None
        async with self._client.sse("/chat/completions", method="POST", json=body) as source:
            if source.response.status_code != 200:
                await source.response.aread()
                error = self._found.failure(source.response)
                if (refused := _refused_field(source.response, body, str(error))) is not None:
                    return refused
                if source.response.status_code == 404:
                    self._found = None  # It serves something else by now: ask again.
                raise error
            async for event in source:
                if event.data == "[DONE]":
                    return None
                if piece := drawn.add(event.data):
                    on_piece(piece)
        return None

    def _body(self, wanted: Wanted, model: str) -> dict[str, Any]:
        sampling = wanted.sampling
        body: dict[str, Any] = {
            "model": model,
            "messages": [one.to_json() for one in wanted.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "max_tokens": wanted.maximum_tokens,
            "logprobs": True,
            "stream": True,
        }
        if sampling.best_of > 1:
            body["best_of"] = sampling.best_of
        if "max_tokens" in self._refused:
            # OpenAI's newer models know the limit by this name only, most other servers by the old.
            body["max_completion_tokens"] = body["max_tokens"]
        return {name: value for name, value in body.items() if name not in self._refused}


def _refused_field(response: httpx2.Response, body: dict[str, Any], message: str) -> str | None:
    """The field that a refusal is about, if a response can do without it."""
    if response.status_code not in (400, 422):
        return None
    for name, word in (
        ("max_tokens", "max_completion_tokens"), ("logprobs", "logprobs"), ("seed", "'seed'"),
    ):  # fmt: skip
        if name in body and word in message:
            return name
    return None


@dataclass(slots=True)
class _Drawn:
    """A response as its chunks come in."""

    pieces: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str | None = None
    error: str | None = None
    characters: int = 0

    def add(self, data: str) -> str:
        """Take in a chunk; return its text. Raises: ModelError if it is not one of OpenAI's."""
        try:
            chunk = json.loads(data)
            if "error" in chunk:
                raise ModelError(f"the endpoint gave up: {_message(chunk['error'])}")
            if not chunk["choices"]:
                return ""
            choice = chunk["choices"][0]
            piece = str(choice["delta"].get("content") or "")
            told = (choice.get("logprobs") or {}).get("content") or []
            self.logprobs += [float(one["logprob"]) for one in told]
        except ModelError:
            raise
        except (KeyError, TypeError, IndexError, AttributeError, ValueError):
            raise ModelError(f"not a chunk of a chat: {data[:200]}") from None
        self.finish = choice.get("finish_reason") or self.finish
        self.characters += len(piece)
        if self.characters > MAXIMUM_TEXT_CHARACTERS:
            raise ModelError(f"a response of over {MAXIMUM_TEXT_CHARACTERS} characters")
        self.pieces.append(piece)
        return piece

    def candidate(self, wanted: Wanted) -> Candidate:
        """The response as it is kept; one that broke off or cannot be kept is an error."""
        values: dict[str, Any] = {
            "text": "".join(self.pieces).strip(),
            "snapshot": wanted.snapshot,
            "sampling": wanted.sampling,
            "finish": self.finish,
        }
        error = self.error
        if error is None and self.finish not in ("stop", "length"):
            error = f"the stream ended with finish_reason {self.finish!r}"
        if error is not None:
            values |= {"finish": "error", "error": _keepable(error)}
        elif self.logprobs and min(self.logprobs) > NEVER_DRAWN:
            values["logprob"] = sum(self.logprobs)
        try:
            values["text"].encode()
            return Candidate(**values)
        except (ValidationError, UnicodeEncodeError):
            # NUL or half a character: a text that no database takes.
            odd = {"text": "", "finish": "error", "error": "the text has odd characters"}
            return Candidate(**(values | odd | {"logprob": None}))


def _keepable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "�")[:1000]


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)


class LiveModels:
    """The models that a server knows, by the names that studies give as their snapshots."""

    def __init__(self, models: Iterable[LiveModel] = (), *, getting_ready: str = "") -> None:
        """getting_ready: what to say of a model that is not there yet; empty when all are."""
        self._models = {model.name: model for model in models}
        self._replaced: list[LiveModel] = []
        self.getting_ready = getting_ready

    @property
    def names(self) -> list[str]:
        """Of those that are there."""
        return list(self._models)

    @property
    def any_expected(self) -> bool:
        """Whether anything can ever be drawn."""
        return bool(self._models) or bool(self.getting_ready)

    def put(self, models: Iterable[LiveModel]) -> None:
        """Have these models too, or in place of those of the same names; all are there now.

        It may be called from another thread than the event loop's.
        """
        new = {model.name: model for model in models}
        self._replaced += [model for name, model in self._models.items() if name in new]
        self._models = self._models | new
        self.getting_ready = ""

    def get(self, name: str) -> LiveModel:
        """Raises: UnavailableError."""
        if name in self._models:
            return self._models[name]
        if self.getting_ready:
            raise UnavailableError(self.getting_ready, passes=True)
        if not self._models:
            raise UnavailableError(f"this server has no models: {HOW_TO_GIVE_MODELS}")
        raise UnavailableError(
            "a model of this study is not served here: tell the study's owner",
            for_log=f"there is no model '{name}' here: {HOW_TO_GIVE_MODELS}, NAME being '{name}'",
        )

    async def draw(
        self, wanted: Sequence[Wanted], on_piece: Callable[[int, str], None]
    ) -> list[Candidate]:
        """All responses at the same time; `on_piece` is told the place of each piece in `wanted`.

        Raises: UnavailableError, before anything is drawn.
        """
        models = [self.get(one.snapshot) for one in wanted]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(model.draw(one, partial(on_piece, place)))
                for place, (model, one) in enumerate(zip(models, wanted, strict=True))
            ]
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Close every connection."""
        async with AsyncExitStack() as stack:
            for model in (*self._models.values(), *self._replaced):
                stack.push_async_callback(model.close)


def parse_models(given: Iterable[str]) -> dict[str, str]:
    """Name → address or path, of `NAME=ADDRESS`.

    Raises: SettingsError for another form, or a name given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, _, address = text.partition("=")
        if not name.strip() or not address.strip():
            raise SettingsError(f"--model '{text}' is not NAME=URL or NAME=PATH; give both")
        if name in found:
            raise SettingsError(f"--model '{name}' is given twice; give the models different names")
        found[name] = address
    return found
