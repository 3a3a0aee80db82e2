"""The stage `sample`: replies of a model to prompts, K to each, or the best of N."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from hark.data.formats import read_prompts, write_comparisons, write_demonstrations
from hark.data.records import Comparison, Demonstration, Prompt, ask
from hark.errors import DataError
from hark.loop.inputs import read_examples, read_files
from hark.loop.judges import scorer
from hark.loop.speaker import (
    AnySpeaker,
    Reply,
    SpeakerSettings,
    load_speaker,
    prompts_that_fit,
)
from hark.models.generation import SamplingSettings
from hark.models.language_model import choose_device
from hark.models.outlier_detector import OutlierGuard
from hark.models.processes import is_first
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.serving.refusal import WITHHELD_REPLY
from hark.training.examples import Paths

SHOWN = 5
"""Replies shown among the results."""


class SampleSettings(DataStageSettings, SpeakerSettings):
    """Sample replies of a model to prompts."""

    data: Paths = ()
    """Files of prompts (demonstrations and comparisons serve too)."""
    prompt: tuple[str, ...] = ()
    """Prompts given here instead of in files."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many prompts."""
    long_prompts: Literal["stop", "skip"] = "stop"
    """Prompts that, with a longest reply, exceed the context: stop, or skip them."""
    responses_per_prompt: int = Field(default=1, ge=1)
    """K, the replies to each prompt; from 2 on the result is a file of comparisons to judge."""
    distractors: int = Field(default=0, ge=0)
    """Replies to other prompts put among the K of each. A policy seldom samples a good reply to
    another request, so that comparisons of its own samples alone do not teach a preference model
    that relevance matters, and PPO finds out."""
    scorer: str | None = None
    """What best-of-N goes by: a preference model, module:function, or a named scorer."""
    rows: int = Field(default=64, ge=1)
    """Replies written at once; the samples do not depend on it."""
    sampling: SamplingSettings = SamplingSettings()
    """How tokens are drawn."""
    refuse_out_of_distribution: Path | None = None
    """A run of hark outliers: a prompt that its detector finds strange gets the refusal instead of
    replies of the model."""
    refusal: str = WITHHELD_REPLY
    """What such a prompt is answered."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        if self.refuse_out_of_distribution is None and "refusal" in self.model_fields_set:
            raise ValueError("refusal would be ignored without refuse_out_of_distribution")
        if self.refuse_out_of_distribution and self.responses_per_prompt > 1:
            raise ValueError(
                "refuse_out_of_distribution is for one reply a prompt: refusals cannot be compared"
            )
        if bool(self.data) == bool(self.prompt):
            raise ValueError("give prompts either in files (data) or directly (prompt)")
        if self.distractors and self.responses_per_prompt == 1:
            raise ValueError("distractors would be ignored: set responses_per_prompt to 2 or more")
        if self.best_of == 1 and self.scorer is not None:
            raise ValueError("scorer would be ignored while best_of is 1")
        if self.best_of > 1 and self.scorer is None:
            raise ValueError(f"best_of {self.best_of} needs a scorer")
        if self.prompt and self.limit is not None:
            raise ValueError("limit would be ignored: it is for prompts in files")
        return self


def run_sample(settings: SampleSettings, run: Run) -> dict[str, Any]:
    """Write `data/responses.jsonl`: demonstrations for K = 1, else comparisons to judge.

    Empty and repeated replies are left out, and with them prompts that keep fewer than two (one for
    K = 1); the results count both.
    """
    score = scorer(settings.scorer, device=settings.device) if settings.scorer else None
    speaker = load_speaker(
        settings, sampling=settings.sampling,
        examples=read_examples(settings.examples, settings, run), score=score,
        rows=settings.rows, device=settings.device, dtype=settings.dtype,
    )  # fmt: skip
    prompts = _prompts(settings, speaker, run)
    refused, guard_results = _refused(settings, prompts)
    per_prompt = settings.responses_per_prompt
    asked = [each.prompt for each, is_refused in zip(prompts, refused, strict=True)
             if not is_refused for _ in range(per_prompt)]  # fmt: skip
    replies = speaker.reply(asked, seed=settings.seed)
    drawn: Iterator[Reply] = iter(replies)
    texts = [
        settings.refusal if is_refused else next(drawn).text
        for is_refused in refused
        for _ in range(per_prompt)
    ]
    groups = [texts[i : i + per_prompt] for i in range(0, len(texts), per_prompt)]
    mixed = with_distractors(groups, settings.distractors, seed=settings.seed)
    answered = list(zip(prompts, map(distinct, mixed), strict=True))
    kept = [(prompt, group) for prompt, group in answered if len(group) >= min(2, per_prompt)]
    if not kept:
        raise DataError(
            f"none of {len(prompts)} prompts got {min(2, per_prompt)} different, non-empty replies "
            f"from '{settings.model}'; raise the temperature, or train the model for longer"
        )
    path = run.data_path("responses.jsonl")
    if per_prompt == 1 and is_first():
        write_demonstrations(path, [_demonstration(prompt, one[0]) for prompt, one in kept])
    elif is_first():
        write_comparisons(path, [_unjudged(prompt, group) for prompt, group in kept])
    return {
        "prompts": len(prompts),
        "prompts_left_out": len(prompts) - len(kept),
        "responses": len(replies),
        "responses_left_out": sum(map(len, mixed)) - sum(len(group) for _, group in kept),
        "finished": _finished(replies),
        "response_tokens": _mean_tokens(replies),
        "path": str(path),
        "samples": [
            {"prompt": prompt.prompt[-1].content, "response": group[0]}
            for prompt, group in kept[:SHOWN]
        ],
    } | guard_results


def _refused(
    settings: SampleSettings, prompts: Sequence[Prompt]
) -> tuple[list[bool], dict[str, Any]]:
    """Which prompts the detector of outliers keeps from the model, and what is said about it."""
    if settings.refuse_out_of_distribution is None:
        return [False] * len(prompts), {}
    guard = OutlierGuard.load(
        settings.refuse_out_of_distribution, device=str(choose_device(settings.device))
    )
    refused = guard.refused([each.prompt for each in prompts])
    return refused, {
        "refused": sum(refused),
        "false_refusal_rate": guard.detector.false_refusal_rate,
    }


def _finished(replies: Sequence[Reply]) -> float | None:
    """Share of replies that ended by themselves; None where none was drawn."""
    ended = sum(reply.finish != "length" for reply in replies)
    return ended / len(replies) if replies else None


def _mean_tokens(replies: Sequence[Reply]) -> float | None:
    """None where an endpoint does not count, or no reply was drawn."""
    if not replies:
        return None
    counts = [reply.token_count for reply in replies]
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if len(known) == len(counts) else None


def distinct(responses: Sequence[str]) -> list[str]:
    """The responses that say something, each once: only those can be compared."""
    return list(dict.fromkeys(response for response in responses if response.strip()))


def with_distractors(groups: Sequence[list[str]], count: int, *, seed: int) -> list[list[str]]:
    """Each prompt's replies with `count` replies to other prompts put in at random places."""
    draw = random.Random(seed)
    mixed = []
    for number, group in enumerate(groups):
        others = [draw.randrange(len(groups) - 1) for _ in range(count if len(groups) > 1 else 0)]
        added = [draw.choice(groups[other + (other >= number)]) for other in others]
        mixed.append(draw.sample([*group, *added], k=len(group) + len(added)) if added else group)
    return mixed


def _prompts(settings: SampleSettings, speaker: AnySpeaker, run: Run) -> list[Prompt]:
    prompts = [Prompt(prompt=ask(text)) for text in settings.prompt]
    if settings.data:
        prompts = list(read_files(read_prompts, settings.data, settings, run))
    if settings.long_prompts == "skip":
        fitting = set(prompts_that_fit([each.prompt for each in prompts], [speaker]))
        prompts = [each for each in prompts if each.prompt in fitting]
    return prompts[: settings.limit]


def _demonstration(prompt: Prompt, response: str) -> Demonstration:
    return Demonstration(
        prompt=prompt.prompt, response=response, user=prompt.user, source=prompt.source,
        id=prompt.id,
    )  # fmt: skip


def _unjudged(prompt: Prompt, responses: list[str]) -> Comparison:
    return Comparison(
        prompt=prompt.prompt, responses=tuple(responses), user=prompt.user, source=prompt.source,
        id=prompt.id,
    )  # fmt: skip
