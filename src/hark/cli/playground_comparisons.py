"""`hark playground-comparisons`: what the built-in world's people say of replies, in kinds."""

from __future__ import annotations

from hark.cli.stage import stage_command

playground_comparisons = stage_command(
    "playground-comparisons",
    title="Comparisons",
)
