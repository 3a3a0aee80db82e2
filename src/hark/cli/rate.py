"""`hark rate`: votes to ratings."""

from __future__ import annotations

from hark.cli.stage import stage_command

rate = stage_command(
    "rate",
    title="Votes and ratings",
)
