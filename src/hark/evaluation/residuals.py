"""How far each pair of models is from what their ratings predict: the sign of non-transitivity.

One strength for each model says how every pair should fare. Where rock beats scissors, scissors
paper and paper rock, no strengths fit, and pairs are off by more than chance.

1. Residuals are standardised by their own clustered variance: the wins of a pair beyond what is
   predicted, summed by cluster, less what the fit took from each. Labelers who differ then pass for
   noise and not for a misfit, and so does what one labeler says twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hark.evaluation.bradley_terry import Codes
from hark.evaluation.intervals import Array
from hark.evaluation.strengths import Strengths

LEAST_VARIANCE = 1e-9
"""Of a sum of wins, relative to the number of games; less is rounding of a pair that fits by
construction, as with two models alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFit:
    """What ratings say of one pair, beside what happened."""

    predicted: float
    """Expected win rate in the games as they were played, a tie counting one half."""
    residual: float | None
    """Wins beyond it, in standard errors; None where the pair cannot deviate."""


def pair_fits(strengths: Strengths) -> dict[tuple[str, str], PairFit]:
    """Every ordered pair of different models that has played."""
    games, names = strengths.fit.games, list(strengths.index)
    value, gradient = _expected(strengths)
    points = np.array([1.0, 0.0, 0.5])[games.outcome] - value
    found: dict[tuple[str, str], PairFit] = {}
    for one in range(len(names)):
        for other in range(one + 1, len(names)):
            ours = (games.first == one) & (games.second == other)
            theirs = (games.first == other) & (games.second == one)
            sign = ours.astype(float) - theirs
            played = games.counts * (ours | theirs)
            if not played.any():
                continue
            expected = float(played @ np.where(ours, value, 1 - value) / played.sum())
            residual = _residual(strengths, sign * points, sign * played @ gradient)
            found[names[one], names[other]] = PairFit(predicted=expected, residual=residual)
            turned = None if residual is None else -residual
            found[names[other], names[one]] = PairFit(predicted=1 - expected, residual=turned)
    return found


def _expected(strengths: Strengths) -> tuple[Array, Array]:
    """[C]: points of the first in each kind of game; [C, p]: their gradient."""
    design, beta = strengths.fit.design, strengths.fit.beta
    first, second, tie = design.probabilities(beta).T
    value = first + tie / 2
    gap = (first + second - (first - second) ** 2) / 4
    odds = -(first - second) * tie / 2
    return value, gap[:, None] * design.gap + odds[:, None] * design.tie


def _residual(strengths: Strengths, points: Array, gradient: Array) -> float | None:
    """points: [C] beyond expectation, 0 in other pairs' games; gradient: [p] of their sum."""
    fit = strengths.fit
    total = float(fit.games.counts @ points)
    influence = points - fit.design.scores(fit.beta) @ np.linalg.solve(fit.information, gradient)
    variance = max(_variance(influence[fit.games.kind], codes) for codes in strengths.ways)
    if variance <= LEAST_VARIANCE * len(fit.games.kind) or strengths.clusters < 2:
        return None
    return total / math.sqrt(variance)


def _variance(each: Array, codes: Codes) -> float:
    """Of a sum over games, by clusters; about their mean, which is not 0 where a pair deviates."""
    sums = np.bincount(codes, each)
    return float(len(sums) * sums.var(ddof=1)) if len(sums) > 1 else 0.0
