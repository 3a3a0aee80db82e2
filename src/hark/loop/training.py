"""The stages `sft` and `ppo`: training put together with what scores and measures it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from transformers import PreTrainedModel

from hark.data.formats import read_prompts, read_texts
from hark.data.records import Dialogue, answered
from hark.evaluation.language_loss import language_loss
from hark.evaluation.reward_curve import reward_curve
from hark.evaluation.scores import score as scored
from hark.loop.inputs import read_files
from hark.loop.judges import Scorer, scorer
from hark.models.flops import Shape
from hark.models.generation import generate_shared
from hark.models.language_model import context_length, load_language_model
from hark.models.parallel import shard
from hark.models.processes import from_first
from hark.models.scalar_head import ModelScorer
from hark.models.shared_scores import shared_scores
from hark.models.tokenizer import load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run, resolve_model
from hark.training import ppo, sft
from hark.training.examples import Paths
from hark.training.ppo_episodes import encode_prompts
from hark.training.ppo_settings import Names, PPOSettings
from hark.training.rewards import weighted_scorer
from hark.training.sft import SFTSettings

EVALUATION_SEED = 1_000_003
"""Added to a run's seed where its evaluations sample, so that they share no draw with training."""


class PPOStageSettings(PPOSettings):
    """Improve a language model against a preference model or another scorer."""

    help_panels: ClassVar[dict[str, str]] = {
        **PPOSettings.help_panels,
        "evaluation_data": "Evaluation during training",
    }

    evaluation_data: Paths = ()
    """Files of held-out prompts, answered at each evaluation."""
    evaluation_samples: int = Field(default=128, ge=1)
    """Held-out prompts answered at each evaluation."""
    judge: Names = ()
    """Who scores those answers, besides the preference model: those whom training does not see,
    such as a preference model of other comparisons (HH: the test preference model)."""
    evaluation_text: Paths = ()
    """Files of held-out text, whose loss is measured at each evaluation (the alignment tax)."""

    @model_validator(mode="after")
    def _evaluation_fits(self) -> Self:
        if self.judge and not self.evaluation_data:
            raise ValueError("judge would be ignored without evaluation_data")
        if not self.evaluation_data and "evaluation_samples" in self.model_fields_set:
            raise ValueError("evaluation_samples would be ignored without evaluation_data")
        nothing = not (self.evaluation_data or self.evaluation_text)
        if self.evaluation_every is not None and nothing:
            raise ValueError(
                "evaluation_every would be ignored without evaluation_data or evaluation_text"
            )
        if not self.preference_model:
            raise ValueError(
                "preference_model is required: the directory or run of a preference model, "
                "module:function, or a named scorer (sentiment, playground)"
            )
        return self


def run_sft(settings: SFTSettings, run: Run) -> dict[str, Any]:
    """SFT with the scorer that chooses its checkpoint."""
    score = _sharded(scorer(settings.scorer, device=settings.device)) if settings.scorer else None
    return sft.train(settings, run, score=score)


def run_ppo(settings: PPOStageSettings, run: Run) -> dict[str, Any]:
    """PPO against the weighted sum of the scorers named in `preference_model`."""
    scorers = [
        _sharded(scorer(name, device=settings.device, dtype=settings.dtype))
        for name in settings.preference_model
    ]
    score = weighted_scorer(scorers, settings.weights)
    shapes = [Shape.of(each.model) for each in scorers if isinstance(each, ModelScorer)]
    prompts = read_files(read_prompts, settings.data, settings, run)
    results = ppo.train(
        settings, run, prompts=prompts, score=score, scorers=shapes,
        evaluate=_evaluation(settings, score, run),
    )  # fmt: skip
    return results | from_first(lambda: {"reward_curve": _reward_curve(settings, run)})


def _reward_curve(settings: PPOStageSettings, run: Run) -> dict[str, Any] | None:
    """Reward against KL and √KL over the steps of training, as Bai et al. (2022) fit it."""
    steps = [each for each in read_metrics(run.path / "metrics.jsonl") if "kl" in each]
    kl, score = [each["kl"] for each in steps], [each["score"] for each in steps]
    measured = reward_curve(kl, score, seed=settings.seed)
    return None if measured is None else measured.to_json()


def _sharded(score: Scorer) -> Scorer:
    """The scorer, its model spread over the processes of the run where it has one."""
    if isinstance(score, ModelScorer):
        shard(score.model.requires_grad_(False), bfloat16=False)
    return score


def _evaluation(settings: PPOStageSettings, score: Scorer, run: Run) -> ppo.Evaluate | None:
    """What PPO calls now and then with the model it would leave behind."""
    measures: list[Callable[[PreTrainedModel], dict[str, float]]] = []
    if settings.evaluation_data:
        measures.append(_score_of_answers(settings, score, run))
    if settings.evaluation_text:
        measures.append(_loss_on_text(settings, run))
    if not measures:
        return None

    def evaluate(model: PreTrainedModel, step: int) -> dict[str, float]:
        return {name: value for each in measures for name, value in each(model).items()}

    return evaluate


def _score_of_answers(
    settings: PPOStageSettings, score: Scorer, run: Run
) -> Callable[[PreTrainedModel], dict[str, float]]:
    tokenizer = load_tokenizer(str(resolve_model(settings.model)))
    held_out = read_files(read_prompts, settings.evaluation_data, settings, run)
    context = context_length(load_language_model(str(resolve_model(settings.model))))
    encoded = encode_prompts(
        held_out[: settings.evaluation_samples], tokenizer, settings, context=context
    ).prompts
    dialogues = [prompt.dialogue for prompt in encoded]
    tokens = [list(prompt.tokens) for prompt in encoded]
    judges = {"evaluation_score": score}
    for number, name in enumerate(settings.judge, start=1):
        metric = "judge_score" if number == 1 else f"judge_score_{number}"
        judges[metric] = _sharded(scorer(name, device=settings.device))

    def measure(model: PreTrainedModel) -> dict[str, float]:
        replies = generate_shared(
            model, tokenizer, tokens, settings.sampling,
            seed=settings.seed + EVALUATION_SEED, rows=settings.generation_rows,
        )  # fmt: skip
        answers = [answered(d, reply.text) for d, reply in zip(dialogues, replies, strict=True)]
        return {name: _mean_score(each, answers) for name, each in judges.items()}

    return measure


def _mean_score(score: Scorer, answers: list[Dialogue]) -> float:
    scores = shared_scores(lambda own: torch.as_tensor(scored(score, own)), answers)
    return float(scores.numpy().mean())


def _loss_on_text(
    settings: PPOStageSettings, run: Run
) -> Callable[[PreTrainedModel], dict[str, float]]:
    tokenizer = load_tokenizer(str(resolve_model(settings.model)))
    texts = [text.text for text in read_files(read_texts, settings.evaluation_text, settings, run)]

    @torch.no_grad()
    def measure(model: PreTrainedModel) -> dict[str, float]:
        loss = language_loss(model, tokenizer, texts, resamples=2).per_token.value
        assert loss is not None
        return {"evaluation_loss": loss}

    return measure
