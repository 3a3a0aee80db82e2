"""`kill -9` at random moments, then the same command: metrics and weights to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hark.playground.world import PlaygroundSettings, write_world

HARK = [sys.executable, "-m", "hark"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LIMIT_SECONDS = 120.0


def settings(world: Path, models: Path) -> dict[str, list[str]]:
    """The command of each stage, small."""
    shared = ["--checkpoint-every", "3"]
    return {
        "pretrain": [
            *("pretrain", "--data", f"{world}/pretraining.jsonl", "--size", "0.5m"),
            *("--evaluation-data", f"{world}/pretraining-heldout.jsonl"),
            *("--vocabulary-size", "512", "--context-length", "128", "--batch-tokens", "512"),
            *("--steps", "14", "--evaluation-every", "5", *shared),
        ],
        "sft": [
            *("sft", "--model", f"{models}/base", "--data", f"{world}/demonstrations.jsonl"),
            *("--evaluation-data", f"{world}/demonstrations-heldout.jsonl", "--epochs", "2"),
            *("--batch-size", "8", "--residual-dropout", "0.1", "--choose-by", "loss", *shared),
        ],
        "preference": [
            *("preference", "--model", f"{models}/base", "--data", f"{world}/comparisons.jsonl"),
            *("--batch-size", "4", "--epochs", "2", *shared),
        ],
        "ppo": [
            *("ppo", "--model", f"{models}/base", "--preference-model", f"{models}/preference"),
            *("--data", f"{world}/ppo-prompts.jsonl", "--max-response-tokens", "8"),
            *("--total-episodes", "96", "--batch-episodes", "8", "--minibatch-episodes", "4"),
            *("--inner-epochs", "2", "--kl-target", "6", "--ema-decay", "0.9"),
            *("--pretraining-data", f"{world}/pretraining.jsonl"),
            *("--pretraining-rows-per-episode", "0.5", "--pretraining-row-tokens", "32", *shared),
        ],
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("world")
    write_world(
        directory,
        PlaygroundSettings(
            pretraining_texts=300, heldout_texts=20, demonstrations=64, heldout_demonstrations=8,
            preference_prompts=24, ppo_prompts=32, evaluation_prompts=8,
        ),
    )  # fmt: skip
    lines = (directory / "demonstrations.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    with (directory / "comparisons.jsonl").open("w") as file:
        for number, row in enumerate(rows[:48]):
            replies = [row["response"], rows[number + 1]["response"], "No."]
            prompt = row["prompt"]
            file.write(json.dumps({"prompt": prompt, "responses": replies, "ranks": [1, 2, 2]}))
            file.write("\n")
    return directory


@pytest.fixture(scope="module")
def models(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and a preference model, each made by an undisturbed run."""
    directory = tmp_path_factory.mktemp("models")
    for stage, name in (("pretrain", "base"), ("preference", "preference")):
        command = settings(world, directory)[stage]
        run = finish([*command, "--output", str(directory / "runs")])
        (run / "model").rename(directory / name)
    return directory


def finish(command: Sequence[str]) -> Path:
    """Give a command and return its run directory."""
    done = subprocess.run(
        [*HARK, *command, "--json"],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=LIMIT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout.splitlines()[-1])["run"])


def kill_after(command: Sequence[str], output: Path, *, lines: int) -> None:
    """Start a command and kill it once its metrics have so many more lines than they had."""
    status, _ = stop_after(command, output, lines=lines, by=signal.SIGKILL)
    assert status == -signal.SIGKILL, "it ended before it could be killed"


def stop_after(
    command: Sequence[str], output: Path, *, lines: int, by: signal.Signals
) -> tuple[int, str]:
    """The exit status and the last line on stderr of a command that a signal has stopped."""
    before = metric_lines(output)
    process = subprocess.Popen(
        [*HARK, *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    deadline = time.monotonic() + LIMIT_SECONDS
    while metric_lines(output) < before + lines and process.poll() is None:
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.002)
    process.send_signal(by)
    _, said = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, said.splitlines()[-1] if said else ""


def metric_lines(output: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in output.glob("*/metrics.jsonl"))


@pytest.mark.parametrize("stage", ["pretrain", "sft", "preference", "ppo"])
def test_kill_nine_changes_nothing(stage: str, world: Path, models: Path, tmp_path: Path) -> None:
    command = settings(world, models)[stage]
    undisturbed = finish([*command, "--output", str(tmp_path / "undisturbed")])
    output = tmp_path / "killed"
    moments = random.Random(stage)
    for lines in (moments.randint(1, 3), moments.randint(2, 5)):
        kill_after([*command, "--output", str(output)], output, lines=lines)
    killed = finish([*command, "--output", str(output)])
    assert [path.name for path in output.iterdir()] == [killed.name], "it began anew"
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_control_c_says_how_to_go_on_and_changes_nothing(
    world: Path, models: Path, tmp_path: Path
) -> None:
    command = settings(world, models)["sft"]
    undisturbed = finish([*command, "--output", str(tmp_path / "undisturbed")])
    output = tmp_path / "stopped"
    status, said = stop_after(
        [*command, "--output", str(output)], output, lines=4, by=signal.SIGINT
    )
    assert status == 130
    assert said == "error: interrupted; the same command continues where it stopped"
    went_on = finish([*command, "--output", str(output)])
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (went_on / name).read_bytes() == (undisturbed / name).read_bytes(), name


RECIPE = """
name: killed
stages:
  world: {{stage: playground, pretraining_texts: 200, heldout_texts: 5, demonstrations: 32,
          heldout_demonstrations: 4, preference_prompts: 8, ppo_prompts: 8, evaluation_prompts: 4}}
  base: {{stage: pretrain, data: ["${{world}}/data/pretraining.jsonl"], size: 0.5m, steps: 8,
         vocabulary_size: 512, context_length: 64, batch_tokens: 256, checkpoint_every: 2}}
  sft: {{stage: sft, model: "${{base}}", data: ["${{world}}/data/demonstrations.jsonl"], epochs: 2,
        batch_size: 8, checkpoint_every: 2}}
"""


def test_kill_nine_of_a_recipe_changes_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "killed.yaml"
    recipe.write_text(RECIPE.format())
    undisturbed, output = tmp_path / "undisturbed", tmp_path / "killed"
    finish(["run", str(recipe), "--output", str(undisturbed)])
    for lines in (3, 7):
        kill_after(["run", str(recipe), "--output", str(output)], output, lines=lines)
    finish(["run", str(recipe), "--output", str(output)])
    for stage in ("pretrain-base", "sft"):
        for name in ("metrics.jsonl", "model/model.safetensors"):
            one, other = (next(place.glob(f"*-{stage}/{name}")) for place in (output, undisturbed))
            assert one.read_bytes() == other.read_bytes(), f"{stage}: {name}"
    assert len(list(output.iterdir())) == 3, "a stage was begun anew"
