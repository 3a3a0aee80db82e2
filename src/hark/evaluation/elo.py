"""Elo: how strong models are by the votes of people, with intervals.

Bai et al. (2204.05862) fit a strength to each model by maximum likelihood
of the votes and show it as Elo, of which 400 are odds of ten to one. A gap of 1 in the score of a
preference model says the same as a gap of 400/ln 10 = 174 Elo.

Departures and choices
1. Ties are part of the model (Davidson 1970), or one half of a win for each; the paper's labelers
   could not vote for a tie.
2. The advantage of being shown first is estimated, so that it does not pass for strength.
3. Intervals are clustered by labeler (or by labeler and prompt): a jackknife with Student's t of
   G − 1 degrees of freedom, where G is the number of labelers, or fewer where some gave most votes
   (`bradley_terry.effective_clusters`); these held the truth in 94 to 97 of 100 simulated studies,
   of 6 to 100 labelers, alike or not, who differed by 0 to 0.8 logits. Or a cluster bootstrap,
   whose plain percentiles cover too rarely with twenty labelers and are widened as Student's t
   widens a normal; docs/elo.md has both side by side. The paper's intervals take votes for
   independent.
4. What is estimated is the strength for the population of labelers together: where labelers differ,
   it is nearer to 0 than the mean of the strengths for each.
5. What votes leave unbounded (a model that won every vote) is kept finite by a weak ridge and said
   to be unbounded; models that no chain of votes joins are said to be not identified.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hark.errors import HarkError, did_you_mean
from hark.evaluation import bradley_terry
from hark.evaluation.bradley_terry import FIRST, SECOND, TIE, Codes, Games, Ties
from hark.evaluation.intervals import NOTHING, Estimate, cluster_codes, numbered
from hark.evaluation.strengths import Intervals, Strengths

Outcome = Literal["first", "second", "tie"]
Clusters = Literal["labeler", "labeler and prompt"]

ELO_PER_LOGIT: Final = 400 / math.log(10)
ANCHOR_ELO: Final = 1000.0
RIDGE: Final = 1e-3
"""On the squares of logits; a hundred votes between equals outweigh it 25,000 to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One person's verdict on the answers of two models to one prompt."""

    first: str
    """The model whose answer was shown first; may be the same as `second`."""
    second: str
    outcome: Outcome
    labeler: str | None = None
    """None: somebody who is like no other."""
    prompt: Hashable = None
    """None: a prompt like no other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoteColumns:
    """Many votes, by numbers: a million take 40 MB and no loop."""

    models: tuple[str, ...]
    """Those that were voted on, by name."""
    first: Codes
    """[n]: the index of the model whose answer was shown first."""
    second: Codes
    """[n]."""
    outcome: Codes
    """[n]: `FIRST`, `SECOND` or `TIE`."""
    labeler: NDArray[np.integer[Any]]
    """[n]: the same number for the same labeler."""
    prompt: NDArray[np.integer[Any]]
    """[n]."""

    def __len__(self) -> int:
        return len(self.first)

    def games(self) -> Games:
        """The votes as games between models by number."""
        return Games.of(self.first, self.second, self.outcome, players=len(self.models))

    def clusters(self, clusters: Clusters) -> list[Codes]:
        """The cluster of each vote, by each way of clustering: [n]."""
        by_prompt = [self.prompt] if clusters == "labeler and prompt" else []
        return cluster_codes([self.labeler, *by_prompt], n=len(self))

    @classmethod
    def of(cls, votes: Sequence[Vote]) -> VoteColumns:
        """Whoever has no name, or answers no known prompt, is like no other."""
        models = tuple(sorted({name for vote in votes for name in (vote.first, vote.second)}))
        index = {name: number for number, name in enumerate(models)}
        code = {"first": FIRST, "second": SECOND, "tie": TIE}
        labelers: list[Hashable] = [vote.labeler or n for n, vote in enumerate(votes)]
        prompts: list[Hashable] = [
            n if vote.prompt is None else ("", vote.prompt) for n, vote in enumerate(votes)
        ]
        return cls(
            models=models,
            first=np.array([index[vote.first] for vote in votes], np.intp),
            second=np.array([index[vote.second] for vote in votes], np.intp),
            outcome=np.array([code[vote.outcome] for vote in votes], np.intp),
            labeler=numbered(labelers),
            prompt=numbered(prompts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """How strong a model is."""

    model: str
    elo: Estimate
    """With the anchor at 1000; `state` says why there is no interval."""
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ratings:
    """Models by strength, and what else the votes told."""

    ratings: tuple[Rating, ...]
    """The strongest first; those without votes last."""
    anchor: str
    """The model put at 1000."""
    first_advantage: Estimate | None
    """Odds, in logits, of the answer shown first between equals; None if it was not estimated."""
    tie_odds: Estimate | None
    """Davidson's ν: between equals a tie is ν times as likely as a win of either; None if ties were
    counted as halves."""
    votes: int
    labelers: int
    """Clusters behind the intervals."""
    strengths: Strengths | None
    """What the estimates are made of; None without votes."""

    def of(self, model: str) -> Rating:
        """Raises: HarkError for a model that is not among them."""
        for one in self.ratings:
            if one.model == model:
                return one
        names = [one.model for one in self.ratings]
        raise HarkError(f"there is no rating of '{model}'{did_you_mean(model, names)}")

    def win_probability(self, model: str, other: str) -> Estimate:
        """The probability that `model` beats `other` where one of them wins, no place preferred.

        Raises: HarkError for a model that is not among them.
        """
        self.of(model), self.of(other)
        if self.strengths is None:
            return NOTHING
        return self.strengths.gap(model, other, _sigmoid)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        said = (self.first_advantage, self.tie_odds)
        first, tie = (None if one is None else one.to_json() for one in said)
        return {
            "anchor": self.anchor,
            "ratings": [
                {
                    "model": one.model,
                    "elo": one.elo.to_json(),
                    "wins": one.wins,
                    "ties": one.ties,
                    "losses": one.losses,
                }
                for one in self.ratings
            ],
            "first_advantage": first,
            "tie_odds": tie,
            "votes": self.votes,
            "labelers": self.labelers,
        }


def rate(
    votes: Sequence[Vote] | VoteColumns,
    *,
    models: Sequence[str] = (),
    anchor: str | None = None,
    ties: Ties = "davidson",
    order_effect: bool = True,
    clusters: Clusters = "labeler",
    ridge: float = RIDGE,
    intervals: Intervals = "jackknife",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Ratings:
    """Fit a strength to every model.

    models: names to list even if nobody has voted on them.
    anchor: the model at 1000; None is the first, by name, of those with votes.
    order_effect: whether to estimate the advantage of the first place.
    intervals: how they are made (`hark.evaluation.strengths`); resamples and seed are the
    bootstrap's.

    Raises: HarkError for an anchor that is none of the models.
    """
    cast = votes if isinstance(votes, VoteColumns) else VoteColumns.of(votes)
    voted = cast.models
    names = sorted({*voted, *models})
    if anchor is not None and anchor not in names:
        raise HarkError(
            f"the anchor '{anchor}' is none of the models{did_you_mean(anchor, names)}; "
            f"choose one of: {', '.join(names)}"
        )
    anchor = anchor or (voted or names or [""])[0]
    strengths = None
    if len(cast):
        strengths = Strengths.of(
            bradley_terry.fit(cast.games(), ties=ties, order_effect=order_effect, ridge=ridge),
            cast.clusters(clusters),
            models=voted,
            intervals=intervals,
            resamples=resamples,
            level=level,
            seed=seed,
        )
    rated = [_rating(name, anchor, cast, strengths) for name in names]
    rated.sort(key=lambda one: (one.elo.value is None, -(one.elo.value or 0.0), one.model))
    return Ratings(
        ratings=tuple(rated),
        anchor=anchor,
        first_advantage=_first_advantage(strengths) if order_effect else None,
        tie_odds=_tie_odds(strengths) if ties == "davidson" else None,
        votes=len(cast),
        labelers=strengths.clusters if strengths else 0,
        strengths=strengths,
    )


def _rating(model: str, anchor: str, cast: VoteColumns, strengths: Strengths | None) -> Rating:
    wins = ties = losses = 0
    if model in cast.models:
        place = cast.models.index(model)
        others = cast.first != cast.second
        stood_first, stood_second = others & (cast.first == place), others & (cast.second == place)
        won, lost = cast.outcome == FIRST, cast.outcome == SECOND
        wins = int((stood_first & won).sum() + (stood_second & lost).sum())
        ties = int(((stood_first | stood_second) & (cast.outcome == TIE)).sum())
        losses = int((stood_first & lost).sum() + (stood_second & won).sum())
    elo = NOTHING if strengths is None else strengths.gap(model, anchor, _elo)
    return Rating(model=model, elo=elo, wins=wins, ties=ties, losses=losses)


def _first_advantage(strengths: Strengths | None) -> Estimate:
    if strengths is None:
        return NOTHING
    assert strengths.fit.design.order is not None
    return strengths.read(np.eye(len(strengths.fit.beta))[strengths.fit.design.order], float)


def _tie_odds(strengths: Strengths | None) -> Estimate:
    """ν = 0 where nobody has voted for a tie."""
    if strengths is None:
        return NOTHING
    place = strengths.fit.design.ties
    if place is None:
        n = len(strengths.fit.games.kind)
        clusters = strengths.clusters
        return Estimate(value=0.0, low=None, high=None, n=n, clusters=clusters, state="unbounded")
    return strengths.read(np.eye(len(strengths.fit.beta))[place], math.exp)


def _elo(gap: float) -> float:
    return ANCHOR_ELO + elo_of_score_difference(gap)


def _sigmoid(gap: float) -> float:
    return float(special.expit(gap))


def elo_of_score_difference(difference: float) -> float:
    """The Elo gap of a gap in a preference model's score, or in logits: 173.7 for each 1."""
    return ELO_PER_LOGIT * difference


def score_difference_of_elo(difference: float) -> float:
    """The gap in a preference model's score that says the same as an Elo gap."""
    return difference / ELO_PER_LOGIT


def win_probability_of_elo(difference: float) -> float:
    """How often the model that is `difference` Elo ahead wins: 1 / (1 + 10^(−difference/400))."""
    return _sigmoid(score_difference_of_elo(difference))
