"""The stages that train, on the GPU as on the CPU; and the fused optimizer as the plain one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hark.loop.stages import STAGES, run_stage
from hark.models.checkpoint import optimizer_tensors, restore_optimizer, save_model
from hark.models.language_model import Architecture, new_language_model
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import padding_id, train_tokenizer
from hark.runs.metrics import read_metrics
from hark.training.optimizer import OptimizerSettings, build_optimizer

SMALL = Architecture(width=64, layers=2, heads=2, mlp_width=96, named_vocabulary=300)
ANIMALS, PLACES = ("cat", "dog", "hen", "fox", "owl"), ("mat", "hill", "wall", "roof")
SAID = [(animal, f"The {animal} sat on the {place}.") for animal in ANIMALS for place in PLACES]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model/`, `preference-model/` and data of every kind."""
    directory = tmp_path_factory.mktemp("gpu")
    tokenizer = train_tokenizer([text for _, text in SAID], vocabulary_size=300)
    model = new_language_model(
        SMALL, vocabulary_size=len(tokenizer), context_length=64, seed=1,
        pad_token_id=padding_id(tokenizer), eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    save_model(directory / "model", model, tokenizer)
    save_model(directory / "preference-model", new_scalar_model(model, seed=2), tokenizer)
    rows: dict[str, list[dict[str, str]]] = {
        "texts": [{"text": f"{text} So it was. {text}"} for _, text in SAID],
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
    return directory


def settings_of(stage: str, files: Path) -> dict[str, Any]:
    """Five steps of a stage, or two of PPO."""
    data = {"pretrain": "texts", "preference": "comparisons", "ppo": "prompts"}
    shared = {
        "model": str(files / "model"), "micro_batch_tokens": 200,
        "data": [str(files / f"{data.get(stage, 'demonstrations')}.jsonl")],
        "optimizer": {"learning_rate": 1e-3, "schedule": "constant"},
    }  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        "pretrain": {"steps": 5, "context_length": 24, "batch_tokens": 120},
        "sft": {"epochs": 1, "batch_size": 4},
        "preference": {"epochs": 1, "batch_size": 4},
        "ppo": {
            "preference_model": str(files / "preference-model"), "total_episodes": 20,
            "batch_episodes": 10, "minibatch_episodes": 5, "max_response_tokens": 8,
            "value_learning_rate": 1e-4,
            "optimizer": {"learning_rate": 1e-4, "warmup_steps": 0},
        },
    }  # fmt: skip
    return shared | own[stage]


def metrics_of(stage: str, files: Path, output: Path, **given: Any) -> list[dict[str, Any]]:
    settings = STAGES[stage].settings.parse(
        settings_of(stage, files) | {"output": str(output)} | given
    )
    run = run_stage(stage, settings, command=["test"]).run_path
    return read_metrics(run / "metrics.jsonl")


@pytest.mark.parametrize("stage", ["pretrain", "sft", "preference", "ppo"])
def test_a_gpu_trains_as_the_cpu_does(
    stage: str, device: torch.device, files: Path, tmp_path: Path
) -> None:
    expected = metrics_of(stage, files, tmp_path / "cpu", device="cpu")
    found = metrics_of(stage, files, tmp_path / "gpu", device=str(device))
    assert len(found) == len(expected) >= 2
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("stage", ["sft", "preference"])
def test_bfloat16_is_near(stage: str, device: torch.device, files: Path, tmp_path: Path) -> None:
    expected = metrics_of(stage, files, tmp_path / "exact", device=str(device))
    found = metrics_of(stage, files, tmp_path / "near", device=str(device), dtype="bfloat16")
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in (found, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02, abs=0.02)


def test_what_is_drawn_in_bfloat16_is_what_is_trained(
    device: torch.device, files: Path, tmp_path: Path
) -> None:
    # Decoding and the packed pass are two computations of the same log-probabilities.
    rows = metrics_of("ppo", files, tmp_path, device=str(device), dtype="bfloat16")
    errors = [row["first_ratio_error"] for row in rows if "first_ratio_error" in row]
    assert len(errors) == 2
    assert max(errors) < 0.05


def updates(
    device: torch.device, count: int, *, change: Callable[[torch.optim.Optimizer], None]
) -> list[torch.Tensor]:
    """Parameters after `count` updates from gradients of a fixed seed."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(*shape).to(device)) for shape in ((64, 48), (48,))]
    optimizer = build_optimizer(parameters, OptimizerSettings(weight_decay=0.1))
    for step in range(count):
        if step == 3:
            change(optimizer)
        for parameter in parameters:
            parameter.grad = torch.randn(*parameter.shape).to(device)
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def test_the_fused_update_is_the_plain_one(device: torch.device) -> None:
    def unfuse(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = False, False
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                state["step"] = state["step"].cpu()

    fused = updates(device, 8, change=lambda optimizer: None)
    plain = updates(device, 8, change=unfuse)
    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)


def test_the_fused_update_goes_on_bit_for_bit(device: torch.device) -> None:
    def write_and_read(optimizer: torch.optim.Optimizer) -> None:
        tensors = {name: one.cpu().clone() for name, one in optimizer_tensors(optimizer).items()}
        optimizer.state.clear()
        restore_optimizer(optimizer, tensors)

    assert build_optimizer(
        [nn.Parameter(torch.ones(2, 2, device=device))], OptimizerSettings()
    ).defaults["fused"]
    left_alone = updates(device, 8, change=lambda optimizer: None)
    resumed = updates(device, 8, change=write_and_read)
    assert all(map(torch.equal, resumed, left_alone))


def test_float32_products_are_float32(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    left, right = (torch.randn(256, 256, dtype=torch.float64) for _ in range(2))
    product = left.float().to(device) @ right.float().to(device)
    exact = left.float().double() @ right.float().double()
    error = float((product.double().cpu() - exact).abs().max())
    # TensorFloat32 would be off by 1e-2.
    assert error < 2e-4
