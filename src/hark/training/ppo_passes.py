"""Packed passes over a rollout: minibatches, and what is measured without gradients.

The packing of the first epoch serves the reference, the values, recomputed log-probabilities and
the first updates: the same tokens in the same rows, so that a recomputed probability ratio is
exactly 1 before the first update.

Of a run of several processes each has the whole rollout, which is small, and passes for its share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hark.models.logprobs import response_logprobs
from hark.models.packing import PackedBatch, PromptTree, pack_for, plan_batches
from hark.models.parallel import whole
from hark.models.processes import summed, world_size
from hark.models.scalar_head import token_values
from hark.training.ppo_episodes import MINIBATCHES
from hark.training.ppo_settings import PPOSettings
from hark.training.ppo_state import PPOState
from hark.training.rollout import Episodes
from hark.training.trainer import autocast, own_turns, seed_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Episodes that go through a model together."""

    batch: PackedBatch
    """M_b response tokens."""
    places: Tensor
    """[M_b] long: where each of them lies among the rollout's M tokens."""
    counts: bool
    """False for a pass without weight, which keeps step with processes that have one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Minibatch:
    """The episodes of one update."""

    passes: tuple[Pass, ...]
    """Those of this process."""
    tokens: int
    """Response tokens of all passes of all processes."""


def minibatches(
    episodes: Episodes,
    models: Sequence[PreTrainedModel],
    settings: PPOSettings,
    *,
    step: int,
    epoch: int,
) -> list[Minibatch]:
    """The episodes in minibatches, packed; a fresh order for each (seed, step, epoch).

    Responses to one prompt stay in one minibatch and share the prompt's computation, as far as
    they fit one pass.
    models: the policy and the critic; both read the passes.
    """
    order = np.random.default_rng([seed_of(settings.seed, MINIBATCHES), step, epoch]).permutation(
        settings.prompts_per_step
    )
    episodes_of: dict[int, list[int]] = defaultdict(list)
    for episode, prompt in enumerate(episodes.prompt_of):
        episodes_of[prompt].append(episode)
    groups = [episodes_of[int(prompt)] for prompt in order]
    size = settings.minibatch_episodes // settings.responses_per_prompt
    most = settings.pass_tokens(models[0].device)
    return [
        _minibatch(episodes, groups[first : first + size], models, most)
        for first in range(0, len(groups), size)
    ]


def _minibatch(
    episodes: Episodes,
    groups: Sequence[Sequence[int]],
    models: Sequence[PreTrainedModel],
    max_tokens: int,
) -> Minibatch:
    """Pack groups of episodes that answer the same prompt."""
    lengths = episodes.lengths
    starts = lengths.cumsum(0) - lengths
    trees, members = [], []
    for group in groups:
        responses = tuple(episodes.responses[episode] for episode in group)
        following = iter(group)
        for part in PromptTree(episodes.prompts[group[0]], responses).parts(max_tokens):
            trees.append(part)
            members.append([next(following) for _ in part.responses])
    passes = []
    for chosen, counts in own_turns(plan_batches(trees, max_tokens, shares=world_size())):
        batch = pack_for(models, [trees[index] for index in chosen])
        own = torch.tensor([episode for index in chosen for episode in members[index]])
        places = starts[own[batch.response_of]] + batch.step_of
        passes.append(Pass(batch=batch.to(models[0].device), places=places, counts=counts))
    tokens = sum(int(lengths[episode]) for group in groups for episode in group)
    return Minibatch(passes=tuple(passes), tokens=tokens)


def reference_logprobs(
    state: PPOState, epoch: Sequence[Minibatch], settings: PPOSettings
) -> Tensor:
    """[M] log π_SFT of the sampled tokens at the sampling temperature."""
    with state.watch.phase("reference"), state.as_reference() as reference:
        return _logprobs(reference, epoch, settings)


def behaviour_logprobs(
    state: PPOState, episodes: Episodes, epoch: Sequence[Minibatch], settings: PPOSettings
) -> Tensor:
    """[M] log π_old of the sampled tokens: as captured while sampling, or computed once more."""
    if not settings.recompute_behaviour_logprobs:
        return episodes.logprobs
    with state.watch.phase("recompute"):
        return _logprobs(state.policy, epoch, settings)


def token_values_of(state: PPOState, epoch: Sequence[Minibatch], settings: PPOSettings) -> Tensor:
    """[M] V_old of the states before the sampled tokens."""
    with state.watch.phase("value"), state.whole_critic(), autocast(state.critic, settings):
        return over_tokens(epoch, lambda batch: token_values(state.critic, batch))


def over_tokens(epoch: Sequence[Minibatch], measure: Callable[[PackedBatch], Tensor]) -> Tensor:
    """Measure every response token once, without gradients. Returns [M] on the CPU."""
    measured = torch.zeros(sum(minibatch.tokens for minibatch in epoch))
    with torch.no_grad():
        for one in (one for minibatch in epoch for one in minibatch.passes if one.counts):
            measured[one.places] = measure(one.batch).float().cpu()
    return summed(measured)


def _logprobs(model: PreTrainedModel, epoch: Sequence[Minibatch], settings: PPOSettings) -> Tensor:
    temperature = settings.temperature
    with whole(model), autocast(model, settings):
        return over_tokens(
            epoch, lambda batch: response_logprobs(model, batch, temperature=temperature)
        )
