"""`hark distill`: a model taught to behave without a context as it does with it."""

from __future__ import annotations

from hark.cli.stage import stage_command

distill = stage_command(
    "distill",
    title="Context distillation",
)
