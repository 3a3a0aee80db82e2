"""Real processes under torchrun, gloo between them: what one process does, two do."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hark.models.checkpoint import save_model
from hark.models.language_model import load_language_model
from hark.models.lora import has_adapter
from hark.models.scalar_head import new_scalar_model
from hark.models.shards import read_shards
from hark.models.tokenizer import load_tokenizer
from hark.runs.manifest import Manifest
from hark.runs.metrics import read_metrics

DRIVER = Path(__file__).with_name("parallel_driver.py")

ANIMALS, PLACES = ("cat", "dog", "hen", "fox", "owl"), ("mat", "hill", "wall", "roof")
SAID = [(animal, f"The {animal} sat on the {place}.") for animal in ANIMALS for place in PLACES]


def torchrun(script: Path, given: Path, *, limit: float = 120) -> subprocess.CompletedProcess[str]:
    """Two processes of a script, which gets one path."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(script), str(given),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)


@dataclass(frozen=True)
class World:
    """Runs of every stage, done by one process and by two."""

    directory: Path
    driver: ModuleType

    def plan(self, stage: str, name: str, output: str, **more: Any) -> dict[str, Any]:
        """20 steps of a stage, in a batch of several uneven micro-batches."""
        values: dict[str, Any] = {
            "name": name, "output": str(self.directory / output), "device": "cpu",
            "optimizer": {"learning_rate": 1e-3, "schedule": "constant"},
            "checkpoint_every": 10,
        } | SETTINGS[stage](self.directory)  # fmt: skip
        return {"stage": stage, "settings": values} | more

    def measures(self, output: str) -> list[dict[str, Any]]:
        """Runs that train nothing."""
        place = {"output": str(self.directory / output), "device": "cpu"}
        return [
            {"stage": stage, "settings": {"name": name} | place | values}
            for stage, name, values in measuring(self.directory)
        ]

    def alone(self, plan: Sequence[dict[str, Any]]) -> None:
        """Carry out a plan in this process."""
        self.driver.run_plan(list(plan))

    def together(
        self, plan: Sequence[dict[str, Any]], *, limit: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Carry out a plan in two processes."""
        path = self.directory / "plan.json"
        path.write_text(json.dumps(plan))
        return torchrun(DRIVER, path, limit=limit)

    def run(self, output: str, name: str) -> Path:
        """The one run of that name."""
        (path,) = (self.directory / output).glob(f"*-{name}")
        return path


def texts(directory: Path) -> dict[str, Any]:
    return {
        "model": str(directory / "model"), "data": [str(directory / "texts.jsonl")],
        "evaluation_data": [str(directory / "texts.jsonl")], "steps": 20, "context_length": 24,
        "batch_tokens": 24 * 5, "micro_batch_tokens": 48,
    }  # fmt: skip


def demonstrations(directory: Path) -> dict[str, Any]:
    return {
        "model": str(directory / "model"), "data": [str(directory / "demonstrations.jsonl")],
        "evaluation_data": [str(directory / "demonstrations.jsonl")], "epochs": 4, "batch_size": 4,
        "pretraining_data": [str(directory / "texts.jsonl")], "micro_batch_tokens": 60,
    }  # fmt: skip


def comparisons(directory: Path) -> dict[str, Any]:
    return {
        "model": str(directory / "model"), "data": [str(directory / "comparisons.jsonl")],
        "evaluation_data": [str(directory / "comparisons.jsonl")], "epochs": 4, "batch_size": 4,
        "micro_batch_tokens": 40, "activation_checkpointing": True, "normalise": "demonstrations",
        "normalise_data": [str(directory / "demonstrations.jsonl")],
    }  # fmt: skip


def prompts(directory: Path) -> dict[str, Any]:
    return {
        "model": str(directory / "model"), "preference_model": str(directory / "preference-model"),
        "data": [str(directory / "prompts.jsonl")], "total_episodes": 20 * 10, "batch_episodes": 10,
        "minibatch_episodes": 5, "max_response_tokens": 8, "micro_batch_tokens": 60,
        "value_learning_rate": 1e-4, "optimizer": {"learning_rate": 1e-4, "warmup_steps": 0},
        "pretraining_data": [str(directory / "texts.jsonl")], "pretraining_row_tokens": 16,
        "pretraining_rows_per_episode": 1, "evaluation_data": [str(directory / "prompts.jsonl")],
        "evaluation_text": [str(directory / "texts.jsonl")], "evaluation_every": 10,
    }  # fmt: skip


def lessons(directory: Path) -> dict[str, Any]:
    return {
        "model": str(directory / "attentive"), "context": str(directory / "context.txt"),
        "data": [str(directory / "lines.jsonl")], "tokens": 10_000, "classes": 10, "epochs": 4,
        "batch_size": 4, "evaluation_data": [str(directory / "lines.jsonl")],
        "micro_batch_tokens": 40, "optimizer": {"learning_rate": 1e-3},
    }  # fmt: skip


SETTINGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "pretrain": texts, "distill": lessons, "sft": demonstrations, "preference": comparisons,
    "ppo": prompts,
}  # fmt: skip


def measuring(directory: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Stage, name and settings of runs that train nothing."""
    model, scalar = str(directory / "model"), str(directory / "preference-model")
    prompts, brief = [str(directory / "prompts.jsonl")], {"max_response_tokens": 8}
    policies = {"plain": {"model": model}, "best": {"model": model, "best_of": 3}}
    texts, pairs = [str(directory / "texts.jsonl")], [str(directory / "comparisons.jsonl")]
    return [
        ("sample", "sampled", {
            "model": model, "data": prompts, "responses_per_prompt": 3, "sampling": brief,
        }),
        ("evaluate", "accuracy", {"model": scalar, "data": pairs}),
        ("evaluate", "loss", {"model": model, "data": texts}),
        ("compare", "compared", {
            "policies": policies, "baseline": "plain", "data": prompts, "judge": "playground",
            "preference_model": scalar, "text": texts, "sampling": brief,
        }),
        ("playground", "written", {}),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, language_model: Path) -> World:
    directory = tmp_path_factory.mktemp("parallel")
    (directory / "model").symlink_to(language_model)
    scalar = new_scalar_model(load_language_model(language_model), seed=2)
    save_model(directory / "preference-model", scalar, load_tokenizer(language_model))
    attentive = load_language_model(language_model)
    for parameter in attentive.parameters():
        # Fresh weights are so small that no context makes a difference.
        parameter.data.mul_(8.0 if parameter.ndim == 2 else 1.0)
    save_model(directory / "attentive", attentive, load_tokenizer(language_model))
    rows = {
        "texts": [{"text": f"{text} So it was. {text}"} for _, text in SAID],
        "lines": [{"text": text} for _, text in SAID],
        "demonstrations": [
            {"prompt": f"Where did the {animal} sit?", "completion": text} for animal, text in SAID
        ],
        "prompts": [{"prompt": f"Where is the {animal}?"} for animal, _ in SAID[::2]],
        "comparisons": [
            {"prompt": f"Where is the {animal}?", "chosen": text, "rejected": text[::-3]}
            for animal, text in SAID
        ],
    }
    for name, lines in rows.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (directory / "context.txt").write_text("It was a windy day, and the owl was windy too.\n")
    specification = importlib.util.spec_from_file_location("parallel_driver", DRIVER)
    assert specification is not None
    assert specification.loader is not None
    driver = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(driver)
    return World(directory=directory, driver=driver)


@pytest.fixture(scope="module")
def runs(world: World) -> World:
    """Everything alone and together; each stage interrupted after step 12 and continued the other
    way. One test uses it, because workers of pytest-xdist would each make it."""
    stages = list(SETTINGS)
    world.alone([world.plan(stage, stage, "alone") for stage in stages] + world.measures("alone"))
    world.alone([world.plan(stage, f"{stage}-1-2", "mixed", stop_at=12) for stage in stages])
    done = world.together(
        [world.plan(stage, stage, "together") for stage in stages]
        + world.measures("together")
        + [world.plan(stage, f"{stage}-1-2", "mixed") for stage in stages]
        + [world.plan(stage, f"{stage}-2-1", "mixed", stop_at=12) for stage in stages]
    )
    assert done.returncode == 0, done.stderr
    for stage in stages:
        sharded = world.run("mixed", f"{stage}-2-1") / "checkpoints" / "step-000010"
        assert len(list((sharded / "shards").glob("*.distcp"))) == 2
        assert not list(sharded.glob("*.safetensors"))
    world.alone([world.plan(stage, f"{stage}-2-1", "mixed") for stage in stages])
    return world


def test_two_processes_do_what_one_does(runs: World) -> None:
    for stage in SETTINGS:
        one, two = runs.run("alone", stage), runs.run("together", stage)
        assert_same_training(one, two)
        assert_learnt(two, "pretraining_loss" if stage == "ppo" else "loss")
        assert_same_model(one / "model", two / "model")
        # From one process to two, and from two to one.
        for order in ("1-2", "2-1"):
            assert_same_training(one, runs.run("mixed", f"{stage}-{order}"))
    for _, name, _ in measuring(runs.directory):
        assert_same_measures(runs.run("alone", name), runs.run("together", name))


def assert_same_training(one: Path, other: Path) -> None:
    """The same metrics at the same 20 steps, and the same results, up to 1e-5."""
    expected, found = read_metrics(one / "metrics.jsonl"), read_metrics(other / "metrics.jsonl")
    assert max(record["step"] for record in expected) == 20
    for left, right in itertools.zip_longest(expected, found):
        assert right == pytest.approx(left, rel=1e-5, abs=1e-5), other
    results = [json.loads((run / "results.json").read_text()) for run in (one, other)]
    signs = [len(values.pop("warnings", [])) for values in results]
    assert signs[0] == signs[1], other
    assert results[0].keys() == results[1].keys(), other
    # Ratios of small differences, which magnify rounding; what they are made of is compared.
    for name in ("reward_curve", "gap", "gap_closed", "gap_closed_interval"):
        for values in results:
            values.pop(name, None)
    assert_close(results[0], results[1], other)


def assert_close(one: Any, other: Any, where: Path) -> None:
    """Equal up to 1e-5, however deep the numbers lie."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name, value in one.items():
            assert_close(value, other[name], where)
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for left, right in zip(one, other, strict=True):
            assert_close(left, right, where)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-5, abs=1e-5), where
    else:
        assert one == other, where


def assert_learnt(run: Path, name: str) -> None:
    records = read_metrics(run / "metrics.jsonl")
    losses = [record[name] for record in records if name in record]
    assert losses[-1] < losses[0] - 0.01, run
    assert Manifest.read(run).status == "complete"
    assert not list(run.glob("checkpoints/.*"))


def assert_same_model(one: Path, other: Path) -> None:
    """Both are plain Hugging Face directories with nearly the same weights."""
    files = [sorted(path.name for path in model.iterdir()) for model in (one, other)]
    assert files[0] == files[1]
    assert_alike(*(json.loads((model / "config.json").read_text()) for model in (one, other)))
    weights = [load_file(model / "model.safetensors") for model in (one, other)]
    assert set(weights[0]) == set(weights[1])
    for name, tensor in weights[0].items():
        # Adam divides by √v, which magnifies rounding where gradients are tiny.
        assert torch.allclose(tensor, weights[1][name], atol=2e-3), (other, name)


def assert_same_measures(one: Path, other: Path) -> None:
    """The same results up to rounding, and the same texts."""
    assert_alike(*(json.loads((run / "results.json").read_text()) for run in (one, other)))
    written = sorted(path.name for path in (one / "data").glob("*.jsonl"))
    assert written == sorted(path.name for path in (other / "data").glob("*.jsonl"))
    for name in set(written) - {"samples.jsonl"}:  # which holds scores, equal to rounding only
        assert (one / "data" / name).read_bytes() == (other / "data" / name).read_bytes()


def assert_alike(one: Any, other: Any) -> None:
    """Equal up to rounding, however deep the numbers lie; paths of runs aside."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            if name != "path":
                assert_alike(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_alike(left, right)
    elif isinstance(one, float):
        assert other == pytest.approx(one, rel=1e-5, abs=1e-5)
    else:
        assert one == other


def test_adapters_in_two_processes(world: World) -> None:
    """LoRA: stages cut off after step 12 and continued from one process to two, and the reverse."""

    def plan(stage: str, order: str, output: str, **more: Any) -> dict[str, Any]:
        made = world.plan(stage, f"{stage}-{order}", output, **more)
        given = {"lora": {"rank": 4, "alpha": 4}, "micro_batch_tokens": 120}
        return made | {"settings": made["settings"] | given}

    stages = ("preference", "ppo")
    world.alone([plan(stage, "lora", "alone") for stage in stages])
    world.alone([plan(stage, "lora-1-2", "mixed", stop_at=12) for stage in stages])
    done = world.together(
        [plan(stage, "lora-1-2", "mixed") for stage in stages]
        + [plan(stage, "lora-2-1", "mixed", stop_at=12) for stage in stages]
    )
    assert done.returncode == 0, done.stderr
    for stage in stages:
        sharded = world.run("mixed", f"{stage}-lora-2-1") / "checkpoints" / "step-000010"
        assert len(list((sharded / "shards").glob("*.distcp"))) == 2
        # Adapters and their head are all that there is of the weights.
        whole = load_file(world.run("alone", f"{stage}-lora") / "adapter/adapter_model.safetensors")
        assert read_shards(sharded / "shards", lambda name: None).keys() == whole.keys()
    assert not has_adapter(load_language_model(sharded))
    world.alone([plan(stage, "lora-2-1", "mixed") for stage in stages])
    for stage in stages:
        one = world.run("alone", f"{stage}-lora")
        for order in ("lora-1-2", "lora-2-1"):
            other = world.run("mixed", f"{stage}-{order}")
            assert_same_training(one, other)
            assert_same_model(one / "model", other / "model")
            assert_same_adapter(one / "adapter", other / "adapter")


def test_a_shared_critics_adapter_goes_from_one_process_to_two(world: World) -> None:
    def plan(name: str, output: str, **more: Any) -> dict[str, Any]:
        made = world.plan("ppo", name, output, **more)
        given = {"lora": {"rank": 4, "alpha": 4}, "critic": "shared", "micro_batch_tokens": 120}
        kept = {k: v for k, v in made["settings"].items() if k != "value_learning_rate"}
        return made | {"settings": kept | given}

    world.alone([plan("shared", "alone"), plan("shared-1-2", "mixed", stop_at=12)])
    done = world.together([plan("shared-1-2", "mixed")])
    assert done.returncode == 0, done.stderr
    one, other = world.run("alone", "shared"), world.run("mixed", "shared-1-2")
    assert_same_training(one, other)
    assert_same_adapter(one / "adapter", other / "adapter")


def assert_same_adapter(one: Path, other: Path) -> None:
    assert (one / "adapter_config.json").read_bytes() == (
        other / "adapter_config.json"
    ).read_bytes()
    weights = [load_file(path / "adapter_model.safetensors") for path in (one, other)]
    assert set(weights[0]) == set(weights[1])
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=2e-3), (other, name)


LEAVING = """
import atexit, pathlib, sys

def list_threads():
    tasks = pathlib.Path("/proc/self/task").glob("*/comm")
    names = [task.read_text().strip() for task in tasks]
    pathlib.Path(sys.argv[1], str(number)).write_text("\\n".join(names))

atexit.register(list_threads)  # what is registered first comes last
from hark.models import processes
processes.join("cpu")
number = processes.rank()
processes.gather(number)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lists threads as Linux does")
def test_no_thread_of_a_group_is_left_when_python_ends(tmp_path: Path) -> None:
    """One that still holds a message can abort a process whose work is done."""
    script, left = tmp_path / "leaving.py", tmp_path / "left"
    script.write_text(LEAVING)
    left.mkdir()
    done = torchrun(script, left)
    assert done.returncode == 0, done.stderr
    for name in ("0", "1"):
        assert "gloo" not in (left / name).read_text()


def test_a_killed_process_ends_the_others_and_the_command_continues(world: World) -> None:
    plan, undisturbed = (world.plan("sft", "sft", output) for output in ("killed", "undisturbed"))
    began = time.monotonic()
    done = world.together([plan | {"die_at": 12}])
    assert done.returncode != 0
    assert "give the same command again to continue from the last checkpoint" in done.stderr
    killed = world.run("killed", "sft")
    assert max(record["step"] for record in read_metrics(killed / "metrics.jsonl")) == 12
    # All but a second of it is starting Python; one who waited would do so for half an hour.
    assert time.monotonic() - began < 90

    assert world.together([plan, undisturbed]).returncode == 0
    assert world.run("killed", "sft") == killed
    for file in ("metrics.jsonl", "model/model.safetensors"):
        expected = world.run("undisturbed", "sft") / file
        assert (killed / file).read_bytes() == expected.read_bytes()
