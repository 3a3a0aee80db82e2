"""The responses of a job as OpenAI's two endpoints tell them, whole or in pieces."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from transformers import PreTrainedTokenizerBase

from hark import __version__
from hark.models.engine import Finish
from hark.serving.model_thread import Drawn
from hark.serving.response_text import ResponseText

Endpoint = Literal["chat", "completions"]

OBJECTS: dict[tuple[Endpoint, bool], str] = {
    ("chat", False): "chat.completion",
    ("chat", True): "chat.completion.chunk",
    ("completions", False): "text_completion",
    ("completions", True): "text_completion",
}
FINISH_REASONS: dict[Finish, str] = {"end": "stop", "stop": "stop", "length": "length"}

IMPOSSIBLE = -9999.0
"""Stands for a log-probability of −∞, which JSON does not have."""


@dataclass(kw_only=True)
class Choice:
    """One response as it grows, and the part of it that has not been told yet."""

    endpoint: Endpoint
    index: int
    tokenizer: PreTrainedTokenizerBase
    text: ResponseText
    with_logprobs: bool
    tokens: int = 0
    finish: Finish | None = None
    is_refusal: bool = False
    """Whether the text stands in the place of a response, since the prompt is not answered."""
    untold: list[Drawn] = field(default_factory=list)
    """Tokens whose log-probabilities have not been told."""
    offset: int = 0
    """Characters of the tokens told before, for the completions endpoint."""

    @classmethod
    def refusal(cls, index: int, tokenizer: PreTrainedTokenizerBase) -> Self:
        """What is said in the place of a response that was not drawn."""
        return cls(
            endpoint="chat", index=index, tokenizer=tokenizer, with_logprobs=False, finish="end",
            text=ResponseText(tokenizer, stop=(), stripped=True), is_refusal=True,
        )  # fmt: skip

    def add(self, drawn: Drawn, *, at_once: bool) -> str:
        """One more token; the text that it makes certain, all of it at the end if not `at_once`."""
        self.tokens += 1
        self.untold.append(drawn)
        self.finish = drawn.finish
        piece = ""
        # As in `Generated.text`: the end token's own text is no part of the response.
        if drawn.finish != "end" and at_once:
            piece = self.text.add(drawn.token)
        elif drawn.finish != "end":
            self.text.hold(drawn.token)
        return piece + self.text.finish() if drawn.finish else piece

    def told(self, text: str, *, as_delta: bool) -> dict[str, Any]:
        """The choice of a reply or chunk with `text` and all log-probabilities not told yet."""
        told: dict[str, Any] = {"index": self.index}
        refusal = text if self.is_refusal and text else None
        if self.endpoint == "completions":
            told["text"] = text
        elif as_delta:
            told["delta"] = {"content": text} if text else {}
            told["delta"] |= {"refusal": refusal} if refusal else {}
        else:
            told["message"] = {"role": "assistant", "content": text, "refusal": refusal}
        told["logprobs"] = self._logprobs() if self.with_logprobs else None
        told["finish_reason"] = FINISH_REASONS[self.finish] if self.finish else None
        if self.finish is not None:
            told["stop_reason"] = self.text.stop_found() if self.finish == "stop" else None
        return told

    def _logprobs(self) -> dict[str, Any]:
        drawn, self.untold = self.untold, []
        if self.endpoint == "chat":
            return {"content": [self._chat_logprob(each) for each in drawn], "refusal": None}
        tokens = [self._word(each.token) for each in drawn]
        offsets = []
        for token in tokens:
            offsets.append(self.offset)
            self.offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [_finite(each.logprob) for each in drawn],
            "top_logprobs": [
                {self._word(token): _finite(value) for token, value in each.alternatives} or None
                for each in drawn
            ],
            "text_offset": offsets,
        }

    def _chat_logprob(self, drawn: Drawn) -> dict[str, Any]:
        others = [self._token_logprob(token, value) for token, value in drawn.alternatives]
        return {**self._token_logprob(drawn.token, drawn.logprob), "top_logprobs": others}

    def _token_logprob(self, token: int, logprob: float) -> dict[str, Any]:
        word = self._word(token)
        is_whole = "\N{REPLACEMENT CHARACTER}" not in word
        known = list(word.encode()) if is_whole else None
        return {"token": word, "logprob": _finite(logprob), "bytes": known}

    def _word(self, token: int) -> str:
        return str(self.tokenizer.decode([token], clean_up_tokenization_spaces=False))


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What all chunks of one answer have in common, and its choices."""

    endpoint: Endpoint
    model: str
    prompt_tokens: int
    choices: Sequence[Choice]
    unchosen_tokens: int = 0
    """Drawn for responses that are not told."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, texts: Sequence[str]) -> dict[str, Any]:
        """The answer to a request without streaming; one text for each choice."""
        told = zip(self.choices, texts, strict=True)
        choices = [choice.told(text, as_delta=False) for choice, text in told]
        return {**self._frame(choices, streamed=False), "usage": self.usage()}

    def only(self, place: int) -> Reply:
        """The same with one of its choices, as if no other had been drawn."""
        chosen = self.choices[place]
        drawn = sum(choice.tokens for choice in self.choices)
        chosen.index = 0
        return replace(self, choices=[chosen], unchosen_tokens=drawn - chosen.tokens)

    def opening(self) -> list[dict[str, Any]]:
        """The first chunks of a chat: who speaks."""
        if self.endpoint == "completions":
            return []
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [
            self._frame(
                [{"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}],
                streamed=True,
            )
            for choice in self.choices
        ]

    def chunk(self, choice: Choice, text: str) -> dict[str, Any]:
        """A piece of one choice."""
        return self._frame([choice.told(text, as_delta=True)], streamed=True)

    def closing(self) -> dict[str, Any]:
        """The chunk that tells the counts of tokens."""
        return {**self._frame([], streamed=True), "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Tokens read and drawn, end tokens included."""
        drawn = sum(choice.tokens for choice in self.choices) + self.unchosen_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": drawn,
            "total_tokens": self.prompt_tokens + drawn,
        }

    def _frame(self, choices: list[dict[str, Any]], *, streamed: bool) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.endpoint == 'chat' else 'cmpl'}-{self.id}",
            "object": OBJECTS[self.endpoint, streamed],
            "created": self.created,
            "model": self.model,
            "system_fingerprint": f"hark-{__version__}",
            "choices": choices,
        }


def _finite(logprob: float) -> float:
    """The log-probability as JSON can tell it."""
    return logprob if logprob > IMPOSSIBLE else IMPOSSIBLE
