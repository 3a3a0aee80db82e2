"""The studies of Elo on results written by hand: numbers, verdicts by rule, figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hark.errors import RunError
from hark.evaluation.intervals import Estimate
from hark.loop.studies import ANALYSES
from hark.report.run_record import RunRecord
from hark.runs.manifest import Manifest


def estimate(value: float, reach: float | None = 1.0) -> dict[str, Any]:
    state = "one cluster" if reach is None else "defined"
    low, high = (None, None) if reach is None else (value - reach, value + reach)
    return Estimate(value=value, low=low, high=high, n=99, clusters=9, state=state).to_json()


def made(path: Path, stage: str, settings: dict[str, Any], results: dict[str, Any]) -> RunRecord:
    path.mkdir(parents=True)
    Manifest(
        stage=stage, name="", status="complete", command=("hark", stage), fingerprint="f", seed=0,
        device="cpu", dtype="float32", started="2026-01-31T14:05:12+00:00",
        finished="2026-01-31T15:06:14+00:00", message=None, commit=None, dirty=False, versions={},
        parents=(), inputs={},
    ).write(path)  # fmt: skip
    (path / "config.json").write_text(json.dumps({"effective": settings, "given": {}}))
    (path / "metrics.jsonl").write_text("")
    (path / "results.json").write_text(json.dumps(results))
    return RunRecord.read(path)


def rehearsal(path: Path, intervals: str, coverage: float, reach: float) -> RunRecord:
    settings = {
        "intervals": intervals, "labelers": 20, "votes_per_labeler": 50, "labeler_spread": 0.8,
        "tie_odds": 0.5, "prompts": 0, "prompt_spread": 0.0, "clusters": "labeler",
    }  # fmt: skip
    return made(
        path, "rehearse", settings,
        {"studies": 100, "coverage": estimate(coverage, reach), "elo_error": estimate(1.0, 2.0)},
    )  # fmt: skip


def tournament(path: Path, promised: float, by_model: float, won: float) -> RunRecord:
    def judge(name: str, ppo: float) -> dict[str, Any]:
        elo = {"SFT": 1000.0, "PPO": ppo, "human": 1050.0}
        return {
            "judge": name, "anchor": "SFT", "matchups": [], "first_advantage": None,
            "tie_odds": None, "votes": 9, "labelers": 3,
            "ratings": [{"model": model, "elo": estimate(value)} for model, value in elo.items()],
            "primary": {"estimate": estimate(won, 0.1), "finding": "So."},
        }  # fmt: skip

    ratings = [
        {"model": model, "score": estimate(0.1), "from_gap": estimate(1000.0 + gap),
         "from_odds": estimate(1000.0 + gap / 2)}
        for model, gap in (("SFT", 0.0), ("PPO", promised), ("human", 20.0))
    ]  # fmt: skip
    over = {"from_gap": estimate(promised - 100.0), "from_odds": estimate(promised / 2 - 100.0)}
    return made(
        path, "tournament",
        {"primary": {"model": "PPO", "against": "human"},
         "judges": {"crowd": "playground", "ideal": "gold"},
         "preference_models": {"PM": "runs/pm"}, "data": ["people.jsonl"]},
        {"prompts": 9, "judges": [judge("crowd", 1100.0), judge("ideal", 1200.0),
                                  judge("PM", 1200.0 + by_model)],
         "predictions": [{"preference_model": "PM", "ratings": ratings}],
         "over_estimates": {"PM": {"crowd": {"PPO": over}}}},
    )  # fmt: skip


def test_judges_and_promises_over_three_seeds(tmp_path: Path) -> None:
    numbers = [(300.0, 150.0, 0.40), (320.0, 170.0, 0.42), (280.0, 160.0, 0.41)]
    runs = [tournament(tmp_path / str(n), *each) for n, each in enumerate(numbers)]
    promise, even, judge, writers = ANALYSES["elo"](runs, tmp_path)
    assert promise.estimate.value == pytest.approx(200.0)
    # Student's t of 2 degrees, 4.303, times 20/√3.
    assert promise.estimate.low == pytest.approx(200 - 4.3027 * 20 / 3**0.5, rel=1e-4)
    assert (promise.verdict, promise.seeds) == ("reproduced", 3)
    assert even.estimate.value == pytest.approx(50.0)
    assert judge.estimate.value == pytest.approx(160.0)
    assert (writers.estimate.value, writers.verdict) == (pytest.approx(0.41), "not reproduced")
    for effect in (promise, judge):
        assert effect.figure is not None
        assert (tmp_path / effect.figure).stat().st_size > 5000


def test_without_a_gold_judge_nobody_is_said_to_flatter(tmp_path: Path) -> None:
    run = tournament(tmp_path / "0", 300.0, 150.0, 0.7)
    config = run.path / "config.json"
    config.write_text(config.read_text().replace('"gold"', '"people"'))
    names = [effect.name for effect in ANALYSES["elo"]([run], tmp_path)]
    assert len(names) == 3
    assert not any("as a judge" in name for name in names)


@pytest.mark.parametrize("setting", ["primary", "judges", "preference_models"])
def test_a_tournament_without_what_is_studied_is_refused(tmp_path: Path, setting: str) -> None:
    run = tournament(tmp_path / "0", 300.0, 150.0, 0.7)
    config = json.loads((run.path / "config.json").read_text())
    config["effective"][setting] = None if setting == "primary" else {}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=f"has no {setting}, which the study of Elo needs"):
        ANALYSES["elo"]([run], tmp_path)


def test_one_seed_proves_nothing(tmp_path: Path) -> None:
    effects = ANALYSES["elo"]([tournament(tmp_path / "0", 300.0, 150.0, 0.7)], tmp_path)
    assert {effect.verdict for effect in effects} == {"cannot be seen"}


def test_coverage_by_the_way_to_intervals(tmp_path: Path) -> None:
    runs = [
        rehearsal(tmp_path / "0", "jackknife", 0.94, 0.012),
        rehearsal(tmp_path / "1", "jackknife", 0.99, 0.012),
        rehearsal(tmp_path / "2", "bootstrap", 0.90, 0.01),
    ]
    *cells, error = ANALYSES["planted-elo"](runs, tmp_path)
    assert [cell.estimate.value for cell in cells] == [0.94, 0.99, 0.90]
    # The mean of the first two, 0.965, would hide that the second's intervals are too wide.
    assert [cell.verdict for cell in cells] == ["reproduced", "not reproduced", "not reproduced"]
    assert "20 × 50" in cells[0].name
    assert error.verdict == "reproduced"
    assert (tmp_path / "elo-coverage.png").stat().st_size > 5000
