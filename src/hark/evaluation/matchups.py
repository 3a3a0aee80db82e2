"""Win rates of every model against every other: the votes as they are, before any model of them.

Beside them, where ratings are given, what those predict.

Rates and intervals are `winrate.win_rate`'s: a tie counts one half; clustered by labeler and by
prompt.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hark.evaluation.elo import Ratings, Vote
from hark.evaluation.residuals import PairFit, pair_fits
from hark.evaluation.winrate import Judgement, WinRate, win_rate


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
    votes: Sequence[Vote],
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
    if models is None:
        models = sorted({name for vote in votes for name in (vote.first, vote.second)})
    judged = collections.defaultdict[tuple[str, str], list[Judgement]](list)
    for place, vote in enumerate(votes):
        prompt: Hashable = place if vote.prompt is None else ("", vote.prompt)
        first = {"first": 1.0, "tie": 0.5, "second": 0.0}[vote.outcome]
        for row, column, outcome in (
            (vote.first, vote.second, first),
            (vote.second, vote.first, 1 - first),
        ):
            judgement = Judgement(outcome=outcome, prompt=prompt, labeler=vote.labeler)
            judged[row, column].append(judgement)
    return [
        Matchup(
            row=row,
            column=column,
            rate=win_rate(judged[row, column], level=level, resamples=resamples, seed=seed),
            fit=fits.get((row, column)),
        )
        for row, column in itertools.permutations(models, 2)
    ]
