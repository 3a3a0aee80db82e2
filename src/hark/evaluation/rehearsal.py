"""Studies drawn at planted ratings: whether stated intervals hold the truth, and how wide they are.

Bai et al. (2204.05862) state intervals of Elo; this is the check that
they hold. A labeler likes the reply of a model by its planted strength and by a taste of their own
for that model, and votes as Bradley, Terry and Davidson have it.

1. The truth is the strength for the population of labelers together, which is what ratings estimate
   (departure 4 of `hark.evaluation.elo`): the fit to what endlessly many labelers would say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from hark.evaluation.bradley_terry import FIRST, SECOND, TIE, Design, Games, Ties, maximise
from hark.evaluation.elo import (
    ANCHOR_ELO,
    RIDGE,
    Outcome,
    Ratings,
    Vote,
    elo_of_score_difference,
    score_difference_of_elo,
)
from hark.evaluation.intervals import Array, Estimate, clustered_mean, clustered_rate

OUTCOMES: tuple[Outcome, ...] = ("first", "second", "tie")
"""By the numbers of `bradley_terry`."""
QUADRATURE_NODES = 61


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedStudy:
    """Who votes how often on models of which strength."""

    ratings: dict[str, float]
    """Model → Elo."""
    labelers: int
    votes_per_labeler: int
    labeler_spread: float
    """Standard deviation, over labelers, of the gap in logits that they see between two models."""
    prompts: int = 0
    """Each vote is about one of so many; 0: each about its own."""
    prompt_spread: float = 0.0
    """As `labeler_spread`, over prompts."""
    first_advantage: float = 0.0
    """In logits."""
    tie_odds: float = 0.0
    """Davidson's ν; 0: nobody ties."""

    @property
    def strengths(self) -> Array:
        """[K]: in logits."""
        return np.array([score_difference_of_elo(elo) for elo in self.ratings.values()])

    def chances(self, gap: Array) -> Array:
        """[…, 3]: of first, second and tie, for gaps […] of strength and taste in logits."""
        half = (gap + self.first_advantage) / 2
        tie = math.log(self.tie_odds) if self.tie_odds > 0 else -math.inf
        return np.asarray(
            special.softmax(np.stack([half, -half, np.full_like(half, tie)], axis=-1), axis=-1)
        )

    def draw(self, generator: np.random.Generator) -> list[Vote]:
        """One study: votes on two different models each, drawn evenly, in either order."""
        names, votes = list(self.ratings), self.labelers * self.votes_per_labeler
        labeler = np.repeat(np.arange(self.labelers), self.votes_per_labeler)
        prompt = generator.integers(max(self.prompts, 1), size=votes)
        scale = np.array([self.labeler_spread, self.prompt_spread]) / math.sqrt(2)
        taste = generator.normal(0, 1, (self.labelers, len(names)))[labeler] * scale[0]
        taste += generator.normal(0, 1, (max(self.prompts, 1), len(names)))[prompt] * scale[1]
        one = generator.integers(len(names), size=votes)
        other = (one + generator.integers(1, len(names), size=votes)) % len(names)
        felt = np.take_along_axis(self.strengths + taste, np.stack([one, other], axis=1), axis=1)
        cumulative = self.chances(felt[:, 0] - felt[:, 1]).cumsum(axis=1)
        outcome = (generator.random(votes)[:, None] > cumulative[:, :2]).sum(axis=1)
        return [
            Vote(
                first=names[one[n]],
                second=names[other[n]],
                outcome=OUTCOMES[outcome[n]],
                labeler=f"labeler {labeler[n]}",
                prompt=int(prompt[n]) if self.prompts else None,
            )
            for n in range(votes)
        ]

    def truth(self, *, ties: Ties, order_effect: bool) -> Array:
        """[p]: β that the fit tends to, with endlessly many labelers and prompts."""
        pairs = np.array(list(itertools.permutations(range(len(self.ratings)), 2)))
        spread = math.hypot(self.labeler_spread, self.prompt_spread if self.prompts else 0.0)
        nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
        gaps = self.strengths[pairs[:, 0]] - self.strengths[pairs[:, 1]]
        shares = self.chances(gaps[:, None] + spread * nodes)
        chances = np.einsum("pqo,q->po", shares, weights / weights.sum())
        outcomes = (FIRST, SECOND, TIE) if self.tie_odds > 0 else (FIRST, SECOND)
        kinds = np.array([(*pair, outcome) for pair in pairs for outcome in outcomes], np.intp)
        games = Games.of(*kinds.T, players=len(self.ratings))
        design = Design.of(games, ties=ties, order_effect=order_effect)
        at = {tuple(pair): number for number, pair in enumerate(pairs.tolist())}
        expected = np.array(
            [
                chances[at[first, second], outcome]
                for first, second, outcome in zip(
                    games.first.tolist(), games.second.tolist(), games.outcome, strict=True
                )
            ]
        )
        many = 1e4 * expected[None]
        return maximise(design, many, ridge=RIDGE, start=np.zeros(design.gap.shape[1]))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What became of the intervals of many studies."""

    held: Estimate
    """Share that held the truth, over studies and models; clustered by study."""
    width: Estimate
    """Mean width, in Elo."""
    error: Estimate
    """Mean distance of the rating from the truth, in Elo: 0 where ratings are unbiased."""
    undefined: int
    """Intervals that were not there; they are in none of the shares."""


def rehearse(
    study: PlantedStudy,
    rated: Callable[[Sequence[Vote]], Ratings],
    *,
    ties: Ties,
    order_effect: bool,
    studies: int,
    seed: int,
) -> Coverage:
    """Draw the study again and again, rate its votes, and hold the ratings against the truth.

    rated: with the same `ties` and `order_effect`. Gaps to the anchor are what is counted.
    """
    truth = study.truth(ties=ties, order_effect=order_effect)
    held: list[bool] = []
    widths: list[float] = []
    errors: list[float] = []
    where: list[int] = []
    undefined = 0
    for number in range(studies):
        found = rated(study.draw(np.random.default_rng((seed, number))))
        for one in found.ratings:
            if one.model == found.anchor:
                continue
            if one.elo.low is None or one.elo.high is None or one.elo.value is None:
                undefined += 1
                continue
            true = _true_elo(study, truth, one.model, found.anchor)
            held.append(one.elo.low <= true <= one.elo.high)
            widths.append(one.elo.high - one.elo.low)
            errors.append(one.elo.value - true)
            where.append(number)
    return Coverage(
        held=clustered_rate(np.array(held, float), clusters=[where], seed=seed),
        width=clustered_mean(widths, clusters=[where], seed=seed),
        error=clustered_mean(errors, clusters=[where], seed=seed),
        undefined=undefined,
    )


def _true_elo(study: PlantedStudy, truth: Array, model: str, anchor: str) -> float:
    names = list(study.ratings)
    gap = truth[names.index(model)] - truth[names.index(anchor)]
    return ANCHOR_ELO + elo_of_score_difference(float(gap))
