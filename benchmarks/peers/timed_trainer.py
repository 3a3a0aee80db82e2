"""A Hugging Face trainer whose steps are timed and whose losses are kept; for TRL's environments.

Timed is from the beginning of training, models and optimizer being made, to the end of the last
step: fetching the data, forward and backward passes, the update and TRL's own logging in between.
"""

import time
from typing import Any

import torch
from transformers import TrainerCallback

COMMON = {
    "use_cpu": True,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.0,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
}
"""Arguments that all of TRL's trainers share; hark is told the same."""


class Clock(TrainerCallback):
    """When training began and its newest step ended."""

    began = ended = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def keep_losses(trainer: Any) -> list[list[float]]:
    """Have a trainer keep the loss of every pass, unrounded; one list for each step."""
    kept: list[list[float]] = []
    train_pass = trainer.training_step
    per_step = trainer.args.gradient_accumulation_steps

    def training_step(*arguments: Any, **named: Any) -> torch.Tensor:
        loss = train_pass(*arguments, **named)
        if not kept or len(kept[-1]) == per_step:
            kept.append([])
        kept[-1].append(float(loss))
        return loss

    trainer.training_step = training_step
    return kept
