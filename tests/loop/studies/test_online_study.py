"""Results of `hark online` as its runs hold them, without the loops."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hark.evaluation.intervals import Estimate
from hark.loop.studies.online import analyse, kept_verdict
from hark.report.effects import Effect
from hark.report.run_record import RunRecord

ALL = ["labelers", "server", "models", "loop"]


def number(value: float) -> dict[str, Any]:
    return Estimate(
        value=value, low=value - 0.1, high=value + 0.1, n=9, clusters=9, state="ok"
    ).to_json()


def result(seed: int, *, rounds: int = 3) -> dict[str, Any]:
    """Gains of 0.1 a round; the first online tranche is called with 70 %, each later 3 % less."""
    wiggle = 0.001 * seed
    rows = [
        {
            "round": each, "judge_gain": number(0.1 + wiggle), "judge": number(0.5 + 0.1 * each),
            "accuracy": number(0.9), "elo": number(1000 + 20 * each + wiggle),
        }
        for each in range(rounds + 1)
    ]  # fmt: skip
    online = [
        {
            "tranche": f"online-{each}", "score": number(each + wiggle * each),
            "accuracy": number(0.73 - (0.03 + wiggle) * each),
        }
        for each in range(1, rounds + 1)
    ]  # fmt: skip
    return {
        "rounds": rows,
        "tranches": [
            {"tranche": "static", "score": number(9.0), "accuracy": number(0.9)}, *online
        ],
        "collected": [{"labelers": 50}],
        "experiment": {
            "base_only": number(0.6), "mixture": number(0.5), "gain": number(-0.1 - wiggle),
            "pairs": {"base": 80 + seed, "mixture": 81},
        },
        "killed": dict.fromkeys(ALL, 1),
        "to_kill": ALL,
        "receipts": {
            "steps": {"acknowledged": 100, "lost": 0, "doubled": 0, "unasked": 0},
            "exported_labels": {"acknowledged": 50, "lost": 0, "doubled": 0, "unasked": 0},
        },
    }  # fmt: skip


def found(tmp_path: Path, results: list[dict[str, Any]]) -> dict[str, Effect]:
    runs = []
    for place, each in enumerate(results):
        path = tmp_path / f"run-{place}"
        (path / "data").mkdir(parents=True)
        (path / "data" / "scores.json").write_text(json.dumps({"online-1": [0.0, 1.0, 2.0]}))
        effective = {
            "collect": {"task": "ranking"}, "measure": {"data": ["playground/prompts.jsonl"]}
        }  # fmt: skip
        (path / "config.json").write_text(json.dumps({"effective": effective}))
        manifest = cast(Any, SimpleNamespace(stage="online", name=""))
        runs.append(RunRecord(path=path, manifest=manifest, results=each))
    effects = analyse(runs, tmp_path)
    return {one.name: one for one in effects}


def test_online_tranches_are_held_against_each_other(tmp_path: Path) -> None:
    """The accuracy on the static tranche (0.9) is of other labelers, and does not count."""
    effects = found(tmp_path, [result(seed) for seed in range(3)])
    harder = effects["The newest comparisons are harder to call"]
    assert harder.estimate.value == pytest.approx(-2 * 0.031)
    assert harder.verdict == "reproduced"
    assert effects["Scores of the compared replies move right"].estimate.value == pytest.approx(
        2 * 1.001
    )
    mixture = effects["A mixture with online data beats base data of the same size"]
    assert mixture.verdict == "not reproduced"
    assert mixture.reason == "The interval has no part above 0."
    assert "80 to 82 pairs" in mixture.measured
    assert (tmp_path / str(mixture.figure)).stat().st_size > 1000


def test_the_rise_over_all_rounds_is_told_beside_the_gain_of_each(tmp_path: Path) -> None:
    name = "The last online policy is better than the one that saw no online data"
    rising = [result(seed) for seed in range(3)]
    last = len(rising[0]["rounds"]) - 1
    for seed, one in enumerate(rising):
        one["rounds"][last]["judge"] = number(0.5 + 0.1 * last + 0.01 * (seed - 1))
    effect = found(tmp_path / "rising", rising)[name]
    assert effect.estimate.value == pytest.approx(0.1 * last)
    assert effect.verdict == "reproduced"
    falling = copy.deepcopy(rising)
    for seed, one in enumerate(falling):
        one["rounds"][last]["judge"] = number(0.4 + 0.01 * seed)
    assert found(tmp_path / "falling", falling)[name].verdict == "not reproduced"


def test_a_single_online_tranche_shows_no_movement(tmp_path: Path) -> None:
    effects = found(tmp_path, [result(seed, rounds=1) for seed in range(3)])
    for name in ("The newest comparisons are harder to call", "Elo rises with rounds"):
        assert effects[name].estimate.value is None
        assert effects[name].verdict == "cannot be seen"


def test_nothing_is_lost_counts_only_where_every_process_was_killed(tmp_path: Path) -> None:
    name = "Nothing is lost, whatever is killed"
    whole = [result(seed) for seed in range(3)]
    assert found(tmp_path / "whole", whole)[name].verdict == "reproduced"
    spared = copy.deepcopy(whole)
    del spared[1]["killed"]["models"]
    effect = found(tmp_path / "spared", spared)[name]
    assert effect.verdict == "cannot be seen"
    assert "models" in effect.reason
    without = copy.deepcopy(whole)
    without[2] |= {"killed": {}, "to_kill": []}
    assert found(tmp_path / "without", without)[name].verdict == "cannot be seen"
    spared[0]["receipts"]["exported_labels"]["lost"] = 3
    effect = found(tmp_path / "lost", spared)[name]
    assert effect.verdict == "not reproduced"
    assert effect.estimate.value == 0.01


def test_without_a_label_nothing_is_said() -> None:
    assert kept_verdict(0, 0, drilled=True, spared=[])[0] == "cannot be seen"
