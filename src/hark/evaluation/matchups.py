"""Win rates of every model against every other: the votes as they are, before any model of them.

Beside them, where ratings are given, what those predict.

Rates and intervals are `winrate.win_rate`'s: a tie counts one half; clustered by labeler and by
prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from hark.evaluation.elo import Ratings, Vote, VoteColumns
from hark.evaluation.residuals import PairFit, pair_fits
from hark.evaluation.winrate import WinRate, rate_of_outcomes

FOR_THE_FIRST = np.array([1.0, 0.0, 0.5])
"""What `FIRST`, `SECOND` and `TIE` are worth to the model that was shown first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matchup:
    """How often one model won against another."""

    row: str
    column: str
    rate: WinRate
    """Of `row`; without an interval where nobody has compared the two."""
    fit: PairFit | None = None
    """What ratings say of the two; None without ratings or games."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return {
            "row": self.row,
            "column": self.column,
            **self.rate.to_json(),
            "predicted": None if self.fit is None else self.fit.predicted,
            "residual": None if self.fit is None else self.fit.residual,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        rest = dict(values)
        row, column = rest.pop("row"), rest.pop("column")
        predicted, residual = rest.pop("predicted", None), rest.pop("residual", None)
        fit = None if predicted is None else PairFit(predicted=predicted, residual=residual)
        return cls(row=row, column=column, rate=WinRate.from_json(rest), fit=fit)


def matchups(
    votes: Sequence[Vote] | VoteColumns,
    models: Sequence[str] | None = None,
    *,
    ratings: Ratings | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Matchup]:
    """Every ordered pair of different models, row by row; None for all that were voted on.

    ratings: of the same votes, for what they predict of each pair.
    """
    fits = {} if ratings is None or ratings.strengths is None else pair_fits(ratings.strengths)
    cast = votes if isinstance(votes, VoteColumns) else VoteColumns.of(votes)
    place = {name: number for number, name in enumerate(cast.models)}
    found = []
    for row, column in itertools.permutations(cast.models if models is None else models, 2):
        one, other = place.get(row, -1), place.get(column, -1)
        ahead = (cast.first == one) & (cast.second == other)
        these = np.flatnonzero(ahead | (cast.first == other) & (cast.second == one))
        first_won = FOR_THE_FIRST[cast.outcome[these]]
        rate = rate_of_outcomes(
            np.where(ahead[these], first_won, 1 - first_won),
            [cast.prompt[these], cast.labeler[these]],
            level=level,
            resamples=resamples,
            seed=seed,
        )
        fit = fits.get((row, column))
        found.append(Matchup(row=row, column=column, rate=rate, fit=fit))
    return found
