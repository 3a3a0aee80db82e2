from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.errors import RunError
from hark.models.language_model import load_language_model
from hark.models.logprobs import token_losses
from hark.models.packing import CPU_PASS_TOKENS, GPU_PASS_TOKENS
from hark.models.tokenizer import load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training.optimizer import OptimizerSettings
from hark.training.trainer import (
    LossReport,
    MicroBatch,
    Task,
    TrainingSettings,
    WeightedSum,
    examples_of_step,
    fit,
    seed_of,
    steps_per_epoch,
)

StartRun = Callable[..., Run]

WHOLE = [[list(range(5, 13)), list(range(20, 28))], [list(range(40, 48)), list(range(9, 17))]]
"""The rows of two steps, two rows of 8 tokens each."""


def make_task(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, split: bool, **changes: Any
) -> Task[Tensor]:
    def batch(step: int) -> list[MicroBatch[Tensor]]:
        rows = WHOLE[step % 2]
        groups = [[row] for row in rows] if split else [rows]
        return [
            MicroBatch(batch=torch.tensor(g), weight=7.0 * len(g), sequences=((1, (7,)),) * len(g))
            for g in groups
        ]

    def loss(rows: Tensor) -> LossReport:
        losses = token_losses(model, rows)
        first = losses[:, 0].detach()
        return LossReport(loss=losses.sum(), sums={"first": WeightedSum(first.sum(), len(first))})

    task = Task(
        model=model, tokenizer=tokenizer, steps=4, batch=batch, loss=loss,
        useful_flops=lambda sequence: 1000 * sum(sequence[1]),
        optimizer=OptimizerSettings(learning_rate=1e-2, schedule="constant"),
    )  # fmt: skip
    return dataclasses.replace(task, **changes)


@pytest.fixture
def loaded(language_model: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_language_model(language_model), load_tokenizer(language_model)


def test_each_epoch_visits_every_example_once_in_even_batches() -> None:
    def epoch(number: int, seed: int = 0) -> list[list[int]]:
        return [
            examples_of_step(number * 3 + step, count=10, batch_size=4, seed=seed)
            for step in range(3)
        ]

    assert steps_per_epoch(10, 4) == 3
    assert [len(batch) for batch in epoch(0)] == [4, 3, 3]
    for number in (0, 1):
        assert sorted(itertools.chain(*epoch(number))) == list(range(10))
    assert epoch(0) != epoch(1)
    assert epoch(0) != epoch(0, seed=1)


def test_fewer_examples_than_a_batch_make_one_step() -> None:
    assert steps_per_epoch(3, 64) == 1
    assert sorted(examples_of_step(5, count=3, batch_size=64, seed=0)) == [0, 1, 2]


def test_seeds_differ_by_every_part() -> None:
    assert len({seed_of(0, 1), seed_of(1, 0), seed_of(0, 0), seed_of(1, 1)}) == 4
    assert seed_of(3, 4) == seed_of(3, 4)


def test_accumulation_equals_one_large_batch(language_model: Path, start_run: StartRun) -> None:
    logged, weights = [], []
    for name, split in (("whole", False), ("split", True)):
        model, tokenizer = load_language_model(language_model), load_tokenizer(language_model)
        settings = TrainingSettings(name=name)
        with start_run("fit", settings) as run:
            state = fit(run, make_task(model, tokenizer, split=split), settings)
        assert state.tokens == 4 * 16
        logged.append(read_metrics(run.path / "metrics.jsonl"))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    for whole, split_up in zip(*logged, strict=True):
        assert whole == pytest.approx(split_up, rel=1e-4)
    # Adam divides by √v, which magnifies rounding where gradients are tiny.
    assert (weights[0] - weights[1]).abs().mean() < 1e-5
    assert logged[0][-1]["loss"] < logged[0][0]["loss"] - 0.5


def test_metrics_are_means_over_their_own_weights(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], start_run: StartRun
) -> None:
    model, tokenizer = loaded
    with torch.no_grad():
        losses = token_losses(model, torch.tensor(WHOLE[0]))
    settings = TrainingSettings()
    with start_run("fit", settings) as run:
        fit(run, make_task(model, tokenizer, split=True, steps=1), settings)
    record = read_metrics(run.path / "metrics.jsonl")[0]
    assert record["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    assert record["first"] == pytest.approx(float(losses[:, 0].mean()), rel=1e-5)
    assert set(record) == {"step", "loss", "first", "learning_rate", "gradient_norm", "tokens"}
    timing = read_metrics(run.path / "timing.jsonl")[0]
    assert timing["tokens_per_second"] > 0
    assert {"data_seconds", "forward_backward_seconds", "update_seconds"} <= set(timing)


@pytest.mark.parametrize("dropped_after", [1, 3])
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    language_model: Path, start_run: StartRun, dropped_after: int
) -> None:
    from hark.models.checkpoint import save_model

    def run_once(name: str, stop_at: int | None) -> Path:
        settings = TrainingSettings(name=name, checkpoint_every=2)
        with start_run("fit", settings) as run:
            source = run.latest_checkpoint() or language_model
            model, tokenizer = load_language_model(source), load_tokenizer(language_model)
            task = make_task(model, tokenizer, split=False, steps=6)

            def batch(step: int) -> list[MicroBatch[Tensor]]:
                if step == stop_at:
                    raise ConnectionError("power cut")
                return list(task.batch(step))

            def evaluate() -> dict[str, float]:
                return {
                    "evaluation_loss": float(token_losses(model, torch.tensor(WHOLE[0])).mean())
                }

            task = dataclasses.replace(task, evaluate=evaluate, evaluation_every=3)
            fit(run, dataclasses.replace(task, batch=batch), settings)
            save_model(run.model_path, model, tokenizer)
            run.finish({})
        return run.path

    undisturbed = run_once("undisturbed", None)
    with pytest.raises(ConnectionError):
        run_once("disturbed", dropped_after + 1)
    disturbed = run_once("disturbed", None)
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (undisturbed / file).read_bytes() == (disturbed / file).read_bytes()
    steps = [record["step"] for record in read_metrics(disturbed / "metrics.jsonl")]
    assert steps == [0, 1, 2, 3, 3, 4, 5, 6, 6]


def test_old_checkpoints_go(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], start_run: StartRun
) -> None:
    settings = TrainingSettings(checkpoint_every=1, keep_checkpoints=2)
    with start_run("fit", settings) as run:
        fit(run, make_task(*loaded, split=False), settings)
        assert [path.name for path in run.checkpoints()] == ["step-000003", "step-000004"]


def test_the_best_evaluation_becomes_the_model(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], start_run: StartRun
) -> None:
    model, tokenizer = loaded
    values = iter([9.0, 1.0, 3.0, 2.0, 3.0])
    seen: list[Tensor] = []

    def evaluate() -> dict[str, float]:
        seen.append(next(model.parameters()).detach().clone())
        return {"quality": next(values)}

    task = make_task(
        model, tokenizer, split=False, evaluate=evaluate, evaluation_every=1,
        quality=lambda measured: measured["quality"],
    )  # fmt: skip
    settings = TrainingSettings()
    with start_run("fit", settings) as run:
        state = fit(run, task, settings)
        chosen = next(load_language_model(run.model_path).parameters())
    # The untrained model's 9 does not count, and the first of two equal ones stays.
    assert (state.chosen_step, state.chosen_evaluation) == (2, {"quality": 3.0})
    assert torch.equal(chosen, seen[2])
    assert state.metrics_at_end()["quality"] == 3.0


def test_a_loss_that_is_not_finite_stops_with_its_step(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], start_run: StartRun
) -> None:
    model, tokenizer = loaded
    calls = iter([1.0, math.nan])

    def loss(rows: Tensor) -> LossReport:
        return LossReport(loss=token_losses(model, rows).sum() * next(calls))

    settings = TrainingSettings()
    with (
        start_run("fit", settings) as run,
        pytest.raises(RunError, match=r"loss is nan at step 2 of 4.*learning_rate \(0.01\)"),
    ):
        fit(run, make_task(model, tokenizer, split=False, loss=loss), settings)


def test_a_gradient_that_is_not_finite_stops_too(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], start_run: StartRun
) -> None:
    model, tokenizer = loaded

    def loss(rows: Tensor) -> LossReport:
        total = token_losses(model, rows).sum()
        # √0 has an infinite slope, |0| none, and 0·∞ is not a number.
        return LossReport(loss=total + torch.sqrt((total - total.detach()).abs()))

    settings = TrainingSettings()
    with start_run("fit", settings) as run, pytest.raises(RunError, match="gradient norm is nan"):
        fit(run, make_task(model, tokenizer, split=False, loss=loss), settings)


def test_bfloat16_keeps_float32_weights(
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase], start_run: StartRun
) -> None:
    model, tokenizer = loaded
    dtypes = []
    handle = model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda module, inputs, output: dtypes.append(output.dtype)
    )
    settings = TrainingSettings(dtype="bfloat16")
    with start_run("fit", settings) as run:
        fit(run, make_task(model, tokenizer, split=False), settings)
    handle.remove()
    assert set(dtypes) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    losses = [record["loss"] for record in read_metrics(run.path / "metrics.jsonl")]
    assert losses[-1] < losses[0]


def test_a_pass_is_as_large_as_its_setting_or_else_what_suits_the_device() -> None:
    assert TrainingSettings().pass_tokens("cpu") == CPU_PASS_TOKENS
    assert TrainingSettings().pass_tokens("cuda") == GPU_PASS_TOKENS
    assert TrainingSettings(micro_batch_tokens=7).pass_tokens("cpu") == 7
