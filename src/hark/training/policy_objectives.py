"""The losses of PPO (pure), one value per token.

Follows Schulman et al. 2017 (1707.06347, equation 7) and Ziegler et al. 2019 for the clipped value
loss. Losses come per token, [M], so that the caller takes one mean over a whole minibatch however
many passes it is split into.
"""

from __future__ import annotations

import torch
from torch import Tensor


def probability_ratio(logprobs: Tensor, behaviour_logprobs: Tensor) -> Tensor:
    """π/π_old of each token. [M]."""
    return torch.exp(logprobs - behaviour_logprobs)


def policy_losses(
    logprobs: Tensor, behaviour_logprobs: Tensor, advantages: Tensor, *, clip_range: float
) -> Tensor:
    """max(−A ρ, −A clip(ρ, 1 ± ε)) of each token, ρ = π/π_old. [M]."""
    ratio = probability_ratio(logprobs, behaviour_logprobs)
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return torch.maximum(-advantages * ratio, -advantages * clipped)


def is_clipped(
    logprobs: Tensor, behaviour_logprobs: Tensor, advantages: Tensor, *, clip_range: float
) -> Tensor:
    """[M] bool: True where the clipped term decides, so that the token has no gradient."""
    ratio = probability_ratio(logprobs, behaviour_logprobs)
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return -advantages * clipped > -advantages * ratio


def value_losses(
    values: Tensor, behaviour_values: Tensor, returns: Tensor, *, clip_range: float | None
) -> Tensor:
    """½ max((V − R)², (clip(V, V_old ± ε) − R)²) of each token; ½ (V − R)² without a range. [M]."""
    squared = (values - returns) ** 2
    if clip_range is None:
        return 0.5 * squared
    clipped = torch.clamp(values, behaviour_values - clip_range, behaviour_values + clip_range)
    return 0.5 * torch.maximum(squared, (clipped - returns) ** 2)


def explained_variance(values: Tensor, returns: Tensor) -> float | None:
    """1 − Var(R − V)/Var(R): 1 is a perfect critic, 0 one no better than a constant.

    None where the returns do not vary: the quantity is then undefined.
    """
    variance = returns.var(unbiased=False)
    if variance <= 0:
        return None
    return float(1.0 - (returns - values).var(unbiased=False) / variance)
