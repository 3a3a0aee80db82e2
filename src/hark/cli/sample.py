"""`hark sample`: a model's answers to prompts."""

from __future__ import annotations

from hark.cli.stage import stage_command

sample = stage_command(
    "sample",
    title="Sampling",
)
