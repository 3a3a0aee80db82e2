"""`hark tournament`: every policy against every other, by several judges."""

from __future__ import annotations

from hark.cli.stage import stage_command

tournament = stage_command(
    "tournament",
    title="Tournament",
)
