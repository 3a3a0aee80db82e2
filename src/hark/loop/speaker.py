"""A model that answers prompts: plainly, after examples, or with the best of N.

Here (`Speaker`) or behind an endpoint (`RemoteSpeaker`); `load_speaker` finds out which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.records import Demonstration, Dialogue
from hark.errors import DataError, SettingsError
from hark.loop.judges import Scorer
from hark.loop.remote_speaker import RemoteReply, RemoteSpeaker
from hark.models.best_of_n import best_of_n
from hark.models.few_shot import few_shot_prompt, few_shot_settings
from hark.models.generation import Generated, SamplingSettings, generate
from hark.models.language_model import (
    check_match,
    choose_device,
    context_length,
    load_language_model,
)
from hark.models.packing import PromptTree
from hark.models.processes import gather_pieces, own_piece
from hark.models.tokenizer import encode_prompt, load_tokenizer
from hark.runs.progress import progress
from hark.runs.run import is_endpoint, resolve_model
from hark.serving.endpoint import Endpoint, EndpointSettings
from hark.settings import Settings
from hark.training.examples import Paths


class SpeakerSettings(Settings):
    """Which model answers, and how it is asked."""

    model: str
    """The language model: a directory, a run, a Hub name, or http://host:port/v1#name for one
    behind an OpenAI-compatible endpoint."""
    best_of: int = Field(default=1, ge=1)
    """Draw N replies and keep the one the scorer likes best."""
    examples: Paths = ()
    """Files of demonstrations to show the model first (few-shot prompting)."""
    example_count: int = Field(default=4, ge=1)
    """How many of the examples are shown."""
    endpoint: EndpointSettings = EndpointSettings()
    """How an endpoint is asked, for a model behind one."""

    @model_validator(mode="after")
    def _refuse_ignored_examples(self) -> Self:
        if not self.examples and "example_count" in self.model_fields_set:
            raise ValueError("example_count would be ignored without examples")
        if self.best_of > 1 and self.examples:
            raise ValueError("examples would be ignored by best_of; use one of them")
        if "endpoint" in self.model_fields_set and not is_endpoint(self.model):
            raise ValueError("endpoint would be ignored: the model is not behind one")
        return self


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A model, its tokenizer, and how it is asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sampling: SamplingSettings
    rows: int = 64
    """Replies written at once."""
    examples: tuple[Demonstration, ...] = ()
    best_of: int = 1
    score: Scorer | None = None
    """What the best of N goes by."""

    @classmethod
    def load(
        cls,
        settings: SpeakerSettings,
        *,
        sampling: SamplingSettings,
        examples: Sequence[Demonstration] = (),
        score: Scorer | None = None,
        rows: int = 64,
        device: str = "auto",
        dtype: str = "float32",
    ) -> Speaker:
        """Read the model; see `load_speaker`. Raises: ModelError for an unusable one."""
        path = resolve_model(settings.model)
        model = load_language_model(str(path), device=str(choose_device(device)), dtype=dtype)
        tokenizer = load_tokenizer(str(path))
        check_match(model, tokenizer)
        shown = tuple(examples[: settings.example_count])
        return cls(
            model=model,
            tokenizer=tokenizer,
            sampling=few_shot_settings(sampling) if shown else sampling,
            rows=rows,
            examples=shown,
            best_of=settings.best_of,
            score=score,
        )

    @property
    def context(self) -> int:
        """Most tokens of a prompt with its reply."""
        return context_length(self.model)

    def fits(self, prompt: Dialogue) -> bool:
        """Whether the context has room for the prompt and a longest reply."""
        room = self.context - self.sampling.max_response_tokens
        return len(encode_prompt(self.tokenizer, prompt)) <= room

    def encode(self, prompt: Dialogue) -> list[int]:
        """Token ids of the prompt, after the examples where there are any."""
        if not self.examples:
            return encode_prompt(self.tokenizer, prompt)
        room = self.context - self.sampling.max_response_tokens
        return few_shot_prompt(self.tokenizer, self.examples, prompt, max_prompt_tokens=room)

    def reply(
        self, prompts: Sequence[Dialogue], *, seed: int, label: str = "sample"
    ) -> list[Generated]:
        """One reply to each prompt; which others are asked for makes no difference to it.

        Under torchrun each process answers its share; all get all replies.
        """
        own, ids = own_piece(prompts), own_piece(range(len(prompts)))
        with progress(total=len(own) * self.best_of, label=label, unit="response") as bar:
            if self.best_of > 1:
                assert self.score is not None
                chosen = best_of_n(
                    self.model, self.tokenizer, own, self.score, self.sampling, n=self.best_of,
                    seed=seed, sequence_ids=ids, rows=self.rows, on_progress=bar.advance,
                )  # fmt: skip
                return gather_pieces([group.best for group in chosen])
            drawn = generate(
                self.model, self.tokenizer, [self.encode(prompt) for prompt in own], self.sampling,
                seed=seed, sequence_ids=ids, rows=self.rows, on_progress=bar.advance,
            )  # fmt: skip
            return gather_pieces(drawn)

    def trees(self, prompts: Sequence[Dialogue], replies: Sequence[Generated]) -> list[PromptTree]:
        """Each prompt as this speaker reads it, with the reply's tokens as sampled."""
        return [
            PromptTree(prompt=tuple(self.encode(prompt)), responses=(tuple(reply.tokens),))
            for prompt, reply in zip(prompts, replies, strict=True)
        ]


AnySpeaker = Speaker | RemoteSpeaker
Reply = Generated | RemoteReply


def load_speaker(
    settings: SpeakerSettings,
    *,
    sampling: SamplingSettings,
    examples: Sequence[Demonstration] = (),
    score: Scorer | None = None,
    rows: int = 64,
    device: str = "auto",
    dtype: str = "float32",
) -> AnySpeaker:
    """The speaker that the settings name; `examples` are what their files of that name hold.

    Raises: SettingsError if best-of-N lacks a scorer; ModelError for an unusable model."""
    if settings.best_of > 1 and score is None:
        raise SettingsError(f"best_of is {settings.best_of} but no scorer is named")
    if not is_endpoint(settings.model):
        return Speaker.load(
            settings, sampling=sampling, examples=examples, score=score, rows=rows, device=device,
            dtype=dtype,
        )  # fmt: skip
    shown = tuple(examples[: settings.example_count])
    return RemoteSpeaker(
        endpoint=Endpoint.open(settings.model, settings.endpoint),
        sampling=few_shot_settings(sampling) if shown else sampling,
        rows=rows,
        examples=shown,
        best_of=settings.best_of,
        score=score,
    )


def prompts_that_fit(prompts: Sequence[Dialogue], speakers: Sequence[AnySpeaker]) -> list[Dialogue]:
    """The prompts that fit every speaker's context. Raises: DataError if none is left."""
    kept = [each for each in prompts if all(speaker.fits(each) for speaker in speakers)]
    if prompts and not kept:
        context = min(each.context for each in speakers if isinstance(each, Speaker))
        raise DataError(
            f"all {len(prompts)} prompts are too long for a context of {context} tokens with the "
            "reply; lower max_response_tokens"
        )
    return kept


def sampling_seed(seed: int, *names: str) -> int:
    """The seed of one policy's draws, from that of its stage and the policy's name; 31 bits.

    It does not depend on which other policies are asked, and neighbouring seeds share no draws.
    """
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1  # endpoints may read a seed as 32 bits with a sign
