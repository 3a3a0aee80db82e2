"""The stages `ppo` and `best-of` as they are put together with scorers and measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hark.data.formats import write_prompts
from hark.data.records import Prompt, ask
from hark.evaluation.best_of import BestOf
from hark.evaluation.reward_curve import RewardCurve, fit_square_root
from hark.loop.stages import STAGES, StageOutcome, run_stage
from hark.models.checkpoint import save_model
from hark.models.language_model import new_language_model
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import train_tokenizer
from hark.runs.metrics import read_metrics

WORDS = "a small dog saw the big cat near an old house and ran home to sleep all day long"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([WORDS] * 20, vocabulary_size=280)
    model = new_language_model(
        "0.5m", vocabulary_size=len(tokenizer), context_length=64, seed=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    save_model(directory / "base", model, tokenizer)
    for seed in (1, 2):
        save_model(directory / f"preference-{seed}", new_scalar_model(model, seed=seed), tokenizer)
    write_prompts(directory / "prompts.jsonl", [Prompt(prompt=ask(word)) for word in WORDS.split()])
    return directory


def done(stage: str, models: Path, output: Path, **given: Any) -> StageOutcome:
    shared = {"model": str(models / "base"), "data": [str(models / "prompts.jsonl")]}
    values = shared | {"output": str(output), "device": "cpu"} | given
    return run_stage(stage, STAGES[stage].settings.parse(values), command=["hark", stage])


def test_ppo_tells_its_reward_curve_and_asks_every_judge(models: Path, tmp_path: Path) -> None:
    first, second = (str(models / f"preference-{seed}") for seed in (1, 2))
    outcome = done(
        "ppo", models, tmp_path, preference_model=first, judge=[second, "sentiment", first],
        evaluation_data=[str(models / "prompts.jsonl")], evaluation_every=2,
        total_episodes=64, batch_episodes=8, minibatch_episodes=4, max_response_tokens=6,
        optimizer={"learning_rate": 1e-3, "warmup_steps": 0},
    )  # fmt: skip
    records = read_metrics(outcome.run_path / "metrics.jsonl")
    steps = [record for record in records if "kl" in record]
    fit = fit_square_root([each["kl"] for each in steps], [each["score"] for each in steps])
    assert fit is not None
    curve = RewardCurve.from_json(outcome.results["reward_curve"])
    assert curve.slope.value == pytest.approx(fit.slope)
    assert curve.slope.n == 8
    assert curve.slope.has_interval
    evaluations = [record for record in records if "judge_score" in record]
    assert [record["step"] for record in evaluations] == [0, 2, 4, 6, 8]
    for record in evaluations:
        assert record["judge_score_3"] == record["evaluation_score"]
        assert len({record[f"judge_score{which}"] for which in ("", "_2", "_3")}) == 3


def test_best_of_chooses_by_one_and_grades_by_another(models: Path, tmp_path: Path) -> None:
    results = done(
        "best-of", models, tmp_path, preference_model=str(models / "preference-1"),
        judge="sentiment",
        most=8, limit=5, sampling={"max_response_tokens": 6},
    ).results  # fmt: skip
    assert results["prompts"] == 5
    curve = [BestOf.from_json(values) for values in results["curve"]]
    assert [point.n for point in curve] == [1, 2, 4, 8]
    scores = [point.preference.value or 0.0 for point in curve]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert curve[-1].preference.clusters == 5
