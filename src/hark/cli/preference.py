"""`hark preference`: a model of what people prefer, from comparisons."""

from __future__ import annotations

from hark.cli.stage import stage_command

preference = stage_command(
    "preference",
    title="Preference model",
)
