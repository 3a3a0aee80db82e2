"""The operating system refuses to write: a clear message, and the last checkpoint stays whole."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hark.models.checkpoint import load_state
from hark.playground.world import PlaygroundSettings, write_world

HARK = [sys.executable, "-m", "hark"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def give(command: list[str], before: Callable[[], None] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [*HARK, *command], capture_output=True, text=True, env=ENVIRONMENT, preexec_fn=before,
        timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    world = tmp_path_factory.mktemp("world")
    write_world(
        world,
        PlaygroundSettings(
            pretraining_texts=100, heldout_texts=1, demonstrations=1, heldout_demonstrations=1,
            preference_prompts=1, ppo_prompts=1, evaluation_prompts=1,
        ),
    )  # fmt: skip
    return [
        *("pretrain", "--data", f"{world}/pretraining.jsonl", "--size", "0.5m"),
        *("--vocabulary-size", "400", "--context-length", "64", "--batch-tokens", "256"),
        *("--checkpoint-every", "2", "--json"),
    ]


def small_files_only() -> None:
    """Let no file grow beyond a megabyte, which the weights do: the kernel's own refusal."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


def test_a_refused_checkpoint_leaves_the_last_one_whole(command: list[str], tmp_path: Path) -> None:
    steps = ["--steps", "6", "--output", str(tmp_path)]
    status, _, told = give([*command, *steps], small_files_only)
    assert status == 2, told
    assert "Traceback" not in told
    message = told.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert "step-000002" in message
    assert "File too large" in message
    (run,) = tmp_path.iterdir()
    assert not list((run / "checkpoints").glob("step-*")), "half a checkpoint was left"
    assert json.loads((run / "manifest.json").read_text())["status"] == "failed"

    status, out, told = give([*command, *steps])
    assert status == 0, told
    assert Path(json.loads(out.splitlines()[-1])["run"]) == run, "it began anew"
    assert load_state(run / "checkpoints" / "step-000006").step == 6


def test_an_unwritable_output_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, told = give([*command, "--steps", "1", "--output", str(tmp_path / "file" / "runs")])
    assert status == 2
    assert "Traceback" not in told
    assert "cannot write" in told
