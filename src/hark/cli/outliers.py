"""`hark outliers`: a detector of prompts unlike those a model was made for."""

from __future__ import annotations

from hark.cli.stage import stage_command

outliers = stage_command(
    "outliers",
    title="Outliers",
)
