"""`hark study`: what several runs together say about a paper's claims."""

from __future__ import annotations

from hark.cli.stage import stage_command

study = stage_command(
    "study",
    title="Study",
)
