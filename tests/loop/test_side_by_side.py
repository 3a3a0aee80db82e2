"""Stages side by side leave what they leave one by one; signals and failures lose nothing."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from hark.errors import DataError, HarkError, RunError
from hark.loop.pipeline import FinishedStage, run_plan
from hark.loop.plan import Request, plan_recipe
from hark.loop.recipe import load_recipe
from hark.loop.side_by_side import Labelled, Task, Workers, _portable
from hark.runs.manifest import Manifest
from hark.runs.settings import StageSettings

RECIPE = """
name: beside
stages:
  world: {{stage: playground, pretraining_texts: 120, heldout_texts: 5, demonstrations: 16,
          heldout_demonstrations: 4, preference_prompts: 8, ppo_prompts: 8, evaluation_prompts: 4}}
  base: {{for_each: {{seed: [0, 1]}}, seed: "${{each.seed}}", stage: pretrain, size: 0.5m,
         data: ["${{world}}/data/pretraining.jsonl"], steps: {steps}, vocabulary_size: 512,
         context_length: 64, batch_tokens: 256, checkpoint_every: 2}}
  sft: {{for_each: {{seed: [0, 1]}}, seed: "${{each.seed}}", stage: sft, model: "${{base}}",
        data: ["{demonstrations}"], batch_size: 8}}
"""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LIMIT_SECONDS = 120.0


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    def write(
        *, steps: int = 6, demonstrations: str = "${world}/data/demonstrations.jsonl"
    ) -> Path:
        path = tmp_path / "beside.yaml"
        path.write_text(RECIPE.format(steps=steps, demonstrations=demonstrations))
        return path

    return write


def run(recipe: Path, output: Path, *, jobs: int) -> list[FinishedStage]:
    request = Request(every_stage={"output": str(output), "device": "cpu"})
    return run_plan(plan_recipe(load_recipe(str(recipe)), request), command=["hark"], jobs=jobs)


def test_side_by_side_leaves_what_one_by_one_leaves(
    recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one_by_one = run(recipe(), tmp_path / "one", jobs=1)
    capfd.readouterr()
    beside = run(recipe(), tmp_path / "beside", jobs=2)
    said = capfd.readouterr().err
    assert [stage.name for stage in beside] == [stage.name for stage in one_by_one]
    for one, other in zip(one_by_one[1:], beside[1:], strict=True):
        weights = "model/model.safetensors"
        assert (one.run_path / weights).read_bytes() == (other.run_path / weights).read_bytes()
        assert one.results["steps"] == other.results["steps"]
    assert said.index("[1/5] world: done") < said.index("[2/5] base-seed0 (pretrain)")
    assert said.index("[3/5] base-seed1 (pretrain)") < said.index("[2/5] base-seed0: done")
    assert all(stage.reused for stage in run(recipe(), tmp_path / "beside", jobs=3))


def test_after_a_failure_the_others_are_finished_and_nothing_begins(
    recipe: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"prompt": 3}\n')
    with pytest.raises(DataError, match=r"stage 'sft-seed[01]': .*wrong\.jsonl. looks like"):
        run(recipe(demonstrations=str(wrong)), tmp_path / "runs", jobs=2)
    statuses = sorted(Manifest.read(path).status for path in (tmp_path / "runs").iterdir())
    assert statuses.count("complete") == 3, "world and both bases"
    assert "failed; no other stage begins" in capfd.readouterr().err


class _Started:
    """A recipe in a process of its own, once two of its stages have written metrics."""

    def __init__(self, recipe: Path, output: Path) -> None:
        self.output = output
        command = [sys.executable, "-m", "hark", "run", str(recipe), "--jobs", "2"]
        self.process = subprocess.Popen(
            [*command, "--output", str(output)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        self.until(lambda: len(list(output.glob("*/metrics.jsonl"))) >= 2)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split() if b"spawn_main" in _command(int(pid))]

    def end(self, by: signal.Signals | None = None) -> tuple[int, str]:
        """Its status and what it said, after a signal or by itself."""
        if by is not None:
            self.process.send_signal(by)
        try:
            _, said = self.process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, said

    def statuses(self) -> set[str]:
        bases = self.output.glob("*-pretrain-*")
        return {Manifest.read(path).status for path in bases}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_control_c_interrupts_every_worker_once_and_leaves_none(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    started = _Started(recipe(steps=100_000), tmp_path / "runs")
    workers = started.workers()
    assert len(workers) == 2
    status, said = started.end(signal.SIGINT)
    assert status == 130
    assert said.splitlines()[-1] == (
        "error: interrupted; the same command continues where it stopped"
    )
    assert "Traceback" not in said
    assert started.statuses() == {"interrupted"}
    assert not any(map(_command, workers))


def test_workers_end_with_the_one_that_started_them(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    started = _Started(recipe(steps=100_000), tmp_path / "runs")
    workers = started.workers()
    status, _ = started.end(signal.SIGKILL)
    assert status == -signal.SIGKILL
    started.until(lambda: not any(map(_command, workers)))


def test_a_worker_that_is_killed_is_named(recipe: Callable[..., Path], tmp_path: Path) -> None:
    started = _Started(recipe(steps=100_000), tmp_path / "runs")
    os.kill(started.workers()[0], signal.SIGKILL)
    status, said = started.end()
    assert status == 2
    assert re.search(r"process of .* base-seed\d was killed by SIGKILL", said.splitlines()[-1])
    assert "Traceback" not in said


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_is_named_too() -> None:
    settings = typing.cast(StageSettings, None)  # Never looked at.
    with Workers(1) as workers:
        (one,) = workers._workers
        one.process.kill()
        one.process.join()
        workers.begin(Task(label="base", kind="pretrain", settings=settings, command=()))
        with pytest.raises(RunError, match="the process of base was killed by SIGKILL"):
            workers.wait()


def test_who_asks_twice_does_not_wait_for_a_worker_that_does_not_end() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    workers = Workers(1)
    (one,) = workers._workers
    assert one.process.pid is not None
    os.kill(one.process.pid, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt), workers:
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    one.process.join()
    assert one.process.exitcode == -signal.SIGKILL


def test_torchrun_and_jobs_exclude_each_other(
    recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HarkError, match="jobs is 2, but torchrun"):
        run(recipe(), tmp_path / "runs", jobs=2)


def test_every_line_begins_with_its_label() -> None:
    out = io.StringIO()
    labelled = Labelled(out, "a: ")
    print("one\ntwo", file=labelled)
    labelled.write("not yet whole")
    assert out.getvalue() == "a: one\na: two\n"
    assert not labelled.isatty()


def test_an_error_keeps_its_traceback_on_the_way_to_another_process() -> None:
    class Local(Exception):  # noqa: N818 (of a class that cannot be found by name there)
        pass

    def raised(error: Exception) -> Exception:
        try:
            raise error
        except Exception as caught:
            return _portable(caught)

    kept, told = raised(KeyError("x")), raised(Local("words"))
    assert isinstance(kept, KeyError)
    assert "in raised" in kept.__notes__[0]
    assert isinstance(told, RuntimeError)
    assert "words" in str(told)
