"""A model behind an OpenAI-compatible endpoint that answers prompts, beside `Speaker`.

What such a model cannot give is not measured: log-probabilities of other models' replies, and so
KL and the loss on text, and how long a prompt is in its tokens.

1. `hark serve-model` takes the id of each reply in the random numbers, so that it gives what a
   local model gives. Other servers get a seed of its own for each reply, made of the two.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import httpx2

from hark.data.records import Demonstration, Dialogue
from hark.errors import ModelError, SettingsError
from hark.loop.judges import Scorer
from hark.models.best_of_n import candidate_id, check_best_of_n, keep_best
from hark.models.engine import Finish
from hark.models.few_shot import few_shot_text
from hark.models.processes import gather_shares, own_share
from hark.models.sampling import SamplingSettings
from hark.runs.progress import progress
from hark.serving.endpoint import Endpoint, TooLongError


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteReply:
    """One reply, filled from what the endpoint answered."""

    text: str
    """Stripped."""
    finish: Finish
    token_count: int | None
    """As the endpoint counts; None if it does not say."""


@dataclass(frozen=True, kw_only=True)
class RemoteSpeaker:
    """An endpoint, and how it is asked."""

    endpoint: Endpoint
    sampling: SamplingSettings
    rows: int = 64
    """Most requests under way at once."""
    examples: tuple[Demonstration, ...] = ()
    best_of: int = 1
    score: Scorer | None = None
    """What the best of N goes by."""

    def fits(self, prompt: Dialogue) -> NoReturn:
        """Raises: SettingsError: nobody here can count the model's tokens."""
        raise SettingsError(
            f"'{self.endpoint.url}#{self.endpoint.model}' is an endpoint, which does not say how "
            "many tokens a prompt has, so long prompts cannot be skipped; leave long_prompts at "
            "'stop', or use a local model"
        )

    def reply(
        self, prompts: Sequence[Dialogue], *, seed: int, label: str = "sample"
    ) -> list[RemoteReply]:
        """One reply to each prompt; under torchrun each process asks for its share, all get all.

        Raises: ModelError if the endpoint fails, or a prompt does not fit its context.
        """
        n = self.best_of
        if n > 1:
            check_best_of_n(n, self.sampling)
        own = own_share(prompts)
        wanted = [
            (prompt, candidate_id(place, candidate))
            for place, prompt in zip(own_share(range(len(prompts))), own, strict=True)
            for candidate in range(n)
        ]
        with progress(total=len(wanted), label=label, unit="response") as bar:
            drawn = asyncio.run(self._reply_to_all(wanted, seed, bar.advance))
        if n == 1:
            return gather_shares(drawn)
        assert self.score is not None
        return gather_shares([group.best for group in keep_best(own, drawn, self.score, n=n)])

    async def _reply_to_all(
        self, wanted: Sequence[tuple[Dialogue, int]], seed: int, on_reply: Callable[[], None]
    ) -> list[RemoteReply]:
        free = asyncio.Semaphore(self.rows)

        async def reply_to(client: httpx2.AsyncClient, prompt: Dialogue, id_: int) -> RemoteReply:
            async with free:
                reply = await self._reply_to(client, prompt, self._seeds(seed, id_))
            on_reply()
            return reply

        async with self.endpoint.client() as client:
            tasks = [asyncio.ensure_future(reply_to(client, *each)) for each in wanted]
            try:
                return await asyncio.gather(*tasks)
            finally:
                # One failure ends the run: what the others would draw is not wanted any more.
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _reply_to(
        self, client: httpx2.AsyncClient, prompt: Dialogue, seeds: dict[str, int]
    ) -> RemoteReply:
        body = {"model": self.endpoint.model, **self._sampling(), **seeds}
        if not self.examples:
            messages = [{"role": each.role, "content": each.content} for each in prompt]
            return await self._post(client, "/chat/completions", {**body, "messages": messages})
        for first in range(len(self.examples) + 1):
            text = few_shot_text(self.examples[first:], prompt)
            try:
                return await self._post(client, "/completions", {**body, "prompt": text})
            except TooLongError:
                if first == len(self.examples):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _post(
        self, client: httpx2.AsyncClient, path: str, body: dict[str, Any]
    ) -> RemoteReply:
        try:
            answer = await self.endpoint.post(client, path, body)
        except ModelError as error:
            # OpenAI's newer models know the limit by this name only, most other servers by the old.
            if "max_completion_tokens" not in str(error):
                raise
            renamed = {"max_completion_tokens": body["max_tokens"], **body}
            del renamed["max_tokens"]
            answer = await self.endpoint.post(client, path, renamed)
        return _read(answer)

    def _seeds(self, seed: int, sequence_id: int) -> dict[str, int]:
        if self.endpoint.is_hark:
            return {"seed": seed, "sequence_id": sequence_id}
        digest = hashlib.blake2b(f"{seed} {sequence_id}".encode(), digest_size=8).digest()
        return {"seed": int.from_bytes(digest) % 2**31}

    def _sampling(self) -> dict[str, Any]:
        """The sampling settings in OpenAI's words; those it lacks, in vLLM's, only where given."""
        asked = self.sampling
        told: dict[str, Any] = {
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "max_tokens": asked.max_response_tokens,
        }
        if asked.top_k > 0:
            told["top_k"] = asked.top_k
        if asked.min_response_tokens > 0:
            told["min_tokens"] = asked.min_response_tokens
        if asked.stop:
            told["stop"] = list(asked.stop)
        return told


def _read(answer: dict[str, Any]) -> RemoteReply:
    """Raises: ModelError if the answer has no text in it."""
    choice = answer["choices"][0]
    try:
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        usage = answer.get("usage") or {}
        count = usage.get("completion_tokens")
        finish: Finish = "length" if choice.get("finish_reason") == "length" else "end"
        if finish == "end" and isinstance(choice.get("stop_reason"), str):
            finish = "stop"
        return RemoteReply(text=(text or "").strip(), finish=finish, token_count=count)
    except (KeyError, TypeError, AttributeError):
        raise ModelError(
            f"an endpoint's answer has no text where OpenAI's has it: {str(choice)[:200]}"
        ) from None
