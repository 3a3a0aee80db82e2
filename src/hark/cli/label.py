"""`hark label`: a labeler's judgement of answers."""

from __future__ import annotations

from hark.cli.stage import stage_command

label = stage_command(
    "label",
    title="Labelling",
)
