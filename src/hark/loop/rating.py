"""The stage `rate`: from votes between models to their ratings.

Bai et al. (2204.05862): strengths by maximum likelihood of the votes, shown as Elo.
The mathematics and its departures are in `hark.evaluation.elo`.

1. A primary comparison can be named before the votes are seen: it is in the run's config.json, and
   its win rate stands apart from all the others that one could have looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from hark.errors import SettingsError, did_you_mean
from hark.evaluation.bradley_terry import Ties
from hark.evaluation.elo import RIDGE, Clusters, Ratings, Vote, rate
from hark.evaluation.intervals import Estimate
from hark.evaluation.matchups import matchups
from hark.evaluation.strengths import Intervals
from hark.evaluation.winrate import WinRate
from hark.loop.votes import read_votes, vote_files
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.settings import Settings
from hark.training.examples import Paths


class PrimarySettings(Settings):
    """The one comparison that a study is about, named before the votes are seen."""

    model: str
    """Whose win rate."""
    against: str
    """Over whom."""

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.model == self.against:
            raise ValueError(f"'{self.model}' cannot be compared with itself")
        return self


class RatingSettings(Settings):
    """How votes become ratings."""

    anchor: str | None = None
    """The model at 1000 Elo; without one, the first by name."""
    ties: Ties = "davidson"
    """Ties as part of the model (Davidson 1970), or each as half a win for both."""
    order_effect: bool = True
    """Estimate the advantage of being shown first, so that it does not pass for strength."""
    ridge: float = Field(default=RIDGE, gt=0, allow_inf_nan=False)
    """Weight of the penalty on squared strengths, in logits; keeps a model that won every vote
    finite."""
    clusters: Clusters = "labeler"
    """Votes that are taken together in intervals: those of a labeler, or of a labeler and also
    those on a prompt."""
    intervals: Intervals = "jackknife"
    """From leaving out one cluster at a time, or from a bootstrap over clusters (docs/elo.md has
    the coverage of both)."""
    resamples: int = Field(default=1000, ge=100)
    """Of the bootstrap."""
    level: float = Field(default=0.95, gt=0.5, lt=1)
    """Share of such intervals that is meant to hold the truth."""

    @model_validator(mode="after")
    def _refuse_ignored_resamples(self) -> Self:
        if self.intervals == "jackknife" and "resamples" in self.model_fields_set:
            raise ValueError("resamples would be ignored: intervals are by the jackknife")
        return self

    def rate(self, votes: Sequence[Vote], *, seed: int) -> Ratings:
        """Rate as set. Raises: HarkError for an anchor on whom nobody has voted."""
        return rate(
            votes,
            anchor=self.anchor,
            ties=self.ties,
            order_effect=self.order_effect,
            clusters=self.clusters,
            ridge=self.ridge,
            intervals=self.intervals,
            resamples=self.resamples,
            level=self.level,
            seed=seed,
        )


class VoteSettings(RatingSettings):
    """How votes become ratings, and which comparison they were cast for."""

    primary: PrimarySettings | None = None
    """The comparison that the study is about; stated before, recorded with the run."""


class RateSettings(DataStageSettings, VoteSettings):
    """Rate models by votes: Elo with intervals, and who won how often against whom."""

    data: Paths
    """Files of votes: comparisons that name the models of their responses, arena battles, or
    exports of the feedback application."""


def rate_inputs(settings: RateSettings) -> list[Path]:
    """The files of votes."""
    return vote_files(settings.data)


def run_rate(settings: RateSettings, run: Run) -> dict[str, Any]:
    """Rate the models that the files vote on."""
    cast = read_votes(settings.data, settings, run)
    return {
        "votes": len(cast.votes),
        **({"left_out": cast.left_out} if cast.left_out else {}),
        "judges": [judged("votes", cast.votes, settings, seed=settings.seed)],
    }


def judged(
    judge: str, votes: Sequence[Vote], settings: VoteSettings, *, seed: int
) -> dict[str, Any]:
    """What the votes of one judge, or kind of judge, say: for results.json.

    Raises: SettingsError if the anchor or the primary comparison is of models without votes.
    """
    models = sorted({name for vote in votes for name in (vote.first, vote.second)})
    _require_models(settings, models, judge)
    ratings = settings.rate(votes, seed=seed)
    order = [one.model for one in ratings.ratings]
    table = matchups(votes, order, ratings=ratings, level=settings.level, seed=seed)
    found: dict[str, Any] = {
        "judge": judge,
        **ratings.to_json(),
        "matchups": [one.to_json() for one in table],
    }
    if settings.primary is not None:
        wanted = (settings.primary.model, settings.primary.against)
        rates = {(one.row, one.column): one.rate for one in table}
        found["primary"] = _primary(*wanted, rates[wanted])
    return found


def _primary(model: str, against: str, rate: WinRate) -> dict[str, Any]:
    """The named comparison, and what its interval says."""
    return {
        "model": model,
        "against": against,
        **rate.to_json(),
        "finding": finding(model, against, rate.estimate),
    }


def finding(model: str, against: str, rate: Estimate) -> str:
    """Who is preferred, where the interval leaves no doubt."""
    if rate.low is None or rate.high is None:
        return f"Too little to say between {model} and {against}: {rate.state}."
    ends = f"{100 * rate.value:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f} %)"  # type: ignore[operator]
    if rate.low > 0.5:
        return f"{model} is preferred to {against}: {ends}."
    if rate.high < 0.5:
        return f"{against} is preferred to {model}: {model} wins {ends}."
    return f"Neither of {model} and {against} is clearly preferred: {model} wins {ends}."


def _require_models(settings: VoteSettings, models: Sequence[str], judge: str) -> None:
    named = {"anchor": settings.anchor}
    if settings.primary is not None:
        named |= {
            "primary.model": settings.primary.model,
            "primary.against": settings.primary.against,
        }
    for setting, name in named.items():
        if name is not None and name not in models:
            raise SettingsError(
                f"{setting} is '{name}', on whom '{judge}' has not voted"
                f"{did_you_mean(name, models)}; voted on: {', '.join(models)}"
            )
