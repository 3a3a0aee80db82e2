"""`hark sft`: a language model taught by demonstrations."""

from __future__ import annotations

from hark.cli.stage import stage_command

sft = stage_command(
    "sft",
    title="Supervised fine-tuning",
)
