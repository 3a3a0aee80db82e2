"""From a scorer's numbers to the reward of every token (pure).

Follows Ziegler et al. 2019 (paper and released code) and Stiennon et al. 2020:

    r_t = −β (log π(y_t) − log π_ref(y_t)),  plus the score of the whole response at its last token.

Departures
1. Ziegler and Stiennon give a response without an end the score −1 *instead of* its own
   (`replace`). `subtract` takes a penalty *off* its own score, as later code does, and `keep`
   leaves it. −1 supposes scores with mean about 0 and deviation about 1: where good responses
   score below it, running out of tokens pays.
2. Several preference models may judge: their weighted sum is the score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from hark.data.records import Dialogue
from hark.errors import RunError, SettingsError
from hark.training.kl import k1
from hark.training.rollout import last_places

Scorer = Callable[[list[Dialogue]], Tensor]
"""Answered dialogues to one score each, [n], higher is better: a model, a lexicon, any function."""

Incomplete = Literal["replace", "subtract", "keep"]


def weighted_scorer(scorers: Sequence[Scorer], weights: Sequence[float]) -> Scorer:
    """One scorer that gives the weighted sum of several.

    Raises: SettingsError if their numbers differ.
    """
    if len(scorers) != len(weights):
        raise SettingsError(
            f"{len(scorers)} scorers with {len(weights)} weights: give each preference model one"
        )

    def score(dialogues: list[Dialogue]) -> Tensor:
        judged = [check_scores(scorer(dialogues), len(dialogues)) for scorer in scorers]
        return torch.stack([w * s for w, s in zip(weights, judged, strict=True)]).sum(dim=0)

    return score


def check_scores(scores: Tensor, count: int) -> Tensor:
    """`scores` as [count] float32 on the CPU.

    Raises: RunError if some are missing or not finite.
    """
    scores = torch.as_tensor(scores).detach().float().cpu()
    if scores.shape != (count,):
        raise RunError(
            f"the scorer gave scores of shape {tuple(scores.shape)} for {count} responses; "
            "it must give one number for each"
        )
    wrong = (~scores.isfinite()).nonzero().flatten()
    if len(wrong):
        place = int(wrong[0])
        raise RunError(
            f"the scorer gave {float(scores[place])} for response {place + 1} of {count}; "
            "a score must be a finite number: look at the preference model or scoring function"
        )
    return scores


def dealt_with_incomplete(
    scores: Tensor, is_complete: Tensor, *, rule: Incomplete, replacement: float, penalty: float
) -> Tensor:
    """Scores [N] after the rule for responses that did not end by themselves.

    replace: score := `replacement`; subtract: score −= `penalty`; keep: as it was.
    """
    if rule == "replace":
        return torch.where(is_complete, scores, torch.full_like(scores, replacement))
    if rule == "subtract":
        return torch.where(is_complete, scores, scores - penalty)
    return scores


def token_rewards(
    scores: Tensor,
    logprobs: Tensor,
    reference_logprobs: Tensor,
    lengths: Tensor,
    *,
    kl_coefficient: float,
) -> Tensor:
    """The reward of every token: KL penalty at each, the score added at the last.

    Args: scores [N]; logprobs, reference_logprobs [M]; lengths [N].
    Returns: [M].
    """
    rewards = -kl_coefficient * k1(logprobs, reference_logprobs)
    rewards[last_places(lengths)] += scores
    return rewards


def tokens_to_score(
    tokens: Sequence[int], is_stop: Callable[[int], bool], *, first_position: int
) -> int | None:
    """How many tokens the scorer reads: up to and including the first stop token.

    Only tokens at 0-based position `first_position` or later count (Ziegler et al.: '.' at or after
    position 16). None if there is no such token.
    """
    for position in range(first_position, len(tokens)):
        if is_stop(tokens[position]):
            return position + 1
    return None
