"""`hark rehearse`: a study of votes, simulated before anybody votes."""

from __future__ import annotations

from hark.cli.stage import stage_command

rehearse = stage_command(
    "rehearse",
    title="Study to rehearse",
)
