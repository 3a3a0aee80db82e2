"""Scorers and labelers by name: a preference model, a Python function, the playground.

A model, a person, a lexicon and a gold function are all just a scorer or a labeler; this module
turns the word a person typed into one.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hark.data.records import Comparison, Dialogue, answered
from hark.errors import SettingsError, did_you_mean
from hark.models.language_model import choose_device
from hark.models.scalar_head import ModelScorer, load_scalar_model
from hark.models.tokenizer import load_tokenizer
from hark.playground.gold import grade
from hark.playground.labelers import LabelerPopulation, LabelerSettings
from hark.runs.run import is_endpoint, resolve_model

Scorer = Callable[[list[Dialogue]], Tensor]
"""Dialogues that end with a response → one float each, [n]; higher is better."""
Labeler = Callable[[Sequence[Comparison]], list[Comparison]]
"""Comparisons without judgement → the same ones, judged; models read many of them together."""

NAMED_SCORERS = {
    "playground": "the playground's gold grade, helpfulness and harmlessness together",
    "gold": "the same, also where a labeler is wanted: who grades without noise",
    "sentiment": "probability-like positive sentiment of the response, by VADER",
}


def scorer(name: str, *, device: str = "auto", dtype: str = "float32") -> Scorer:
    """The scorer a person named; preference models compute in `dtype`.

    A named scorer, `module:function`, or the directory (or run) of a preference model.
    Raises: SettingsError if it is none of these.
    """
    if name in ("playground", "gold"):
        return gold_scorer
    if name == "sentiment":
        from hark.evaluation.sentiment import positive_sentiment

        return positive_sentiment
    if is_endpoint(name):
        raise SettingsError(f"'{name}' is an endpoint, which gives replies, not scores")
    if ":" in name and not Path(name).exists():
        return _python_scorer(name)
    return preference_model_scorer(name, device=device, dtype=dtype)


def preference_model_scorer(
    name: str, *, device: str, dtype: str, long_responses: Literal["stop", "cut"] = "stop"
) -> ModelScorer:
    """The scorer that a preference model directory or run makes.

    Raises: SettingsError if there is no such directory.
    """
    path = resolve_model(Path(name))
    if not path.is_dir():
        raise SettingsError(
            f"no scorer '{name}'{did_you_mean(name, NAMED_SCORERS)}: give the directory of a "
            f"preference model, module:function, or one of {', '.join(NAMED_SCORERS)}"
        )
    model = load_scalar_model(path, device=str(choose_device(device)), dtype=dtype)
    return ModelScorer(model, load_tokenizer(path), long_responses=long_responses)


def gold_scorer(dialogues: list[Dialogue]) -> Tensor:
    """The playground's gold grade of the last message of each dialogue."""
    grades = [grade(dialogue[:-1], dialogue[-1].content).overall for dialogue in dialogues]
    return torch.tensor(grades, dtype=torch.float32)


def labeler(name: str, *, population: LabelerSettings, device: str = "auto") -> Labeler:
    """The labeler a person named.

    "playground" is a noisy population of labelers, each comparison judged by one of them; a
    `module:function` whose parameter is named `comparison` is a labeler itself; anything else is a
    scorer, whose order of scores becomes the ranks (equal scores tie).
    """
    if name == "playground":
        return _one_by_one(LabelerPopulation(population))
    if ":" in name and not Path(name).exists():
        function = _python_function(name)
        if next(iter(inspect.signature(function).parameters), None) == "comparison":
            return _one_by_one(_python_labeler(name, function))
    return labeler_from_scorer(scorer(name, device=device), name)


def labeler_from_scorer(score: Scorer, name: str | None = None) -> Labeler:
    """The labeler that ranks responses by their score; `name` is who it says it is."""

    def judge(comparisons: Sequence[Comparison]) -> list[Comparison]:
        dialogues = [
            answered(each.prompt, reply) for each in comparisons for reply in each.responses
        ]
        values = map(float, score(dialogues))
        return [
            dataclasses.replace(
                each,
                ranks=_ranks([next(values) for _ in each.responses]),
                probability=None,
                strength=None,
                labeler=name,
            )
            for each in comparisons
        ]

    return judge


def _ranks(scores: Sequence[float]) -> tuple[int, ...]:
    order = sorted(set(scores), reverse=True)
    return tuple(order.index(value) + 1 for value in scores)


def remembering(score: Scorer) -> Scorer:
    """The same scorer, which scores each dialogue once however often it is asked."""
    known: dict[Dialogue, float] = {}

    def recall(dialogues: list[Dialogue]) -> Tensor:
        if new := [each for each in dict.fromkeys(dialogues) if each not in known]:
            known.update(zip(new, map(float, score(new)), strict=True))
        return torch.tensor([known[each] for each in dialogues], dtype=torch.float64)

    return recall


def _one_by_one(judge: Callable[[Comparison], Comparison]) -> Labeler:
    return lambda comparisons: [judge(each) for each in comparisons]


def _python_scorer(name: str) -> Scorer:
    function = _python_function(name)

    def score(dialogues: list[Dialogue]) -> Tensor:
        return torch.as_tensor(_call(name, function, dialogues))

    return score


def _python_labeler(name: str, function: Callable[..., Any]) -> Callable[[Comparison], Comparison]:
    def judge(comparison: Comparison) -> Comparison:
        judged = _call(name, function, comparison)
        if not isinstance(judged, Comparison) or not judged.judged:
            raise SettingsError(
                f"labeler '{name}' returned {type(judged).__name__} without a judgement; return "
                "the comparison with ranks, such as dataclasses.replace(comparison, ranks=(1, 2))"
            )
        return judged

    return judge


def _call(name: str, function: Callable[..., Any], argument: object) -> Any:
    """Whatever a person's own function raises is told as theirs, with the line it came from."""
    try:
        return function(argument)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise SettingsError(
            f"'{name}' failed at {place.filename}:{place.lineno}: {type(error).__name__}: {error}"
        ) from error


def _python_function(name: str) -> Callable[..., Any]:
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise SettingsError(f"'{name}' is not module:function; write both names")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a person's module raises is theirs to mend
        kind = type(error).__name__
        raise SettingsError(
            f"cannot import '{module_name}' of '{name}': {kind}: {error}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise SettingsError(
            f"module '{module_name}' has no function '{function_name}'"
            f"{did_you_mean(function_name, dir(module))}"
        )
    return function
