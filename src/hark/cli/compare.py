"""`hark compare`: several policies side by side, each against the same baseline."""

from __future__ import annotations

from hark.cli.stage import stage_command

compare = stage_command(
    "compare",
    title="Comparison of policies",
)
