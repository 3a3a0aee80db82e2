"""`hark profile`: where the time of runs that are already there went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hark.cli import main
from hark.runs.run import Run
from hark.runs.settings import StageSettings
from hark.runs.timing import step_record


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run with two timed steps, and one that trained nothing."""
    for stage, name in (("evaluate", ""), ("ppo", "mine")):
        settings = StageSettings(name=name, output=tmp_path)
        with Run.start(stage=stage, settings=settings) as run:
            for step in (1, 2) if stage == "ppo" else ():
                record = step_record(
                    {"generate": 3.0, "update": 1.0, "other": 1.0},
                    tokens=50, useful_flops=10**11, peak_memory_bytes=2**30,
                )  # fmt: skip
                run.timing.log(step=step, **record)
            run.finish({})
    return tmp_path


def test_a_run_is_a_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [run] = runs.glob("*-ppo-mine")
    assert main.run(["profile", str(run)]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()]
    assert [row for row in rows if row] == [
        ["generate", "6 s", "60.0 %"],
        ["update", "2 s", "20.0 %"],
        ["other", "2 s", "20.0 %"],
        ["all", "10 s", "100 %"],
    ]
    assert (
        "20 GFLOP/s of useful arithmetic; 50 tokens trained on a second; peak memory 1 GiB" in out
    )
    assert "trace" not in out
    (run / "profile").mkdir()
    (run / "profile" / "trace.json.gz").touch()
    assert main.run(["profile", str(run)]) == 0
    assert f"trace {run}/profile/trace.json.gz" in capsys.readouterr().out


def test_a_directory_of_runs_gives_each_that_trained(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["profile", str(runs), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "complete"
    [run] = said["runs"]
    assert (run["stage"], run["name"], run["seconds"]) == ("ppo", "mine", 10.0)
    assert run["phases"][0] == {"phase": "generate", "seconds": 6.0, "share": 0.6}
    assert run["useful_flops_per_second"] == 2e10
    manifest = json.loads((Path(run["run"]) / "manifest.json").read_text())
    assert manifest["time"]["phases"] == run["phases"]


def test_where_nothing_was_timed_one_sentence_says_so(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [evaluated] = runs.glob("*-evaluate")
    assert main.run(["profile", str(evaluated)]) == 2
    assert "holds no training run" in capsys.readouterr().err
    (evaluated / "timing.jsonl").write_text("{\n")
    assert main.run(["profile", str(evaluated)]) == 2
    assert "timing.jsonl' is damaged" in capsys.readouterr().err
    assert main.run(["profile", str(runs / "gone")]) == 2
    assert "there is no directory" in capsys.readouterr().err
