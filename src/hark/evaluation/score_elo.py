"""What a preference model's scores say of Elo, to be held against Elo by votes.

Bai et al. (2204.05862): a gap of 1 in the score of a preference model is odds of e, or
174 Elo; the paper finds that Elo predicted so from policies' mean scores is too high for
policies that were trained against the model.

Departures and choices
1. Two predictions stand side by side. From the gap of mean scores, as in the paper; and from the
   mean over prompts of σ(gap), the share of replies that the model expects to win. Odds of a mean
   are not the mean of odds: where gaps vary from prompt to prompt the first is the larger of the
   two for any policy, trained against the model or not. What is left between the second and the
   votes is what the model got wrong.
2. Both are gaps to one anchor rather than fits to all pairs, so that nothing of other policies
   enters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from numpy.typing import ArrayLike
from scipy import special

from hark.evaluation.elo import ANCHOR_ELO, elo_of_score_difference
from hark.evaluation.intervals import Estimate, State, clustered_mean, require_finite


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreElo:
    """What scores say of one policy."""

    model: str
    score: Estimate
    """Mean score, less the anchor's."""
    from_gap: Estimate
    """Elo by the gap of mean scores, the anchor at 1000."""
    from_odds: Estimate
    """Elo by the odds of the mean of σ(gap)."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return {
            "model": self.model,
            "score": self.score.to_json(),
            "from_gap": self.from_gap.to_json(),
            "from_odds": self.from_odds.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        estimates = {
            name: Estimate.from_json(values[name]) for name in ("score", "from_gap", "from_odds")
        }
        return cls(model=values["model"], **estimates)


def score_elo(
    scores: Mapping[str, ArrayLike],
    prompts: Sequence[Hashable],
    *,
    anchor: str,
    level: float = 0.95,
    seed: int = 0,
) -> list[ScoreElo]:
    """Elo by scores, the anchor among the policies. scores: of each policy's reply to each prompt
    [n]; prompts: [n], the clusters.

    Raises: HarkError if a score is not finite.
    """
    base = require_finite(scores[anchor], what=f"scores of '{anchor}'")
    found = []
    for name, own in scores.items():
        gaps = require_finite(own, what=f"scores of '{name}'") - base
        mean = clustered_mean(gaps, clusters=[prompts], level=level, seed=seed)
        share = clustered_mean(special.expit(gaps), clusters=[prompts], level=level, seed=seed)
        if name == anchor:
            mean, share = (replace(one, state="exact") for one in (mean, share))
        found.append(
            ScoreElo(
                model=name,
                score=mean,
                from_gap=_shown(mean, lambda gap: gap),
                from_odds=_shown(share, lambda share: math.log(share / (1 - share))),
            )
        )
    return found


def over_estimate(predicted: Estimate, measured: Estimate) -> Estimate:
    """Predicted less measured Elo; the interval takes the two for independent."""
    if predicted.value is None or measured.value is None:
        return replace(measured, value=None, low=None, high=None, state=measured.state)
    value = predicted.value - measured.value
    state: State = "defined"
    low = high = None
    if not (predicted.has_interval and measured.has_interval):
        state = predicted.state if measured.has_interval else measured.state
    else:
        (below, above), (least, most) = _arms(predicted), _arms(measured)
        low, high = value - math.hypot(below, most), value + math.hypot(above, least)
    return Estimate(
        value=value,
        low=low,
        high=high,
        n=measured.n,
        clusters=min(predicted.clusters, measured.clusters),
        level=measured.level,
        state=state,
    )


def _arms(estimate: Estimate) -> tuple[float, float]:
    """How far the interval reaches below and above the value."""
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.value - estimate.low, estimate.high - estimate.value


def _shown(estimate: Estimate, logit: Callable[[float], float]) -> Estimate:
    """An estimate on the Elo scale."""

    def at(value: float | None) -> float | None:
        return None if value is None else ANCHOR_ELO + elo_of_score_difference(logit(value))

    return replace(estimate, value=at(estimate.value), low=at(estimate.low), high=at(estimate.high))
