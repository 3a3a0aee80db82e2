"""From prompts to a detector, and from the detector to refusals in sampling."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from hark.data.formats import read_demonstrations, write_prompts
from hark.data.records import Prompt, ask
from hark.errors import DataError, HarkError, SettingsError
from hark.loop.stages import STAGES, run_stage
from hark.models.checkpoint import save_model
from hark.models.language_model import Architecture, new_language_model
from hark.models.outlier_detector import OutlierDetector
from hark.models.tokenizer import train_tokenizer

WORDS = ["small", "dog", "saw", "big", "cat", "near", "old", "house", "ran", "home", "sleep", "all"]
DIGITS = [str(number) for number in range(100, 160)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A random model, ordinary prompts of words, and outliers of numbers."""
    path = tmp_path_factory.mktemp("world")
    tokenizer = train_tokenizer([" ".join(WORDS + DIGITS)] * 20, vocabulary_size=400)
    shape = Architecture(width=16, layers=2, heads=2, mlp_width=24, named_vocabulary=400)
    model = new_language_model(
        shape, vocabulary_size=len(tokenizer), context_length=64, seed=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    save_model(path / "model", model, tokenizer)
    draw = random.Random(0)
    for name, pool in (("ordinary", WORDS), ("outliers", DIGITS)):
        texts = {" ".join(draw.choices(pool, k=6)) for _ in range(90)}
        write_prompts(path / f"{name}.jsonl", [Prompt(prompt=ask(text)) for text in sorted(texts)])
    return {name: str(path / name) for name in ("model", "ordinary.jsonl", "outliers.jsonl")}


def fit(world: dict[str, str], output: Path, **changes: Any) -> Any:
    values = {
        "model": world["model"], "data": [world["ordinary.jsonl"]],
        "outlier_data": [world["outliers.jsonl"]], "output": str(output), "device": "cpu",
        "exposed": [1, 24], "shrinkage": 0.1,
    }  # fmt: skip
    given = {name: value for name, value in (values | changes).items() if value is not None}
    settings = STAGES["outliers"].settings.parse(given, where="test")
    return run_stage("outliers", settings, command=["hark", "outliers"])


@pytest.mark.parametrize("method", ["mahalanobis", "simplified_relative", "exposed"])
def test_what_was_fitted_tells_outliers_from_the_ordinary(
    world: dict[str, str], tmp_path: Path, method: str
) -> None:
    outcome = fit(world, tmp_path, method=method)
    results = outcome.results
    assert [each["layer"] for each in results["layers"]] == [0, 1, 2]
    assert results["area"]["value"] > 0.9
    assert results["outliers_refused"]["value"] > results["false_refusals"]["value"]
    detector = OutlierDetector.load(outcome.run_path / "detector")
    assert (detector.method, detector.layer) == (method, results["layer"])
    assert detector.false_refusal_rate == results["false_refusals"]["value"]


def test_sampling_refuses_what_the_detector_finds_strange(
    world: dict[str, str], tmp_path: Path
) -> None:
    guard = fit(world, tmp_path, method="exposed", false_refusals=0.1).run_path
    values = {
        "model": world["model"], "data": [world["ordinary.jsonl"], world["outliers.jsonl"]],
        "refuse_out_of_distribution": str(guard), "refusal": "Not that.", "output": str(tmp_path),
        "device": "cpu", "sampling": {"max_response_tokens": 4},
    }  # fmt: skip
    settings = STAGES["sample"].settings.parse(values, where="test")
    outcome = run_stage("sample", settings, command=["hark", "sample"])
    written = read_demonstrations(outcome.run_path / "data" / "responses.jsonl")
    refused = [each for each in written if each.response == "Not that."]
    assert len(refused) == outcome.results["refused"]
    of_digits = [each.prompt[-1].content[0].isdigit() for each in refused]
    assert sum(of_digits) > 60
    assert of_digits.count(False) < 30
    assert outcome.results["responses"] + len(refused) == outcome.results["prompts"]
    assert "false_refusal_rate" in outcome.results


def test_without_outliers_a_detector_is_fitted_and_nothing_claimed(
    world: dict[str, str], tmp_path: Path
) -> None:
    results = fit(world, tmp_path, outlier_data=None, exposed=None).results
    assert results["layer"] == 1
    assert not {"layers", "area", "outliers_refused"} & set(results)


def test_too_few_prompts_and_impossible_settings_are_refused(
    world: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="different outliers are too few to know 200"):
        fit(world, tmp_path, exposed=[200])
    with pytest.raises(DataError, match="3 different ordinary prompts are too few"):
        fit(world, tmp_path, limit=3)
    with pytest.raises(SettingsError, match="layer 9 does not exist: the last one is 2"):
        fit(world, tmp_path, layer=9)
    with pytest.raises(SettingsError, match="exposed would be ignored without outlier_data"):
        fit(world, tmp_path, outlier_data=None)
    with pytest.raises(SettingsError, match="method 'exposed' needs outlier_data"):
        fit(world, tmp_path, outlier_data=None, exposed=None, method="exposed")


def test_a_run_without_a_detector_guards_nothing(world: dict[str, str], tmp_path: Path) -> None:
    values = {"model": world["model"], "data": [world["ordinary.jsonl"]],
              "refuse_out_of_distribution": str(tmp_path), "output": str(tmp_path)}  # fmt: skip
    settings = STAGES["sample"].settings.parse(values, where="test")
    with pytest.raises(HarkError, match="give a run of hark outliers"):
        run_stage("sample", settings, command=["hark", "sample"])
