"""`hark report`: one self-contained HTML page of runs."""

from __future__ import annotations

from hark.cli.stage import stage_command

report = stage_command(
    "report",
    title="Report",
)
