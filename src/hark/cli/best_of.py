"""`hark best-of`: what choosing the best of n by a preference model is worth."""

from __future__ import annotations

from hark.cli.stage import stage_command

best_of = stage_command(
    "best-of",
    title="Best of n",
)
