"""Kullback-Leibler divergence from the reference: estimators and the adaptive coefficient (pure).

Follows Ziegler et al. 2019 (the penalty and its controller). Estimators are named as
in Schulman's note "Approximating KL divergence": with x sampled from π and k1 = log π(x) − log
π_ref(x), each has expectation KL(π‖π_ref).

Unit: nats. A penalty is per token; what people are told and what the controller is fed is **per
sequence**, the sum over a response's tokens averaged over episodes. A token mean would be smaller
by the length and give Ziegler's target of 6 nats another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hark.training.rollout import sums_per_response

MAX_RELATIVE_ERROR = 0.2
"""The controller's error is clipped to ±0.2 (Ziegler et al.)."""


def k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """log π − log π_ref of sampled tokens: unbiased, signed; the penalty of the papers. [M]."""
    return logprobs - reference_logprobs


def k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """½ (log π − log π_ref)²: biased, never negative, low variance when the two are close. [M]."""
    return 0.5 * (logprobs - reference_logprobs) ** 2


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """π_ref/π − 1 − log(π_ref/π): unbiased and never negative. [M]."""
    log_ratio = reference_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def sequence_kl(logprobs: Tensor, reference_logprobs: Tensor, lengths: Tensor) -> Tensor:
    """KL of each response: the sum of k1 over its tokens, nats. [M], [M], [N] → [N]."""
    return sums_per_response(k1(logprobs, reference_logprobs), lengths)


@dataclass(frozen=True, kw_only=True)
class AdaptiveKL:
    """The coefficient β of the KL penalty and how it follows a target (Ziegler et al.).

    e = clip(KL/target − 1, ±0.2);  β ← β (1 + e · n/horizon),  n in episodes.
    """

    coefficient: float
    """β now."""
    target: float | None
    """Nats per sequence; None keeps β fixed."""
    horizon: float = 10_000.0
    """Episodes over which an error of e moves β by a factor of about exp(e)."""

    def after(self, kl: float, *, episodes: int) -> AdaptiveKL:
        """The controller after `episodes` episodes with a mean KL of `kl` nats per sequence."""
        if self.target is None:
            return self
        error = min(max(kl / self.target - 1.0, -MAX_RELATIVE_ERROR), MAX_RELATIVE_ERROR)
        return replace(self, coefficient=self.coefficient * (1.0 + error * episodes / self.horizon))
