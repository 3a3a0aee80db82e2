"""Where time goes, on records worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hark.runs.metrics import MetricsWriter, read_metrics
from hark.runs.timing import (
    TimeSpent,
    bytes_words,
    flops_words,
    phases_of,
    seconds_words,
    step_record,
)

FIRST = {"data": 1.0, "forward_backward": 5.0, "update": 2.0, "evaluation": 7.0, "other": 1.0}
SECOND = {"data": 0.5, "forward_backward": 2.5, "update": 1.0, "other": 0.0}


def record(phases: dict[str, float], tokens: int, useful: int) -> dict[str, float]:
    return step_record(phases, tokens=tokens, useful_flops=useful, peak_memory_bytes=2048)


def test_a_record_holds_seconds_shares_and_rates() -> None:
    found = record(FIRST, tokens=80, useful=4500)
    assert found["step_seconds"] == 16.0
    assert found["forward_backward_share"] == 5 / 16
    assert sum(v for k, v in found.items() if k.endswith("_share")) == pytest.approx(1.0)
    # 80 tokens in 1 + 5 + 2 seconds; 4500 operations in all but the 7 of evaluation.
    assert found["tokens_per_second"] == 10.0
    assert found["useful_flops_per_second"] == 500.0
    assert phases_of(found) == FIRST


def test_rates_over_no_time_are_undefined() -> None:
    found = record({"evaluation": 2.0}, tokens=0, useful=0)
    assert math.isnan(found["tokens_per_second"])
    assert math.isnan(found["useful_flops_per_second"])


def test_a_run_is_the_sum_of_its_steps(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "timing.jsonl")
    steps = (record(FIRST, 80, 4500), record(SECOND, 80, 4500), record({"evaluation": 1.0}, 0, 0))
    for step, values in enumerate(steps, start=1):
        writer.log(step=step, **values)
    assert read_metrics(writer.path)[2]["tokens_per_second"] is None
    spent = TimeSpent.read(tmp_path)
    assert spent is not None
    assert spent.seconds == 21.0
    assert list(spent.phases.items()) == [
        ("evaluation", 8.0), ("forward_backward", 7.5), ("update", 3.0), ("data", 1.5),
        ("other", 1.0),
    ]  # fmt: skip
    assert sum(spent.shares.values()) == pytest.approx(1.0)
    # 160 tokens in 8 + 4 seconds, 9000 operations in 9 + 4: not the means of 10 and 20.
    assert spent.tokens_per_second == pytest.approx(160 / 12)
    assert spent.useful_flops_per_second == pytest.approx(9000 / 13)
    assert spent.peak_memory_bytes == 2048
    assert spent.to_json()["phases"][0] == {
        "phase": "evaluation", "seconds": 8.0, "share": pytest.approx(8 / 21),
    }  # fmt: skip
    assert spent.describe() == (
        "21 s: evaluation 38 %, forward and backward 36 %, update 14 %, data 7 %, other 5 %; "
        "0.000692 MFLOP/s of useful arithmetic"
    )


def test_without_timed_steps_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert TimeSpent.read(tmp_path) is None
    # As before `step_seconds` was written of every step.
    assert TimeSpent.of([{"step": 1, "data_seconds": 0.5}]) is None


def test_numbers_are_said_in_their_own_size() -> None:
    said = [seconds_words(seconds) for seconds in (0.0021, 0.09999, 34.06, 750.0, 11100.0)]
    assert said == ["2.1 ms", "100 ms", "34.1 s", "12:30 min", "3:05:00 h"]
    assert [flops_words(rate) for rate in (4.3e14, 9.9999e11)] == ["430 TFLOP/s", "1,000 GFLOP/s"]
    assert [bytes_words(count) for count in (5 * 2**28, 340 * 2**20)] == ["1.25 GiB", "340 MiB"]
