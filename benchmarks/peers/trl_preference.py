"""TRL's `RewardTrainer` on tokenized pairs; runs in TRL's own environment."""

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from timed_trainer import COMMON, Clock, keep_losses
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from serving import Answer, serve


def prepare(settings: dict[str, Any]) -> Any:
    rows = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])

    def repeat(request: dict[str, Any]) -> Answer:
        clock, passes = Clock(), settings["pairs_per_step"] // request["pairs_per_pass"]
        chosen = in_passes(rows, settings["pairs_per_step"]) if request["by_length"] else rows
        model = AutoModelForSequenceClassification.from_pretrained(
            settings["model"], dtype=torch.float32
        )
        trainer = RewardTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(chosen),
            callbacks=[clock],
            args=RewardConfig(
                **COMMON,
                output_dir=settings["work"] + "/trl",
                learning_rate=settings["learning_rate"],
                per_device_train_batch_size=request["pairs_per_pass"],
                gradient_accumulation_steps=passes,
                max_steps=settings["steps"],
                max_length=None,
                seed=settings["seed"],
                bf16=request["dtype"] == "bfloat16",
                # The order of the file: hark takes the same steps.
                train_sampling_strategy="sequential",
            ),
        )
        losses = keep_losses(trainer)
        trainer.train()
        return {
            "seconds": clock.seconds,
            "amount": settings["steps"] * settings["pairs_per_step"] / settings["pairs_per_unit"],
            "losses": [sum(step) for step in losses],
        }

    return repeat


def in_passes(rows: list[dict[str, Any]], per_step: int) -> list[dict[str, Any]]:
    """Within each step, pairs of like length together, so that its passes have less padding."""

    def length(row: dict[str, Any]) -> int:
        return max(len(row["chosen_ids"]), len(row["rejected_ids"]))

    steps = (rows[start : start + per_step] for start in range(0, len(rows), per_step))
    return [row for step in steps for row in sorted(step, key=length)]


if __name__ == "__main__":
    serve(prepare)
