"""`hark pretrain`: a small language model and its tokenizer, from text."""

from __future__ import annotations

from hark.cli.stage import stage_command

pretrain = stage_command(
    "pretrain",
    title="Pretraining",
)
