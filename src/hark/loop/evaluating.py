"""The stage `evaluate`: one model measured on one kind of data.

* A preference model on comparisons: accuracy and calibration.
* A language model on prompts, with a baseline and a judge: win rate.
* A language model on text: loss.
* A language model on questions: accuracy of its likeliest options.
* A language model on comparisons: how often it finds the better reply likelier.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.formats import (
    kind_of,
    read_comparisons,
    read_prompts,
    read_questions,
    read_texts,
)
from hark.data.records import Comparison, Dialogue, answered
from hark.errors import DataError, ModelError, SettingsError
from hark.evaluation.intervals import Estimate
from hark.evaluation.language_loss import language_loss
from hark.evaluation.multiple_choice import multiple_choice, option_likelihoods
from hark.evaluation.preference_accuracy import preference_accuracy
from hark.evaluation.reply_likelihood import recalling, reply_likelihoods
from hark.evaluation.winrate import judge_by_scorer, win_rate
from hark.loop.inputs import read_files
from hark.loop.judges import preference_model_scorer, scorer
from hark.loop.speaker import AnySpeaker, SpeakerSettings, load_speaker, prompts_that_fit
from hark.models.adapter_directory import is_adapter, is_of_scalar_model
from hark.models.fitting import LongResponses
from hark.models.generation import SamplingSettings
from hark.models.language_model import choose_device, context_length, load_language_model
from hark.models.processes import gather
from hark.models.scalar_head import ModelScorer
from hark.models.shared_scores import shared_scores
from hark.models.tokenizer import encode_response, load_tokenizer
from hark.runs.progress import progress
from hark.runs.run import Run, is_endpoint, resolve_model
from hark.runs.settings import DataStageSettings
from hark.serving.endpoint import EndpointSettings
from hark.training.examples import Paths


class EvaluateSettings(DataStageSettings):
    """Measure a model: what is measured follows from the model and the data."""

    model: str
    """A preference model (accuracy), or a language model (win rate, loss, multiple choice or
    accuracy by likelihood): directory or run; for a win rate also http://host:port/v1#name, a
    model behind an OpenAI-compatible endpoint."""
    data: Paths
    """Comparisons for a preference model (or a language model, by its likelihoods of the replies),
    prompts for a win rate, texts for the loss, questions for multiple choice:
    {"context": "…", "options": [" …", " …"], "answer": 0}, from 0."""
    baseline: str | None = None
    """For a win rate: the model to compare with."""
    judge: str | None = None
    """For a win rate: who says which reply is better: a preference model, module:function, or a
    named scorer (playground, sentiment)."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many records."""
    long_responses: LongResponses | None = None
    """For accuracy: a response too long for the model's context: drop its comparison (what is done
    if nothing is said), or cut the response (not for accuracy by likelihood)."""
    long_prompts: Literal["stop", "skip"] = "stop"
    """For a win rate: prompts that, with a longest reply, exceed the context: stop, or skip them.
    """
    sampling: SamplingSettings = SamplingSettings()
    """For a win rate: how tokens are drawn."""
    endpoint: EndpointSettings = EndpointSettings()
    """For a win rate: how an endpoint is asked, where model or baseline is behind one."""

    @model_validator(mode="after")
    def _baseline_and_judge(self) -> Self:
        if (self.baseline is None) != (self.judge is None):
            raise ValueError("a win rate needs both baseline and judge")
        if self.baseline is None and "sampling" in self.model_fields_set:
            raise ValueError("sampling would be ignored: it is for win rates (baseline and judge)")
        if self.baseline is None and "long_prompts" in self.model_fields_set:
            raise ValueError("long_prompts would be ignored: it is for win rates")
        if self.baseline is not None and self.long_responses is not None:
            raise ValueError("long_responses would be ignored: it is for preference models")
        asked = [name for name in (self.model, self.baseline) if name and is_endpoint(name)]
        if "endpoint" in self.model_fields_set and not asked:
            raise ValueError("endpoint would be ignored: neither model nor baseline is behind one")
        return self


def run_evaluate(settings: EvaluateSettings, run: Run) -> dict[str, Any]:
    """Measure; every rate has an interval."""
    if settings.baseline is not None:
        return _win_rate(settings, run)
    if is_preference_model(resolve_model(settings.model)):
        return _accuracy(settings, run)
    kind = kind_of(
        list(settings.data), on_bad_line=settings.on_bad_line, skipped_directory=run.skipped_path
    )
    if kind == "comparisons":
        return _accuracy_by_likelihood(settings, run)
    return _choices(settings, run) if kind == "questions" else _loss(settings, run)


def is_preference_model(path: Path) -> bool:
    """Whether a directory holds a model with a scalar head; what is not here is a Hub name, of a
    language model.

    Raises: ModelError if a directory holds no model.
    """
    if not path.exists():
        return False
    if is_adapter(path):
        return is_of_scalar_model(path)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(
            f"'{path}' holds no model: its config.json is missing or damaged; give a Hugging Face "
            "directory or a run that made a model"
        ) from None
    architectures = config.get("architectures") or [""]
    return bool(str(architectures[0]).endswith("ForSequenceClassification"))


def _accuracy(settings: EvaluateSettings, run: Run) -> dict[str, Any]:
    read = read_files(read_comparisons, settings.data, settings, run)[: settings.limit]
    score = preference_model_scorer(
        settings.model, device=settings.device, dtype=settings.dtype,
        long_responses="cut" if settings.long_responses == "cut" else "stop",
    )  # fmt: skip
    comparisons = read if settings.long_responses == "cut" else that_fit(read, score)
    measured = preference_accuracy(
        functools.partial(shared_scores, score), comparisons, seed=settings.seed
    )
    return {
        "accuracy": measured.estimate.value,
        "interval": interval_of(measured.estimate),
        "calibration_error": measured.calibration.error.value,
        "n": measured.estimate.n,
        "comparisons": measured.comparisons,
        "comparisons_dropped": len(read) - len(comparisons),
        "responses_cut": sum(gather(score.responses_cut)),
        "prompts_truncated": sum(gather(score.truncated)),
        "label_ties": measured.label_ties,
        "details": measured.to_json(),
    }


def _accuracy_by_likelihood(settings: EvaluateSettings, run: Run) -> dict[str, Any]:
    if settings.long_responses == "cut":
        raise SettingsError(
            "long_responses 'cut' would be ignored: the likelihood of a part is not the reply's; "
            "leave it out, and comparisons with too long a response are dropped"
        )
    read = read_files(read_comparisons, settings.data, settings, run)[: settings.limit]
    model, tokenizer = _language_model(settings)

    def fits(dialogue: Dialogue) -> bool:
        reply = encode_response(tokenizer, dialogue[:-1], dialogue[-1].content, allow_empty=True)
        return len(reply) < context_length(model)

    comparisons = _fitting(read, fits)
    dialogues = list(
        dict.fromkeys(
            answered(each.prompt, text) for each in comparisons for text in each.responses
        )
    )
    with progress(total=None, label="evaluate", unit="token") as bar:
        found = reply_likelihoods(model, tokenizer, dialogues, on_progress=bar.advance)
    results: dict[str, Any] = {}
    for suffix, scores in (
        ("", found.total), ("_per_token", found.per_token),
        ("_mutual_information", found.mutual_information),
    ):  # fmt: skip
        measured = preference_accuracy(
            recalling(dialogues, scores), comparisons, seed=settings.seed
        )
        results |= {
            f"accuracy{suffix}": measured.estimate.value,
            f"interval{suffix}": interval_of(measured.estimate),
            "n": measured.estimate.n,
            "comparisons": measured.comparisons,
        }
    return results | {"comparisons_dropped": len(read) - len(comparisons)}


def that_fit(comparisons: Sequence[Comparison], score: ModelScorer) -> list[Comparison]:
    """The comparisons whose responses all fit the model's context."""
    return _fitting(comparisons, score.fits)


def _fitting(
    comparisons: Sequence[Comparison], fits: Callable[[Dialogue], bool]
) -> list[Comparison]:
    """The comparisons whose responses all fit the model's context.

    Raises: DataError if none is left.
    """
    kept = [
        each
        for each in comparisons
        if all(fits(answered(each.prompt, text)) for text in each.responses)
    ]
    if comparisons and not kept:
        raise DataError(
            f"all {len(comparisons)} comparisons have a response too long for the model's context; "
            "use a model with a longer context, or have responses cut (long_responses, for "
            "preference models)"
        )
    return kept


def _win_rate(settings: EvaluateSettings, run: Run) -> dict[str, Any]:
    assert settings.baseline is not None
    assert settings.judge is not None
    prompts = [each.prompt for each in read_files(read_prompts, settings.data, settings, run)]
    speakers = [_speaker(name, settings) for name in (settings.model, settings.baseline)]
    if settings.long_prompts == "skip":
        prompts = prompts_that_fit(prompts, speakers)
    prompts = prompts[: settings.limit]
    texts = []
    for number, (name, speaker) in enumerate(
        zip((settings.model, settings.baseline), speakers, strict=True)
    ):
        replies = speaker.reply(prompts, seed=settings.seed + number, label=Path(name).name)
        texts.append([reply.text for reply in replies])
    judge = functools.partial(shared_scores, scorer(settings.judge, device=settings.device))
    verdicts = judge_by_scorer(judge, prompts, texts[0], texts[1])
    measured = win_rate(verdicts, seed=settings.seed)
    return {
        "win_rate": measured.estimate.value,
        "interval": interval_of(measured.estimate),
        "ties": measured.ties,
        "wins": measured.wins,
        "losses": measured.losses,
        "n": measured.estimate.n,
    }


def _speaker(name: str, settings: EvaluateSettings) -> AnySpeaker:
    given = {"endpoint": settings.endpoint} if is_endpoint(name) else {}
    return load_speaker(
        SpeakerSettings(model=name, **given), sampling=settings.sampling,
        device=settings.device, dtype=settings.dtype,
    )  # fmt: skip


def _loss(settings: EvaluateSettings, run: Run) -> dict[str, Any]:
    read = read_files(read_texts, settings.data, settings, run)
    texts = [each.text for each in read[: settings.limit]]
    model, tokenizer = _language_model(settings)
    total = sum(len(tokenizer(text, verbose=False)["input_ids"]) for text in texts)
    with progress(total=total, label="evaluate", unit="token") as bar:
        measured = language_loss(
            model, tokenizer, texts, seed=settings.seed, on_progress=bar.advance
        )
    return {
        "loss": measured.per_token.value,
        "interval": interval_of(measured.per_token),
        "loss_per_byte": measured.per_byte.value,
        "tokens": measured.tokens,
        "documents": measured.documents,
    }


def _choices(settings: EvaluateSettings, run: Run) -> dict[str, Any]:
    questions = read_files(read_questions, settings.data, settings, run)[: settings.limit]
    model, tokenizer = _language_model(settings)
    options = [option for each in questions for option in each.options]
    total = sum(map(len, tokenizer(options, add_special_tokens=False)["input_ids"]))
    with progress(total=total, label="evaluate", unit="token") as bar:
        likelihoods = option_likelihoods(model, tokenizer, questions, on_progress=bar.advance)
    measured = multiple_choice(questions, likelihoods, seed=settings.seed)
    return {
        "accuracy": measured.total.value,
        "interval": interval_of(measured.total),
        "accuracy_per_token": measured.per_token.value,
        "interval_per_token": interval_of(measured.per_token),
        "accuracy_per_byte": measured.per_byte.value,
        "interval_per_byte": interval_of(measured.per_byte),
        "chance": measured.chance,
        "n": measured.total.n,
        "contexts_truncated": measured.contexts_truncated,
    }


def _language_model(
    settings: EvaluateSettings,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    path = str(resolve_model(settings.model))
    device = str(choose_device(settings.device))
    return load_language_model(path, device=device, dtype=settings.dtype), load_tokenizer(path)


def interval_of(estimate: Estimate) -> list[float] | None:
    """[low, high], or None where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return None
    return [estimate.low, estimate.high]
