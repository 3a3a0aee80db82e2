"""What one PPO step knows of its episodes, and how their tokens are laid out.

An episode is one response to one prompt. The `N` responses of a rollout are laid end to end: a
per-token tensor has `M = sum(lengths)` entries and no padding, so that every mean, whitening and
sum takes exactly the response tokens, the end token included and nothing after it. The place of a
token is the same in every tensor of the record.

Around the end token (spec of Stiennon's and Ziegler's code): the policy's tokens and the value's
states are the same `M` places. Place `t` of a response is the action of choosing token `t` and
the value of the state before it. The score lands at the last place, the end token itself, and the
state after the end token is terminal: it has no value and is not trained. (The published
reproduction of Stiennon gives that state a value and puts the score there, one place later.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hark.data.records import Dialogue
from hark.models import flops


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """Prompts answered by the policy; the sampler fills it."""

    dialogues: tuple[Dialogue, ...]
    """N prompts, as people wrote them."""
    prompts: tuple[tuple[int, ...], ...]
    """N prompts, as token ids."""
    prompt_of: tuple[int, ...]
    """N: which prompt of the step each episode answers; equal numbers share their prompt."""
    responses: tuple[tuple[int, ...], ...]
    """N sampled responses, token ids with the end token where one was produced."""
    texts: tuple[str, ...]
    """N responses as the scorer reads them (up to `score_until` where that is set)."""
    is_complete: Tensor
    """[N] bool: the response ended by itself, not because it ran out of tokens."""
    logprobs: Tensor
    """[M] log π of each token, captured while sampling, at the sampling temperature."""

    @property
    def lengths(self) -> Tensor:
        """[N] long: tokens of each response, the end token included."""
        return torch.tensor([len(response) for response in self.responses])

    @property
    def sequences(self) -> list[flops.Sequence]:
        """Tokens of each prompt of the step, and of the responses that answer it."""
        lengths: dict[int, list[int]] = {}
        prompts: dict[int, int] = {}
        for number, prompt, response in zip(
            self.prompt_of, self.prompts, self.responses, strict=True
        ):
            prompts[number] = len(prompt)
            lengths.setdefault(number, []).append(len(response))
        return [(prompts[number], tuple(each)) for number, each in lengths.items()]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Episodes with all that the policy and the critic learn from; the PPO step fills it."""

    episodes: Episodes
    raw_scores: Tensor
    """[N] what the scorer said, plus the reward bias."""
    scores: Tensor
    """[N] the score that entered the reward, after the rule for responses without an end."""
    behaviour_logprobs: Tensor
    """[M] log π_old of each token."""
    reference_logprobs: Tensor
    """[M] log π_SFT of each token."""
    values: Tensor
    """[M] V_old of the state before each token."""
    rewards: Tensor
    """[M] KL penalty at every token, score at the last, before any whitening."""
    advantages: Tensor
    """[M] GAE advantages as the policy loss uses them (whitened if asked)."""
    returns: Tensor
    """[M] targets of the critic, taken before whitening the advantages."""

    @property
    def lengths(self) -> Tensor:
        """[N] long: tokens of each response."""
        return self.episodes.lengths


def padded(values: Tensor, lengths: Tensor, fill: float = 0.0) -> Tensor:
    """[M] laid end to end to [N, max(lengths)], `fill` after each response's end."""
    return pad_sequence(list(values.split(lengths.tolist())), batch_first=True, padding_value=fill)


def is_response(lengths: Tensor) -> Tensor:
    """[N, max(lengths)] bool: True at the tokens of a response, its end token included."""
    return torch.arange(int(lengths.max())) < lengths[:, None]


def flat(values: Tensor, lengths: Tensor) -> Tensor:
    """[N, max(lengths)] to [M] laid end to end: the inverse of `padded`."""
    return values[is_response(lengths).to(values.device)]


def last_places(lengths: Tensor) -> Tensor:
    """[N] places in [M] of each response's last token, where the score lands."""
    return lengths.cumsum(0) - 1


def sums_per_response(values: Tensor, lengths: Tensor) -> Tensor:
    """[M] to [N]: the sum over each response's tokens."""
    return padded(values, lengths).sum(dim=1)
