"""`hark items`: snapshots answer prompts, as items of a study."""

from __future__ import annotations

from hark.cli.stage import stage_command

items = stage_command(
    "items",
    title="Items",
)
