"""The stage `best-of`: what the best of n replies is worth, against its KL from the policy."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from hark.data.formats import read_prompts
from hark.data.records import answered
from hark.errors import DataError
from hark.evaluation.best_of import best_of_curve
from hark.evaluation.scores import score
from hark.loop.inputs import read_files
from hark.loop.judges import scorer
from hark.loop.speaker import SpeakerSettings, load_speaker, prompts_that_fit
from hark.models.generation import SamplingSettings
from hark.models.processes import from_first
from hark.models.shared_scores import shared_scores
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths


class BestOfSettings(DataStageSettings):
    """Measure the best of n replies by a preference model, for every n up to a largest."""

    model: str
    """The policy that the replies are drawn from: directory, run or endpoint."""
    preference_model: str
    """What chooses: a preference model, module:function, or a named scorer."""
    judge: str = "playground"
    """Who grades what it chooses: playground (its gold grade), or any other scorer."""
    data: Paths
    """Files of prompts."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many prompts."""
    most: int = Field(default=64, ge=2)
    """N, the replies drawn to each prompt; n goes from 1 to N by doubling."""
    rows: int = Field(default=64, ge=1)
    """Replies written at once; the samples do not depend on it."""
    sampling: SamplingSettings = SamplingSettings()
    """How tokens are drawn."""


def run_best_of(settings: BestOfSettings, run: Run) -> dict[str, Any]:
    """Draw N replies to each prompt; the curve is over all subsets of n."""
    speaker = load_speaker(
        SpeakerSettings(model=settings.model), sampling=settings.sampling, rows=settings.rows,
        device=settings.device, dtype=settings.dtype,
    )  # fmt: skip
    read = [each.prompt for each in read_files(read_prompts, settings.data, settings, run)]
    prompts = prompts_that_fit(read, [speaker])[: settings.limit]
    if not prompts:
        raise DataError(f"none of the {len(read)} prompts fits the context of '{settings.model}'")
    repeated = [prompt for prompt in prompts for _ in range(settings.most)]
    replies = speaker.reply(repeated, seed=settings.seed)
    dialogues = [answered(d, reply.text) for d, reply in zip(repeated, replies, strict=True)]
    grades = []
    for name in (settings.preference_model, settings.judge):
        judge = scorer(name, device=settings.device, dtype=settings.dtype)
        own = shared_scores(
            lambda each, judge=judge: torch.as_tensor(score(judge, each)), dialogues
        )
        grades.append(own.double().numpy().reshape(len(prompts), settings.most))
    ns = [2**power for power in range(settings.most.bit_length()) if 2**power <= settings.most]
    curve = from_first(
        lambda: best_of_curve(*grades, ns, prompts=list(range(len(prompts))), seed=settings.seed)
    )
    return {
        "prompts": len(prompts),
        "prompts_left_out": len(read) - len(prompts) if settings.limit is None else 0,
        "curve": [point.to_json() for point in curve],
    }
