"""The stage `best-of`: what the best of n replies is worth, against its KL from the policy."""

from __future__ import annotations

from typing import Any, Self

import torch
from pydantic import Field, model_validator

from hark.data.formats import read_prompts
from hark.data.records import Dialogue, answered
from hark.errors import DataError
from hark.evaluation.best_of import best_of_curve
from hark.evaluation.intervals import Array
from hark.evaluation.scores import score
from hark.loop.inputs import read_files
from hark.loop.judges import scorer
from hark.loop.speaker import Speaker, SpeakerSettings, load_speaker, prompts_that_fit
from hark.models.generation import SamplingSettings
from hark.models.processes import from_first
from hark.models.shared_scores import shared_scores
from hark.runs.run import Run, is_endpoint
from hark.runs.settings import DataStageSettings
from hark.serving.endpoint import EndpointSettings
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
    endpoint: EndpointSettings = EndpointSettings()
    """How an endpoint is asked, for a model behind one."""

    @model_validator(mode="after")
    def _refuse_ignored(self) -> Self:
        if "endpoint" in self.model_fields_set and not is_endpoint(self.model):
            raise ValueError("endpoint would be ignored: the model is not behind one")
        return self


def run_best_of(settings: BestOfSettings, run: Run) -> dict[str, Any]:
    """Draw N replies to each prompt; the curve is over all subsets of n.

    Prompts too long for the context are left out. An endpoint does not count tokens: all are taken,
    and one that is too long ends the run.
    """
    asked = {"endpoint": settings.endpoint} if is_endpoint(settings.model) else {}
    speaker = load_speaker(
        SpeakerSettings(model=settings.model, **asked), sampling=settings.sampling,
        rows=settings.rows, device=settings.device, dtype=settings.dtype,
    )  # fmt: skip
    read = [each.prompt for each in read_files(read_prompts, settings.data, settings, run)]
    that_fit = prompts_that_fit(read, [speaker] if isinstance(speaker, Speaker) else [])
    fitting, prompts = len(that_fit), that_fit[: settings.limit]
    if not prompts:
        raise DataError(f"none of the {len(read)} prompts fits the context of '{settings.model}'")
    repeated = [prompt for prompt in prompts for _ in range(settings.most)]
    texts = [reply.text for reply in speaker.reply(repeated, seed=settings.seed)]
    dialogues = [answered(prompt, text) for prompt, text in zip(repeated, texts, strict=True)]
    shape = (len(prompts), settings.most)
    chooses = _scores(settings.preference_model, dialogues, settings).reshape(shape)
    grades = _scores(settings.judge, dialogues, settings).reshape(shape)
    ns = [2**power for power in range(settings.most.bit_length())]
    places = list(range(len(prompts)))
    curve = from_first(
        lambda: best_of_curve(chooses, grades, ns, prompts=places, seed=settings.seed)
    )
    return {
        "prompts": len(prompts),
        "prompts_left_out": len(read) - fitting,
        "curve": [point.to_json() for point in curve],
    }


def _scores(name: str, dialogues: list[Dialogue], settings: BestOfSettings) -> Array:
    judge = scorer(name, device=settings.device, dtype=settings.dtype)
    scores = shared_scores(lambda own: torch.as_tensor(score(judge, own)), dialogues)
    values: Array = scores.double().numpy()
    return values
