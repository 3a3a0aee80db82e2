"""The useful arithmetic of a PPO step, from the lengths of its episodes.

1. What is computed once more although it is known is not useful: log-probabilities of the samples,
   and activations for the backward pass.
2. Scorers are taken to read the tokens of the policy. Those that are not models count nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from hark.models import flops
from hark.training.ppo_settings import PPOSettings
from hark.training.ppo_state import PPOState
from hark.training.rollout import Episodes


@dataclass(frozen=True, slots=True, kw_only=True)
class StepArithmetic:
    """The shapes of all models that a step computes with."""

    policy: flops.Shape
    """Of the reference as well."""
    critic: flops.Shape | None
    """None for one that shares the policy's trunk."""
    scorers: tuple[flops.Shape, ...]

    @classmethod
    def of(cls, state: PPOState, scorers: Sequence[flops.Shape]) -> Self:
        return cls(
            policy=flops.Shape.of(state.policy),
            critic=None if state.shares_trunk else flops.Shape.of(state.critic),
            scorers=tuple(scorers),
        )

    def of_step(self, episodes: Episodes, settings: PPOSettings) -> int:
        """Operations of all passes in all processes, of sampling and of the pretraining mix."""
        rollout = sum(
            flops.ppo_episodes(
                self.policy, self.critic, sequence,
                inner_epochs=settings.inner_epochs, scorers=self.scorers,
                adapted=settings.lora is not None,
            )
            for sequence in episodes.sequences
        )  # fmt: skip
        return rollout + self._pretraining(settings)

    def _pretraining(self, settings: PPOSettings) -> int:
        if not settings.pretraining_data:
            return 0
        row = flops.language_model(self.policy, (1, (settings.pretraining_row_tokens - 1,)))
        rows = settings.updates_per_step * settings.pretraining_rows_per_update
        return flops.training(rows * row, adapted=settings.lora is not None)
