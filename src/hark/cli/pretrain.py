"""`hark pretrain`: a small language model and its tokenizer, from text."""

from __future__ import annotations

from hark.cli.stage import stage_command

pretrain = stage_command(
    "pretrain",
    title="Pretraining",
    example="hark pretrain --data texts.jsonl --evaluation-data held-out.jsonl --size 3m",
)
