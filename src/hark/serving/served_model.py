"""A language model that is being served: its name, its tokenizer, and the thread that draws."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.records import Dialogue
from hark.errors import HarkError, SettingsError
from hark.models.best_of_n import candidate_id
from hark.models.engine import Engine, Request
from hark.models.language_model import (
    check_match,
    choose_device,
    context_length,
    load_language_model,
)
from hark.models.tokenizer import encode_prompt, load_tokenizer
from hark.runs.run import resolve_model
from hark.serving.bodies import Body
from hark.serving.model_thread import Job, ModelThread
from hark.serving.refusal import Refusal


class ServedModel:
    """Prompts are encoded in a thread of their own, so that a long one keeps nobody waiting."""

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rows: int = 64,
        most_waiting: int = 256,
        context: int | None = None,
    ) -> None:
        """rows: responses drawn at once; most_waiting: responses that may wait for a row;
        context: most tokens of a prompt with its response, the model's own if None.

        Raises: SettingsError if the model's context is shorter than `context`.
        """
        own = context_length(model)
        if context is not None and context > own:
            raise SettingsError(
                f"a context of {context} tokens was asked for, but model '{name}' has {own}"
            )
        self.name, self.context = name, context or own
        self.rows = rows
        self.vocabulary = model.get_input_embeddings().weight.shape[0]
        self.encoder = tokenizer
        # Tokenizers refuse to be used and configured at the same time: each thread has its own.
        self.decoder = copy.deepcopy(tokenizer)
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix=f"hark-{name}-encoding")
        make_engine = partial(
            Engine,
            model.eval(),
            copy.deepcopy(tokenizer),
            rows=rows,
            capacity=self.context,
            max_tokens=self.context,
        )
        self.thread = ModelThread(make_engine, name=name, most=rows + most_waiting)

    @classmethod
    def load(
        cls,
        name: str,
        path: Path | str,
        *,
        device: str = "auto",
        dtype: str = "float32",
        rows: int = 64,
        most_waiting: int = 256,
        context: int | None = None,
    ) -> Self:
        """Read a model directory, run or Hub name. Raises: HarkError if it cannot be served."""
        source = resolve_model(path)
        model = load_language_model(str(source), device=str(choose_device(device)), dtype=dtype)
        tokenizer = load_tokenizer(str(source))
        check_match(model, tokenizer)
        return cls(
            name, model, tokenizer, rows=rows, most_waiting=most_waiting, context=context
        )  # fmt: skip

    def stop(self) -> None:
        """Draw nothing more."""
        self.thread.stop()
        self._encoding.shutdown(wait=False, cancel_futures=True)

    async def encode_dialogue(self, dialogue: Dialogue) -> list[int]:
        """Tokens up to where the assistant begins to speak.

        Raises: Refusal if the template cannot render it.
        """
        return await self._encode(partial(encode_prompt, self.encoder, dialogue), "messages")

    async def encode_text(self, prompt: str | list[int]) -> list[int]:
        """Tokens of a text, with the tokenizer's own first token where it writes one.

        Raises: Refusal for token ids that the model does not have.
        """
        if isinstance(prompt, str):
            return await self._encode(
                lambda: list(self.encoder(prompt, verbose=False)["input_ids"]), "prompt"
            )
        wrong = next((token for token in prompt if not 0 <= token < self.vocabulary), None)
        if wrong is not None:
            raise Refusal(
                400,
                f"'prompt': token {wrong} is not one of the {self.vocabulary} of '{self.name}'",
                param="prompt",
            )
        return prompt

    async def _encode(self, encode: Callable[[], list[int]], param: str) -> list[int]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._encoding, encode)
        except HarkError as error:
            raise Refusal(400, str(error), param=param) from None

    def begin(self, prompts: Sequence[list[int]], body: Body) -> Job:
        """Have the responses to each prompt drawn; those of the first prompt come first.

        Raises: Refusal if a prompt does not fit, or too many responses wait.
        """
        seed = body.drawn_seed()
        requests = []
        for place, prompt in enumerate(prompts):
            limit = self._limit(prompt, body)
            settings = body.sampling(limit)
            requests += [
                Request(
                    prompt=prompt, settings=settings, limit=limit, seed=seed,
                    sequence_id=candidate_id(body.sequence_id + place, choice),
                )
                for choice in range(body.draws)
            ]  # fmt: skip
        return self.thread.submit(requests, alternatives=body.alternatives or 0)

    def _limit(self, prompt: Sequence[int], body: Body) -> int:
        """The most tokens of a response: what was asked for, or all that the context has room."""
        if not prompt:
            raise Refusal(400, "the prompt has no tokens; give it at least one to start from")
        room = self.context - len(prompt)
        wanted = body.most_tokens
        if room >= (wanted or 1):
            return wanted or room
        reply = f" and {wanted} of the response" if wanted else ""
        raise Refusal(
            400,
            f"the context of '{self.name}' is {self.context} tokens, but the request needs "
            f"{len(prompt) + (wanted or 1)}: {len(prompt)} of the prompt{reply or ' and 1 more'}; "
            "shorten the prompt or lower max_tokens",
            param="messages" if hasattr(body, "messages") else "prompt",
            code="context_length_exceeded",
        )


def parse_names(checkpoints: Sequence[str]) -> dict[str, str]:
    """Name → path, of `NAME=PATH` or a path alone, whose last part (not "model") is its name.

    Raises: SettingsError if two have one name.
    """
    named: dict[str, str] = {}
    for text in checkpoints:
        name, sign, path = text.partition("=")
        if not sign or Path(text).exists():
            name, path = _name_of(text), text
        if not name or not path:
            raise SettingsError(f"'{text}' is not NAME=PATH; give both the name and the path")
        if name in named:
            raise SettingsError(
                f"two models are named '{name}'; give them different names, as NAME=PATH"
            )
        named[name] = path
    return named


def _name_of(path: str) -> str:
    if not Path(path).exists():
        return path
    resolved = Path(path).resolve()
    return resolved.parent.name if resolved.name == "model" else resolved.name
