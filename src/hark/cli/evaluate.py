"""`hark evaluate`: win rate, preference accuracy or language-model loss, with intervals."""

from __future__ import annotations

from hark.cli.stage import stage_command

evaluate = stage_command(
    "evaluate",
    title="Evaluation",
)
