"""Train a reward model with TRL's `RewardTrainer`; runs in TRL's own environment.

Reads one JSON object of settings from the file named on the command line.
"""

import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

given = json.loads(Path(sys.argv[1]).read_text())
torch.set_num_threads(given["threads"])
rows = [json.loads(line) for line in Path(given["data"]).read_text().splitlines()]
trainer = RewardTrainer(
    model=AutoModelForSequenceClassification.from_pretrained(given["model"], dtype=torch.float32),
    processing_class=AutoTokenizer.from_pretrained(given["model"]),
    train_dataset=Dataset.from_list(rows),
    args=RewardConfig(
        output_dir=given["output"],
        num_train_epochs=1,
        per_device_train_batch_size=given["batch_size"],
        learning_rate=given["learning_rate"],
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=given["warmup_steps"],
        adam_beta2=0.95,
        max_grad_norm=1.0,
        max_length=None,
        bf16=given["dtype"] == "bfloat16",
        use_cpu=True,
        save_strategy="no",
        logging_steps=10,
        report_to=[],
        disable_tqdm=True,
        seed=given["seed"],
    ),
)
began = time.monotonic()
trainer.train()
seconds = time.monotonic() - began
trainer.save_model(given["output"])
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
result = Path(given["output"]) / "result.json"
result.write_text(json.dumps({"seconds": seconds, "losses": losses}))
