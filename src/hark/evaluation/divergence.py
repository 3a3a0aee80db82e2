"""How far a policy has moved: KL(policy ‖ reference), estimated on the policy's own samples.

Bai et al. (2022) plot reward against √KL; InstructGPT (section 3.5) and Stiennon et
al. (2020) report the same sum: log π(y|x) − log π₀(y|x) over the tokens of a reply, averaged over
replies. Replies must come from the policy itself at temperature 1, without top-k or top-p, or the
number is the divergence of no policy at all.

The probabilities of best-of-n are not known; its divergence is `best_of_n_divergence`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hark.evaluation.intervals import Estimate, clustered_mean, require_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """KL(policy ‖ reference); intervals are clustered by prompt."""

    per_response: Estimate
    """Nats a response: the mean over responses of the sum over tokens."""
    per_token: Estimate
    """Nats a token."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)


def divergence_from_logprobs(
    policy: ArrayLike,
    reference: ArrayLike,
    lengths: ArrayLike,
    *,
    prompts: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Divergence:
    """The estimate from log-probabilities of whole responses, [n] each; lengths [n] in tokens.

    Raises: HarkError if a log-probability is not finite.
    """
    gaps = require_finite(policy, what="policy log-probabilities") - require_finite(
        reference, what="reference log-probabilities"
    )
    tokens = np.asarray(lengths, dtype=float)
    ways = [] if prompts is None else [prompts]
    settings: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    return Divergence(
        per_response=clustered_mean(gaps, clusters=ways, **settings),
        per_token=clustered_mean(gaps / tokens, weights=tokens, clusters=ways, **settings),
    )


def best_of_n_divergence(n: int) -> float:
    """KL of the best of n samples from the policy they are drawn from: ln n − (n − 1)/n, nats.

    Stiennon et al. (2020, appendix G.3); exact where all scores differ, a bound otherwise.
    """
    return math.log(n) - (n - 1) / n
