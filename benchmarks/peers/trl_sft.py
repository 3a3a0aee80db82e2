"""TRL's `SFTTrainer` on tokenized demonstrations; runs in TRL's own environment."""

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from timed_trainer import COMMON, Clock, keep_losses
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from serving import Answer, serve


def prepare(settings: dict[str, Any]) -> Any:
    rows = [json.loads(line) for line in Path(settings["data"]).read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    place = {tuple(row["prompt"] + row["response"]): i for i, row in enumerate(rows)}
    dataset = Dataset.from_list(
        [
            {
                "input_ids": row["prompt"] + row["response"],
                "labels": [-100] * len(row["prompt"]) + row["response"],
                "length": len(row["prompt"] + row["response"]),
            }
            for row in rows
        ]
    )

    def repeat(request: dict[str, Any]) -> Answer:
        clock = Clock()
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32),
            processing_class=tokenizer,
            train_dataset=dataset,
            callbacks=[clock],
            args=SFTConfig(
                **COMMON,
                output_dir=settings["work"] + "/trl",
                learning_rate=settings["learning_rate"],
                max_steps=settings["steps"],
                max_length=settings["context"],
                seed=settings["seed"],
                bf16=request["dtype"] == "bfloat16",
                **request["arguments"],
            ),
        )
        losses, batches = keep_losses(trainer), keep_batches(trainer, place)
        trainer.train()
        taken = [batch for batch in batches if batch][: settings["steps"]]
        return {
            "seconds": clock.seconds,
            "amount": sum(sum(map(len, batch)) for batch in taken),
            "losses": [sum(step) for step in losses],
            "batches": [[place[tokens] for tokens in batch] for batch in taken],
        }

    return repeat


def keep_batches(trainer: Any, place: dict[tuple[int, ...], int]) -> list[list[tuple[int, ...]]]:
    """Have a trainer keep the demonstrations of every step, cut out of its packed rows."""
    kept: list[list[tuple[int, ...]]] = []
    collate = trainer.data_collator
    per_step, passes = trainer.args.gradient_accumulation_steps, 0

    def collating(examples: list[dict[str, Any]]) -> Any:
        nonlocal passes
        if passes % per_step == 0:
            kept.append([])
        passes += 1
        for example in examples:
            start = 0
            for length in example.get("seq_lengths", [len(example["input_ids"])]):
                kept[-1].append(tuple(example["input_ids"][start : start + length]))
                start += length
        return collate(examples)

    trainer.data_collator = collating
    return kept


if __name__ == "__main__":
    serve(prepare)
