"""`hark playground-prompts`: prompts parted by what the built-in world's people ask for."""

from __future__ import annotations

from hark.cli.stage import stage_command

playground_prompts = stage_command(
    "playground-prompts",
    title="Prompts",
)
