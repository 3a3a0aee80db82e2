from __future__ import annotations

import pytest

from hark.runs import progress as module
from hark.runs.progress import progress


def test_lines_name_count_rate_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress(total=6, label="sft", start=1) as bar:
        bar.advance(1)
        bar.advance(2, loss=1.25)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "sft: 4/6 steps" in captured.err
    assert "loss 1.25" in captured.err
    assert "left" in captured.err


def test_the_first_step_which_may_wait_for_a_compiler_says_nothing_of_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with progress(total=31, label="sft") as bar:
        now = 20.0
        bar.advance()
        assert "/s" not in bar.describe()
        now = 30.0
        bar.advance(10)
        assert "sft: 11/31 steps  1/s  0:20 left" in bar.describe()
        now = 50.0
        bar.advance(20)
        assert "sft: 31/31 steps  0.62/s  0:50" in bar.describe()
    assert "31/31" in capsys.readouterr().err


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=2, label="sft") as bar:
        bar.advance(2)
    assert capsys.readouterr().err == ""
