from __future__ import annotations

import pytest

from hark.runs import progress as module
from hark.runs.progress import progress


def test_lines_name_count_rate_and_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    with progress(total=4, label="sft", start=1) as bar:
        bar.advance(2, loss=1.25)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "sft: 3/4 steps" in captured.err
    assert "loss 1.25" in captured.err
    assert "left" in captured.err


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=2, label="sft") as bar:
        bar.advance(2)
    assert capsys.readouterr().err == ""
