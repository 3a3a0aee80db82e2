"""`hark playground`: texts, demonstrations and prompts of the built-in world."""

from __future__ import annotations

from hark.cli.stage import stage_command

playground = stage_command(
    "playground",
    title="Playground",
)
