"""A model behind an OpenAI-compatible endpoint, named `http://host:port/v1#name`.

Requests that fail for a passing reason (no connection, a time-out, status 408, 409, 429 or 5xx) are
made again after 0.5, 1, 2, … seconds, or when the server says. The key is read from the
environment when the endpoint is opened, and goes nowhere but into the requests' headers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
from pydantic import Field

from hark.errors import ModelError, SettingsError, did_you_mean
from hark.settings import Settings

KEY_VARIABLE = "HARK_API_KEY"
PASSING = {408, 409, 429, 500, 502, 503, 504}
UNLISTED = {404, 405, 501}
"""What servers say that do not list their models."""
LONGEST_WAIT_SECONDS = 60.0


class EndpointSettings(Settings):
    """How a model behind an endpoint is asked; for models named http://host:port/v1#name."""

    api_key_variable: str | None = None
    """The environment variable that holds the endpoint's key; HARK_API_KEY, if it is set, where
    nothing is said. The key itself is never written anywhere."""
    timeout_seconds: float = Field(default=600.0, gt=0.0)
    """How long one reply may take."""
    attempts: int = Field(default=8, ge=1)
    """How often a request is made before its failure ends the run."""


class TooLongError(ModelError):
    """A prompt does not fit the context of the model behind an endpoint."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint and one of its models."""

    url: str
    """OpenAI's base URL, without the model's name."""
    model: str
    settings: EndpointSettings
    key: str | None = field(default=None, repr=False)
    is_hark: bool = False
    """Whether `hark serve-model` answers, which takes sequence ids."""

    @classmethod
    def open(cls, name: str, settings: EndpointSettings) -> Self:
        """Ask for the list of models; without `#name` there must be only one.

        Raises: as `named` and `find`.
        """
        return asyncio.run(cls.named(name, settings).find())

    @classmethod
    def named(cls, name: str, settings: EndpointSettings) -> Self:
        """An endpoint that has not been asked anything yet; its model may still be "".

        Raises: SettingsError for a name that is no URL or holds a password; a key that is not
            there.
        """
        url, _, model = name.partition("#")
        url = url.rstrip("/")
        try:
            parts = urlsplit(url)
            is_url = bool(parts.hostname) and not parts.query and parts.port != 0
        except ValueError:
            is_url = False
        if not is_url:
            raise SettingsError(f"'{name}' is no endpoint; write http://host:port/v1#model")
        if parts.username or parts.password:
            raise SettingsError(
                f"the endpoint at '{parts.hostname}' has a password in its URL, which would be "
                f"stored with the run; put the key into the environment variable {KEY_VARIABLE}"
            )
        return cls(url=url, model=model, settings=settings, key=_key(settings))

    async def find(self) -> Self:
        """The same once it has answered, with the model's name.

        Raises: ModelError if the endpoint does not answer, lacks the model, or has several and
            none was named.
        """
        listed = await self._list()
        return self if listed is None else self._chosen(listed)

    def client(self) -> httpx2.AsyncClient:
        """A client whose requests carry the key."""
        return httpx2.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            timeout=httpx2.Timeout(self.settings.timeout_seconds, connect=20.0),
            limits=httpx2.Limits(max_connections=None),
        )

    async def post(
        self, client: httpx2.AsyncClient, path: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """The JSON object that a request is answered with.

        Raises: TooLongError if the prompt does not fit; ModelError for any other failure.
        """
        response = await self._ask(client, "POST", path, self.settings.attempts, body)
        if response.status_code != 200:
            raise self.failure(response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not answer.get("choices"):
            raise ModelError(f"endpoint '{self.url}{path}' gave no choices; is it OpenAI's API?")
        return answer

    async def _ask(
        self,
        client: httpx2.AsyncClient,
        method: str,
        path: str,
        attempts: int,
        body: dict[str, Any] | None = None,
    ) -> httpx2.Response:
        for attempt in range(attempts):
            retry_after = None
            try:
                response = await client.request(method, path, json=body)
            except httpx2.RequestError as error:
                failure: Exception = error
            else:
                if response.status_code not in PASSING or attempt + 1 == attempts:
                    return response
                retry_after = response.headers.get("Retry-After")
            if attempt + 1 < attempts:
                await asyncio.sleep(wait_seconds(attempt, retry_after))
        reason = str(failure) or type(failure).__name__
        raise ModelError(
            f"endpoint '{self.url}' does not answer ({reason}, {attempts} attempts); "
            "is the server running, and is the address right?"
        ) from None

    async def _list(self) -> list[dict[str, Any]] | None:
        """What the endpoint says of its models; None if it lists none."""
        async with self.client() as client:
            attempts = min(3, self.settings.attempts)
            response = await self._ask(client, "GET", "/models", attempts)
        if response.status_code in UNLISTED and self.model:
            return None
        if response.status_code != 200:
            raise self.failure(response)
        try:
            return [dict(each) for each in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            raise ModelError(
                f"'{self.url}/models' is no list of models; the address of an OpenAI-compatible "
                "endpoint mostly ends with /v1"
            ) from None

    def _chosen(self, listed: list[dict[str, Any]]) -> Self:
        models = {str(each.get("id")): each for each in listed}
        name = self.model or (next(iter(models)) if len(models) == 1 else "")
        if name not in models:
            what = f"no model '{name}'" if name else f"{len(models)} models: name one of them"
            known = ", ".join(list(models)[:20]) or "none"
            raise ModelError(
                f"endpoint '{self.url}' has {what}{did_you_mean(name, models)}, as "
                f"{self.url}#NAME; models: {known}"
            )
        is_hark = models[name].get("owned_by") == "hark"
        return dataclasses.replace(self, model=name, is_hark=is_hark)

    def failure(self, response: httpx2.Response) -> ModelError:
        """What the endpoint said, in a sentence, without the key should it repeat that."""
        status = response.status_code
        message, code = _told(response)
        if self.key:
            message = message.replace(self.key, "…")
        where = f"endpoint '{self.url}' answered {status}"
        if status in {401, 403}:
            return ModelError(
                f"{where} ({message}); put a valid key into {KEY_VARIABLE}, or name the variable "
                "that holds it with endpoint.api_key_variable"
            )
        if code == "context_length_exceeded" or "maximum context length" in message:
            return TooLongError(f"{where}: {message}")
        if status in PASSING:
            return ModelError(f"{where} to {self.settings.attempts} attempts: {message}")
        return ModelError(f"{where}: {message}")


def _key(settings: EndpointSettings) -> str | None:
    variable = settings.api_key_variable
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable is not None and not key:
        raise SettingsError(f"the environment variable '{variable}' of api_key_variable is not set")
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"the key in '{variable or KEY_VARIABLE}' has odd characters")
    return key or None


def _told(response: httpx2.Response) -> tuple[str, str | None]:
    """Message and code of an error body in OpenAI's form; the beginning of any other."""
    try:
        error = response.json()["error"]
        return str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        return " ".join(response.text.split())[:200] or response.reason_phrase, None


def wait_seconds(attempt: int, retry_after: str | None) -> float:
    """Between attempt 0, 1, … and the next: doubling from half a second, longer if the server asks
    for it in seconds (a date is not read), at most a minute."""
    try:
        asked = float(retry_after or 0)
    except ValueError:
        asked = 0.0
    return min(max(0.5 * 2.0**attempt, asked), LONGEST_WAIT_SECONDS)
