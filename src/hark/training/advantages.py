"""Advantages (pure): generalised advantage estimation and whitening.

GAE follows Schulman et al. 2015 (1506.02438) as Ziegler et al. 2019 use it: γ = 1, λ = 0.95, an
episode ends with its response and nothing is bootstrapped after it. Whitening follows Ziegler's
code: biased variance, ε inside the square root.

Tensors are laid end to end as in `rollout`: [M] with the `N` lengths beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hark.training.rollout import flat, padded

WHITENING_EPSILON = 1e-8


def generalised_advantages(
    rewards: Tensor,
    values: Tensor,
    lengths: Tensor,
    *,
    discount: float = 1.0,
    gae_lambda: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of every token.

    δ_t = r_t + γ V_{t+1} − V_t with V = 0 after the last token;  A_t = δ_t + γλ A_{t+1};
    returns R_t = A_t + V_t, taken here, before any whitening of the advantages.

    Args: rewards [M]; values [M] of the states before each token; lengths [N].
    Returns: advantages [M], returns [M].
    """
    # Zeros after each response's end are the terminal value, the terminal advantage and the mask.
    reward, value = padded(rewards, lengths), padded(values, lengths)
    advantages = torch.zeros_like(reward)
    next_value = torch.zeros_like(value[:, 0])
    next_advantage = torch.zeros_like(next_value)
    for t in reversed(range(reward.shape[1])):
        delta = reward[:, t] + discount * next_value - value[:, t]
        next_advantage = delta + discount * gae_lambda * next_advantage
        next_value = value[:, t]
        advantages[:, t] = next_advantage
    advantage = flat(advantages, lengths)
    return advantage, advantage + values


def whiten(values: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Give `values` variance one (biased variance) and, with `shift_mean`, mean zero.

    (x − μ) / √(var + 1e-8), then + μ again where the mean is to stay: rewards are whitened so,
    because the sign of a reward carries meaning and that of an advantage is relative.
    """
    mean = values.mean()
    variance = values.var(unbiased=False)
    whitened = (values - mean) * torch.rsqrt(variance + WHITENING_EPSILON)
    return whitened if shift_mean else whitened + mean
