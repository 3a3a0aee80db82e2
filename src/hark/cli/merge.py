"""`hark merge`: tranches of comparisons as one training set."""

from __future__ import annotations

from hark.cli.stage import stage_command

merge = stage_command(
    "merge",
    title="Merge",
)
