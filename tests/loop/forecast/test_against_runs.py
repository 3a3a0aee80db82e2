"""Forecast step times beside the timing of real runs on this machine, within a quarter.

Rates come from one set of small shapes, the runs have another. Everything is timed in seconds of
this process on one thread, so that other programs do not enter; what is left of them (shared
caches, memory bandwidth, clock rates) is met by measuring again, rates and runs in turn, until the
medians of what was found hold.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hark.loop.forecast.calibration import Point, calibrate
from hark.loop.forecast.hardware import Basis, Device
from hark.loop.forecast.lengths import Said
from hark.loop.forecast.prediction import Forecast, Question, forecast
from hark.loop.plan import Plan, Request, plan_recipe
from hark.loop.recipe import load_recipe
from hark.loop.stages import run_stage
from hark.models.checkpoint import save_model
from hark.models.language_model import Architecture, new_language_model
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import padding_id, train_tokenizer
from hark.runs.metrics import read_metrics

TRIES = 9
"""Most rounds of measuring rates and runs; one takes three seconds of a quiet machine."""
TOLERANCE = 0.25
VOCABULARY = 700
DRAWN = 24

TRAINED = {
    "sft": ("forward_backward", "update"),
    "preference": ("forward_backward", "update"),
    "ppo": ("score", "reference", "value", "update"),
}
"""The phases whose sum is promised, by stage. Generation is not: see `LOOSER`."""
LOOSER = 0.5
"""For generation, whose steps do much that is neither of a layer nor of a byte."""


def sized(width: int, layers: int, mlp_width: int) -> Architecture:
    return Architecture(
        width=width, layers=layers, heads=width // 32, mlp_width=mlp_width,
        named_vocabulary=VOCABULARY,
    )  # fmt: skip


POINTS = (
    Point(size=sized(64, 2, 192), prompts=12, prompt_tokens=24, response_tokens=32),
    Point(
        size=sized(64, 4, 192), prompts=16, prompt_tokens=30, response_tokens=40, pass_tokens=256
    ),
    Point(size=sized(128, 2, 384), prompts=16, prompt_tokens=60, response_tokens=40),
    Point(size=sized(192, 3, 512), prompts=8, prompt_tokens=30, response_tokens=60),
)  # fmt: skip
SIZE = sized(160, 3, 448)
"""Of the models that are run: none of those that are measured."""


@pytest.fixture(autouse=True)
def own_seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Time in seconds of this process, on one thread."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # Or it would go through all that earlier tests left, in the middle of a step.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


def text(draw: random.Random, low: int, high: int) -> str:
    """So many letters, which are as many tokens."""
    return "".join(draw.choice("bcdfgh") for _ in range(draw.randint(low, high)))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A recipe of three stages on models and data that lie on the disk."""
    tokenizer = train_tokenizer(["a"], vocabulary_size=258)
    model = new_language_model(
        SIZE, vocabulary_size=VOCABULARY, context_length=256, seed=1,
        pad_token_id=padding_id(tokenizer), eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    save_model(tmp_path / "policy", model, tokenizer)
    save_model(tmp_path / "judge", new_scalar_model(model, seed=2), tokenizer)
    draw = random.Random(0)
    rows: dict[str, list[dict[str, Any]]] = {"demonstrations": [], "pairs": [], "prompts": []}
    for _ in range(40):
        ask, good, bad = text(draw, 10, 50), text(draw, 20, 70), text(draw, 20, 70)
        rows["demonstrations"].append({"prompt": ask, "completion": good})
        rows["pairs"].append({"prompt": ask, "chosen": good, "rejected": bad})
        rows["prompts"].append({"prompt": ask})
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    shared = {"model": str(tmp_path / "policy"), "output": str(tmp_path / "runs"), "device": "cpu"}
    stages = {
        "sft": {
            **shared, "stage": "sft", "data": str(tmp_path / "demonstrations.jsonl"),
            "epochs": 1, "batch_size": 8,
        },
        "preference": {
            **shared, "stage": "preference", "data": str(tmp_path / "pairs.jsonl"),
            "batch_size": 8, "micro_batch_tokens": 600,
        },
        "ppo": {
            **shared, "stage": "ppo", "data": str(tmp_path / "prompts.jsonl"),
            "preference_model": [str(tmp_path / "judge")], "max_response_tokens": DRAWN,
            "min_response_tokens": DRAWN, "total_episodes": 64, "batch_episodes": 16,
            "minibatch_episodes": 8, "incomplete_responses": "keep",
        },
    }  # fmt: skip
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "measured", "stages": stages}))
    return plan_recipe(load_recipe(str(recipe)), Request())


def question(device: Device) -> Question:
    said = Said(response_tokens={"ppo": DRAWN}, prompt_tokens={}, examples={})
    return Question(device=device, devices=1, price_per_hour=0.0, said=said)


def run_medians(plan: Plan, seed: int) -> dict[str, dict[str, float]]:
    """Run every stage; the median seconds of each phase, the first step left out."""
    found = {}
    for stage in plan.stages:
        settings = stage.settings.model_copy(update={"seed": seed})
        outcome = run_stage(stage.kind, settings, command=["test"])
        steps = read_metrics(outcome.run_path / "timing.jsonl")[1:]
        assert len(steps) >= 3
        found[stage.name] = {
            name.removesuffix("_seconds"): statistics.median(step[name] for step in steps)
            for name in steps[0]
            if name.endswith("_seconds")
        }
    return found


def ratios(found: Forecast, measured: dict[str, dict[str, float]]) -> dict[str, float]:
    """Forecast over measured seconds of the phases that are promised, and of PPO's generation."""
    expected = {
        stage.name: {phase.name: phase.seconds.value for phase in stage.phases}
        for stage in found.stages
    }
    training = {
        name: sum(expected[name][phase] for phase in phases)
        / sum(measured[name][phase] for phase in phases)
        for name, phases in TRAINED.items()
    }
    return training | {"generate": expected["ppo"]["generate"] / measured["ppo"]["generate"]}


def test_step_times_are_within_a_quarter_of_real_runs(plan: Plan) -> None:
    seen: list[dict[str, float]] = []
    disturbed = []
    for attempt in range(TRIES):
        device = calibrate(points=POINTS, clock=time.process_time)
        measured = run_medians(plan, seed=attempt)
        found = forecast(plan, question(device))
        if {phase.seconds.basis for phase in found.stages[0].phases} != {Basis.CALIBRATED}:
            # The rates say of themselves that they were disturbed while they were measured.
            disturbed.append(device.rates.fit_error)
            continue
        seen.append(ratios(found, measured))
        if len(seen) % 2 == 0:
            continue  # whose median would be a mean, of which two errors may make a right one
        medians = {name: statistics.median(each[name] for each in seen) for name in seen[0]}
        drawn = medians.pop("generate")
        fits = all(abs(ratio - 1) <= TOLERANCE for ratio in medians.values())
        if fits and abs(drawn - 1) <= LOOSER:
            return
    pytest.fail(f"forecast over measured seconds: {seen}; errors of disturbed rates: {disturbed}")
