"""hark's own training loop, run for a few steps of given batches and timed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.peers.serving import Answer
from hark.models import flops
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training.trainer import LossReport, MicroBatch, Task, TrainingSettings, fit

OPTIMIZER = {"schedule": "constant", "warmup_steps": 0, "beta2": 0.95, "weight_decay": 0.0}
"""As `peers/timed_trainer.py` tells TRL."""


def timed_fit(
    settings: TrainingSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    stage: str,
    steps: int,
    batch: Callable[[int], Sequence[MicroBatch[Any]]],
    loss: Callable[[Any], LossReport],
    useful_flops: Callable[[flops.Shape, flops.Sequence], int],
) -> Answer:
    """Seconds from the first step's data to the last step's end, and the loss of each step.

    A run directory is written as always, metrics and all.
    """
    began = 0.0

    def timed_batch(step: int) -> Sequence[MicroBatch[Any]]:
        nonlocal began
        if step == 0:
            began = time.perf_counter()
        return batch(step)

    task = Task(
        model=model, tokenizer=tokenizer, optimizer=settings.optimizer,  # type: ignore[attr-defined]
        steps=steps, batch=timed_batch, loss=loss,
        useful_flops=functools.partial(useful_flops, flops.Shape.of(model)),
    )  # fmt: skip
    with Run.start(stage=stage, settings=settings, command=["benchmarks"]) as run:
        fit(run, task, settings)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        run.finish({})
    losses = [record["loss"] for record in read_metrics(run.path / "metrics.jsonl")]
    return {"seconds": seconds, "losses": losses}


def stage_settings(settings: dict[str, Any], dtype: str) -> dict[str, Any]:
    """What every training stage is told."""
    return {
        "model": settings["model"],
        "data": [],
        "output": str(Path(settings["work"]) / "hark"),
        "dtype": dtype,
        "device": settings.get("device", "cpu"),
        "seed": settings["seed"],
        "optimizer": OPTIMIZER | {"learning_rate": settings["learning_rate"]},
    }
