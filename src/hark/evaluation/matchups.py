"""Win rates of every model against every other: the votes as they are, before any model of them.

Rates and intervals are `winrate.win_rate`'s: a tie counts one half; clustered by labeler and by
prompt.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hark.evaluation.elo import Vote, VoteColumns
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

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return {"row": self.row, "column": self.column, **self.rate.to_json()}


def matchups(
    votes: Sequence[Vote] | VoteColumns,
    models: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Matchup]:
    """Every ordered pair of different models, row by row; None for all that were voted on."""
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
        found.append(Matchup(row=row, column=column, rate=rate))
    return found
