"""`hark data prepare`: near-duplicates, personal data and over-eager users out, splits by user."""

from __future__ import annotations

from hark.cli.stage import stage_command

prepare = stage_command(
    "prepare",
    title="Preparation",
    command="data prepare",
)
