"""`hark ppo`: a policy improved against a reward, held near its start by a KL penalty."""

from __future__ import annotations

from hark.cli.stage import stage_command

ppo = stage_command(
    "ppo",
    title="Proximal policy optimisation",
)
