"""Results for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hark.cli.outcome import announce, describe, is_table, print_results
from hark.evaluation.intervals import Estimate
from hark.report.effects import Effect


def test_json_is_one_last_line_with_results_run_and_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    announce({"accuracy": 0.7, "interval": (0.6, 0.8)}, run=Path("runs/x"), as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "status": "complete",
        "run": "runs/x",
        "accuracy": 0.7,
        "interval": [0.6, 0.8],
    }


def test_what_is_not_finite_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    announce({"a": float("nan"), "b": [{"c": float("inf")}]}, run=None, as_json=True)
    values = json.loads(capsys.readouterr().out)
    assert values == {"status": "complete", "a": None, "b": [{"c": None}]}


def test_results_may_not_hide_the_status() -> None:
    with pytest.raises(AssertionError):
        announce({"status": "fine"}, run=None, as_json=True)


def test_records_are_shown_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"policy": "sft", "win_rate": 0.5}, {"policy": "ppo", "win_rate": 0.71234}]
    announce({"policies": rows, "n": 200}, run=Path("runs/x"), as_json=False)
    out = capsys.readouterr().out
    assert "win rate" in out
    assert "0.712" in out
    assert "runs/x" in out


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.71234, "0.712"),
        (12345.6, "12,346"),
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        ((0.1, 0.25), "[0.1, 0.25]"),
        (3, "3"),
    ],
)
def test_values_are_described_for_people(value: Any, shown: str) -> None:
    assert describe(value) == shown


def test_a_table_is_a_list_of_records_with_the_same_names() -> None:
    assert is_table([{"a": 1}, {"a": 2}])
    assert not is_table([{"a": 1}, {"b": 2}])
    assert not is_table([])
    assert not is_table([1, 2])


def test_paths_in_a_list_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_results({"runs": ["/one", "/two"]})
    assert "[/one, /two]" in capsys.readouterr().out


def test_a_study_shows_its_effects_with_their_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    gain = Estimate(value=0.5, low=0.25, high=0.75, n=3, clusters=3, state="defined")
    effect = Effect(
        name="It grows", paper="A paper", claim="It does.", setting="Small.", data="playground",
        measured="points", rule="reproduced if the whole interval is above 0", estimate=gain,
        seeds=3, verdict="reproduced", reason="The interval lies wholly above 0.",
    )  # fmt: skip
    print_results({"analysis": "growth", "effects": [effect.to_json()]})
    said = capsys.readouterr().out
    assert "It grows" in said
    assert "0.500 (0.250 to 0.750)" in said
    assert "reproduced" in said
    assert "It does." not in said
