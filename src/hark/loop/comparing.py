"""The stage `compare`: several policies answer the same prompts, and one table says how they fare.

The bench of InstructGPT, section 4: preference over a named baseline by a judge who is not the
preference model, the preference model's own score beside it, KL from the reference policy, and the
loss on plain text that alignment costs.

1. The baseline's row is a second, independent set of its replies against the first: its win rate
   is near one half, and its interval shows how far chance alone goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator

from hark.data.formats import read_comparisons, read_prompts, read_questions, read_texts
from hark.data.records import Dialogue, Question, answered
from hark.errors import did_you_mean
from hark.evaluation.divergence import best_of_n_divergence, divergence_from_logprobs
from hark.evaluation.intervals import Estimate, exact
from hark.evaluation.language_loss import language_loss
from hark.evaluation.likelihood import sequence_logprobs
from hark.evaluation.multiple_choice import multiple_choice, option_likelihoods
from hark.evaluation.policies import PolicyEvaluation, evaluate_policy
from hark.evaluation.preference_accuracy import preference_accuracy
from hark.evaluation.samples import Sample, samples_of, write_samples
from hark.evaluation.scores import score
from hark.evaluation.winrate import judge_by_scorer
from hark.loop.inputs import data_files, model_files, read_examples, read_files
from hark.loop.judges import Scorer, remembering, scorer
from hark.loop.speaker import (
    AnySpeaker,
    Reply,
    Speaker,
    SpeakerSettings,
    load_speaker,
    prompts_that_fit,
    sampling_seed,
)
from hark.models.generation import Generated, SamplingSettings
from hark.models.processes import is_first
from hark.models.tokenizer import padding_id
from hark.playground.gold import grade
from hark.runs.run import Run, is_endpoint, resolve_model
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths


class CompareSettings(DataStageSettings):
    """Measure several policies on the same prompts."""

    policies: dict[str, SpeakerSettings]
    """Name of each policy to its model and how it is asked, in the order of the table."""
    baseline: str
    """The policy all are compared with."""
    data: Paths
    """Files of prompts."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many prompts."""
    long_prompts: Literal["stop", "skip"] = "stop"
    """Prompts that, with a longest reply, exceed the baseline's context: stop, or skip them."""
    judge: str = "playground"
    """Who says which reply is better: playground (its gold grade), or any scorer. It should not be
    the preference model that the policies were trained against."""
    preference_model: str | None = None
    """Whose score is a column, and what best-of-N goes by."""
    comparisons: Paths = ()
    """Files of held-out comparisons for the preference model's accuracy and calibration."""
    text: Paths = ()
    """Files of held-out text for the language-model loss."""
    questions: Paths = ()
    """Files of multiple-choice questions, which every model answers by its likeliest option."""
    rows: int = Field(default=64, ge=1)
    """Replies written at once; the samples do not depend on it."""
    sampling: SamplingSettings = SamplingSettings()
    """How tokens are drawn, for every policy."""

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if self.baseline not in self.policies:
            hint = did_you_mean(self.baseline, self.policies)
            known = ", ".join(self.policies)
            raise ValueError(f"baseline '{self.baseline}' is no policy{hint}; there are: {known}")
        best = [name for name, policy in self.policies.items() if policy.best_of > 1]
        if best and self.preference_model is None:
            raise ValueError(f"policy '{best[0]}' is a best-of-N, which needs a preference_model")
        if self.comparisons and self.preference_model is None:
            raise ValueError("comparisons would be ignored without a preference_model")
        return self


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every policy is measured by."""

    prompts: list[Dialogue]
    judge: Scorer
    preference: Scorer | None
    graders: dict[str, Scorer]
    """Graders of helpfulness and harmlessness, where the judge has them."""
    texts: list[str]
    questions: list[Question]
    reference: AnySpeaker
    """The baseline's model, from which KL is measured."""
    reference_model: str
    baseline_responses: list[str]
    seed: int


def compare_inputs(settings: CompareSettings) -> list[Path]:
    """Files and directories whose contents decide the result."""
    models = [policy.model for policy in settings.policies.values()]
    named = [
        *models,
        settings.judge,
        *([settings.preference_model] if settings.preference_model else []),
    ]
    examples = [path for policy in settings.policies.values() for path in policy.examples]
    data = [*examples, *settings.data, *settings.comparisons, *settings.text, *settings.questions]
    found = [path for name in named for path in model_files(name)]
    return list(dict.fromkeys([*found, *(path for each in data for path in data_files(str(each)))]))


def run_compare(settings: CompareSettings, run: Run) -> dict[str, Any]:
    """Measure every policy; writes `data/samples.jsonl` with all replies."""
    bench = _bench(settings, run)
    rows: list[PolicyEvaluation] = []
    samples: list[Sample] = []
    for name, policy in settings.policies.items():
        speaker = _load(settings, policy, bench.preference, run)
        seed = sampling_seed(settings.seed, name)
        replies = speaker.reply(bench.prompts, seed=seed, label=name)
        row, own = _measure(name, policy, speaker, replies, bench)
        rows.append(row)
        samples += own
    if is_first():
        write_samples(run.data_path("samples.jsonl"), samples)
    return {
        "baseline": settings.baseline,
        "judge": settings.judge,
        "prompts": len(bench.prompts),
        "policies": [row.to_json() for row in rows],
        **_preference_model(settings, bench, run),
    }


def _preference_model(settings: CompareSettings, bench: Bench, run: Run) -> dict[str, Any]:
    """Accuracy and calibration of the preference model on held-out comparisons."""
    if not settings.comparisons or bench.preference is None:
        return {}
    comparisons = read_files(read_comparisons, settings.comparisons, settings, run)
    measured = preference_accuracy(bench.preference, comparisons, seed=settings.seed)
    return {
        "preference_accuracy": measured.estimate.to_json(),
        "calibration": measured.calibration.to_json(),
    }


def _bench(settings: CompareSettings, run: Run) -> Bench:
    preference = (
        remembering(scorer(settings.preference_model, device=settings.device))
        if settings.preference_model
        else None
    )
    baseline = settings.policies[settings.baseline]
    reference = _load(settings, baseline, preference, run)
    prompts = _prompts(settings, reference, run)
    replies = reference.reply(
        prompts,
        seed=sampling_seed(settings.seed, settings.baseline, "baseline"),
        label=f"{settings.baseline} as the baseline",
    )
    return Bench(
        prompts=prompts,
        judge=remembering(scorer(settings.judge, device=settings.device)),
        preference=preference,
        graders=_playground_graders() if settings.judge == "playground" else {},
        texts=_texts(settings, run),
        questions=_questions(settings, run),
        reference=reference,
        reference_model=_resolved(baseline.model),
        baseline_responses=[reply.text for reply in replies],
        seed=settings.seed,
    )


def _prompts(settings: CompareSettings, reference: AnySpeaker, run: Run) -> list[Dialogue]:
    prompts = [each.prompt for each in read_files(read_prompts, settings.data, settings, run)]
    if settings.long_prompts == "skip":
        prompts = prompts_that_fit(prompts, [reference])
    return prompts[: settings.limit]


def _texts(settings: CompareSettings, run: Run) -> list[str]:
    if not settings.text:
        return []
    return [text.text for text in read_files(read_texts, settings.text, settings, run)]


def _questions(settings: CompareSettings, run: Run) -> list[Question]:
    if not settings.questions:
        return []
    return list(read_files(read_questions, settings.questions, settings, run))


def _load(
    settings: CompareSettings, policy: SpeakerSettings, preference: Scorer | None, run: Run
) -> AnySpeaker:
    return load_speaker(
        policy, sampling=settings.sampling,
        examples=read_examples(policy.examples, settings, run),
        score=preference if policy.best_of > 1 else None,
        rows=settings.rows, device=settings.device, dtype=settings.dtype,
    )  # fmt: skip


def _measure(
    name: str,
    policy: SpeakerSettings,
    speaker: AnySpeaker,
    replies: Sequence[Reply],
    bench: Bench,
) -> tuple[PolicyEvaluation, list[Sample]]:
    texts = [reply.text for reply in replies]
    row = evaluate_policy(
        name,
        bench.prompts,
        texts,
        judgements=judge_by_scorer(bench.judge, bench.prompts, texts, bench.baseline_responses),
        judge_score=None if bench.graders else bench.judge,
        helpfulness=bench.graders.get("helpfulness"),
        harmlessness=bench.graders.get("harmlessness"),
        preference=bench.preference,
        divergence=_divergence(policy, speaker, replies, bench),
        language_loss=_language_loss(policy, speaker, bench),
        multiple_choice=_multiple_choice(policy, speaker, bench),
        seed=bench.seed,
    )
    dialogues = [answered(prompt, text) for prompt, text in zip(bench.prompts, texts, strict=True)]
    scores: Mapping[str, Scorer | None] = {"judge": bench.judge, "preference": bench.preference}
    columns: dict[str, Sequence[float]] = {
        key: [float(value) for value in score(each, dialogues)]
        for key, each in scores.items()
        if each is not None
    }
    finishes = [reply.finish for reply in replies]
    return row, samples_of(name, bench.prompts, texts, columns, finishes)


def _divergence(
    policy: SpeakerSettings, speaker: AnySpeaker, replies: Sequence[Reply], bench: Bench
) -> Estimate | None:
    """KL from the baseline's model, nats a reply; None where sampling was not from the policy, or
    an endpoint keeps the probabilities to itself."""
    same_model = _resolved(policy.model) == bench.reference_model
    if policy.best_of > 1:
        return exact(best_of_n_divergence(policy.best_of)) if same_model else None
    plain = speaker.sampling
    if plain.temperature != 1.0 or plain.top_p < 1.0 or plain.top_k > 0:
        return None
    if same_model and not policy.examples:
        return exact(0.0)
    if not isinstance(speaker, Speaker) or not isinstance(bench.reference, Speaker):
        return None
    drawn = [reply for reply in replies if isinstance(reply, Generated)]
    own, reference = (
        sequence_logprobs(
            asked.model,
            asked.trees(bench.prompts, drawn),
            pad_token_id=padding_id(asked.tokenizer),
        )
        for asked in (speaker, bench.reference)
    )
    lengths = [len(reply.tokens) for reply in drawn]
    measured = divergence_from_logprobs(
        own, reference, lengths, prompts=bench.prompts, seed=bench.seed
    )
    return measured.per_response


def _language_loss(policy: SpeakerSettings, speaker: AnySpeaker, bench: Bench) -> Estimate | None:
    """None for a policy that is another one's model with examples or a choice of N on top, or that
    is behind an endpoint."""
    if not bench.texts or policy.best_of > 1 or policy.examples:
        return None
    if not isinstance(speaker, Speaker):
        return None
    return language_loss(speaker.model, speaker.tokenizer, bench.texts, seed=bench.seed).per_token


def _multiple_choice(policy: SpeakerSettings, speaker: AnySpeaker, bench: Bench) -> Estimate | None:
    """None as for the loss."""
    if not bench.questions or policy.best_of > 1 or policy.examples:
        return None
    if not isinstance(speaker, Speaker):
        return None
    likelihoods = option_likelihoods(speaker.model, speaker.tokenizer, bench.questions)
    return multiple_choice(bench.questions, likelihoods, seed=bench.seed).total


def _resolved(model: str) -> str:
    """Equal for two names of one model."""
    return model if is_endpoint(model) else str(resolve_model(model))


def _playground_graders() -> dict[str, Scorer]:
    def grader(part: str) -> Scorer:
        def grades(dialogues: list[Dialogue]) -> torch.Tensor:
            values = [getattr(grade(each[:-1], each[-1].content), part) for each in dialogues]
            return torch.tensor(values, dtype=torch.float32)

        return grades

    return {part: grader(part) for part in ("helpfulness", "harmlessness")}
