"""Win rates: how often one policy's reply is preferred to another's on the same prompt.

The measure of InstructGPT (section 4.1, figure 1) and Stiennon et al. (2020): the share of prompts
on which the policy beats the baseline.

1. A tie counts one half and is reported; the papers' forms allowed none.
2. Which reply a judge sees first is decided by a hash of the seed and the prompt, so that one who
   leans to the first reply leans to neither policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hark.data.records import Dialogue, answered
from hark.errors import HarkError
from hark.evaluation.intervals import Array, Cluster, Estimate, clustered_rate, require_finite
from hark.evaluation.scores import Scorer, score


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One verdict on the policy's reply against the baseline's."""

    outcome: float
    """1 the policy won, ½ a tie, 0 the baseline won."""
    prompt: Hashable
    """What the two replies answer; judgements of one prompt form a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often the policy won, a tie counting one half."""

    estimate: Estimate
    wins: int
    ties: int
    losses: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return {
            "estimate": self.estimate.to_json(),
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> WinRate:
        """The inverse of `to_json`."""
        return cls(**{**values, "estimate": Estimate.from_json(values["estimate"])})


def win_rate(
    judgements: Sequence[Judgement],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> WinRate:
    """Sum up judgements; the interval is clustered by prompt."""
    outcomes = np.array([judgement.outcome for judgement in judgements])
    prompts = [judgement.prompt for judgement in judgements]
    return rate_of_outcomes(outcomes, [prompts], level=level, resamples=resamples, seed=seed)


def rate_of_outcomes(
    outcomes: Array, clusters: Sequence[Cluster], *, level: float, resamples: int, seed: int
) -> WinRate:
    """`win_rate` of [n] outcomes, 1, ½ or 0, with each way of clustering them."""
    return WinRate(
        estimate=clustered_rate(
            outcomes, clusters=clusters, level=level, resamples=resamples, seed=seed
        ),
        wins=int((outcomes == 1.0).sum()),
        ties=int((outcomes == 0.5).sum()),
        losses=int((outcomes == 0.0).sum()),
    )


def judge_by_scorer(
    scorer: Scorer,
    prompts: Sequence[Dialogue],
    responses: Sequence[str],
    baseline_responses: Sequence[str],
    *,
    tie_tolerance: float = 0.0,
) -> list[Judgement]:
    """The reply with the higher score wins; scores within `tie_tolerance` are a tie.

    Raises: HarkError if a score is not finite.
    """
    _require_same_length(prompts, responses, baseline_responses)
    # In one call, and the replies to a prompt side by side, so that a model reads it once.
    scores = score(
        scorer,
        [
            answered(prompt, text)
            for prompt, *texts in zip(prompts, responses, baseline_responses, strict=True)
            for text in texts
        ],
    )
    return judge_by_scores(prompts, scores[0::2], scores[1::2], tie_tolerance=tie_tolerance)


def judge_by_scores(
    prompts: Sequence[Hashable],
    scores: ArrayLike,
    baseline_scores: ArrayLike,
    *,
    tie_tolerance: float = 0.0,
) -> list[Judgement]:
    """As `judge_by_scorer`, of scores at hand: [n] and [n]."""
    gaps = require_finite(scores, what="scores") - require_finite(
        baseline_scores, what="baseline scores"
    )
    outcomes = np.where(np.abs(gaps) <= tie_tolerance, 0.5, (gaps > 0).astype(float))
    return [
        Judgement(outcome=float(outcome), prompt=prompt)
        for outcome, prompt in zip(outcomes, prompts, strict=True)
    ]


def policy_comes_first(prompt: Dialogue, *, seed: int) -> bool:
    """Whether the policy's reply is shown first: a fair coin fixed by the seed and the prompt."""
    text = "\x1e".join(f"{message.role}\x1f{message.content}" for message in prompt)
    digest = hashlib.blake2b(f"{seed}\x1d{text}".encode(), digest_size=1).digest()
    return digest[0] % 2 == 0


def _require_same_length(
    prompts: Sequence[Dialogue], responses: Sequence[str], baseline: Sequence[str]
) -> None:
    if not len(prompts) == len(responses) == len(baseline):
        raise HarkError(
            f"{len(prompts)} prompts, {len(responses)} responses and {len(baseline)} baseline "
            "responses: a win rate needs one of each for every prompt"
        )
