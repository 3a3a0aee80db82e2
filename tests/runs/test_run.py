from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hark.errors import RunError
from hark.runs.files import atomic_directory, content_hash
from hark.runs.manifest import Manifest
from hark.runs.metrics import MetricsWriter, read_metrics
from hark.runs.run import Run, find_complete, resolve_model
from hark.runs.settings import StageSettings


class Settings(StageSettings):
    """Settings of the stage under test."""

    data: Path = Path("none")
    """A file."""
    steps: int = 3
    """How many."""


def start(output: Path, **values: object) -> Run:
    settings = Settings.parse({"output": output, **values})
    inputs = [settings.data] if settings.data != Path("none") else []
    return Run.start(stage="toy", settings=settings, inputs=inputs, command=["hark", "toy"])


def test_a_complete_run_is_never_continued_or_overwritten(tmp_path: Path) -> None:
    with start(tmp_path) as first:
        first.finish({"loss": 1.0})
    with start(tmp_path) as second:
        second.finish({"loss": 2.0})
    assert first.path != second.path
    assert json.loads((first.path / "results.json").read_text()) == {"loss": 1.0}


def test_an_interrupted_run_is_continued_by_the_same_settings_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), start(tmp_path) as first:
        raise KeyboardInterrupt
    assert Manifest.read(first.path).status == "interrupted"
    with start(tmp_path, steps=4) as other:
        assert not other.resumed
        assert other.path != first.path
        other.finish({})
    with start(tmp_path) as again:
        assert again.resumed
        assert again.path == first.path


def test_changed_input_contents_make_a_new_run_and_moved_inputs_do_not(tmp_path: Path) -> None:
    data, moved = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    data.write_text("one")
    moved.write_text("one")
    with start(tmp_path, data=data) as first:
        pass
    with start(tmp_path, data=moved) as same:
        assert same.path == first.path
    data.write_text("two")
    with start(tmp_path, data=data) as changed:
        assert changed.path != first.path


def test_a_living_process_keeps_its_run(tmp_path: Path) -> None:
    with start(tmp_path) as first, start(tmp_path) as second:
        assert second.path != first.path


def test_kill_nine_leaves_a_run_that_says_running_and_is_continued(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from hark.runs.run import Run
        from hark.runs.settings import StageSettings
        settings = StageSettings(output=Path({str(tmp_path)!r}))
        run = Run.start(stage="toy", settings=settings)
        run.metrics.log(step=1, loss=1.0)
        print(run.path, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    killed = Path(done.stdout.strip())
    assert Manifest.read(killed).status == "running"
    settings = StageSettings(output=tmp_path)
    with Run.start(stage="toy", settings=settings) as run:
        assert run.path == killed
        assert read_metrics(run.path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]


def test_find_complete_wants_the_fingerprint_and_the_status(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        wanted = run.manifest.fingerprint
        assert find_complete(tmp_path, "toy", wanted) is None
        run.finish({})
    assert find_complete(tmp_path, "toy", wanted) == run.path
    assert find_complete(tmp_path, "toy", "other") is None


def test_config_names_effective_and_given_values(tmp_path: Path) -> None:
    with start(tmp_path, steps=7) as run:
        config = json.loads((run.path / "config.json").read_text())
    assert config["effective"]["seed"] == 0
    assert config["given"] == {"output": str(tmp_path), "steps": 7}


def test_missing_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no file or directory"):
        start(tmp_path, data=tmp_path / "nowhere.jsonl")


def test_a_failed_run_keeps_its_message(tmp_path: Path) -> None:
    with pytest.raises(RunError), start(tmp_path) as run:
        raise RunError("loss is not finite at step 3")
    manifest = Manifest.read(run.path)
    assert manifest.status == "failed"
    assert "step 3" in str(manifest.message)


def test_a_run_directory_stands_for_its_model(tmp_path: Path) -> None:
    with start(tmp_path) as run:
        with pytest.raises(RunError, match="has no model"):
            resolve_model(run.path)
        run.model_path.mkdir()
        assert resolve_model(run.path) == run.model_path
    run.model_path.rmdir()
    with pytest.raises(RunError, match="has no model; give the command that made it"):
        resolve_model(run.path)
    with start(tmp_path / "whole") as whole:
        whole.finish({})
    with pytest.raises(RunError, match="is complete and has no model; name a run that trains one"):
        resolve_model(whole.path)
    assert resolve_model(tmp_path) == tmp_path


def test_rewind_drops_later_records_and_a_torn_line(tmp_path: Path) -> None:
    metrics = MetricsWriter(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.log(step=step, loss=step / 2)
    whole = metrics.path.read_bytes()
    with metrics.path.open("a") as file:
        file.write('{"step": 4, "lo')
    metrics.rewind(3)
    assert metrics.path.read_bytes() == whole
    metrics.rewind(1)
    assert read_metrics(metrics.path) == [{"step": 1, "loss": 0.5}]


def test_undefined_values_are_null(tmp_path: Path) -> None:
    metrics = MetricsWriter(tmp_path / "metrics.jsonl")
    metrics.log(step=1, loss=float("nan"), accuracy=None)
    assert read_metrics(metrics.path) == [{"step": 1, "loss": None, "accuracy": None}]


def test_an_atomic_directory_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "step-1"
    with pytest.raises(KeyError), atomic_directory(target) as aside:
        (aside / "weights").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with atomic_directory(target) as aside:
        (aside / "weights").write_text("whole")
    assert (target / "weights").read_text() == "whole"


def test_an_unwritable_directory_is_explained(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(RunError, match="cannot write"):
        start(blocker / "runs")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full: run on Linux")
def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match="No space left"):
        MetricsWriter(tmp_path / "metrics.jsonl").log(step=1, loss=1.0)


def test_content_hash_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = content_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert content_hash(tmp_path) != first
    (tmp_path / ".lock").write_text("y")
    (tmp_path / "b").rename(tmp_path / "a")
    assert content_hash(tmp_path) == first
