"""`hark report`: one self-contained HTML page of runs."""

from __future__ import annotations

from hark.cli.stage import stage_command

report = stage_command(
    "report",
    title="Report",
    example="hark report --runs runs/20260131T170000-ppo",
)
