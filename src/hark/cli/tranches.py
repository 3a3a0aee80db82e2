"""`hark tranches`: what a preference model says of tranches of comparisons."""

from __future__ import annotations

from hark.cli.stage import stage_command

tranches = stage_command(
    "tranches",
    title="Tranches",
)
