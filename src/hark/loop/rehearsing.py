"""The stage `rehearse`: a study of votes, simulated before anybody votes.

How wide will intervals be with so many labelers and votes, and do they hold the truth as often as
they state? `hark.evaluation.rehearsal` draws the study again and again at planted ratings.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from hark.evaluation.rehearsal import PlantedStudy, rehearse
from hark.loop.rating import RatingSettings
from hark.runs.run import Run
from hark.runs.settings import StageSettings

FURTHEST_LOGITS = 100.0
"""Nobody's odds are further apart; beyond it arithmetic overflows."""
FURTHEST_ELO = 1e5


class RehearseSettings(StageSettings, RatingSettings):
    """Simulate a study of votes at planted ratings: width of its intervals, and their coverage."""

    ratings: dict[str, float] = Field(default={"A": 1000.0, "B": 1100.0, "C": 1200.0}, min_length=2)
    """Model → its planted Elo."""
    labelers: int = Field(default=20, ge=2)
    """How many people vote."""
    votes_per_labeler: int = Field(default=50, ge=1)
    """Votes of each, on pairs drawn evenly."""
    labeler_spread: float = Field(default=0.8, ge=0, le=FURTHEST_LOGITS)
    """Standard deviation, over labelers, of the gap that they see between two models, in logits."""
    prompts: int = Field(default=0, ge=0)
    """Prompts that the votes share; 0: each vote has its own."""
    prompt_spread: float = Field(default=0.0, ge=0, le=FURTHEST_LOGITS)
    """As labeler_spread, over prompts."""
    first_advantage: float = Field(default=0.0, ge=-FURTHEST_LOGITS, le=FURTHEST_LOGITS)
    """Odds of the reply shown first between equals, in logits."""
    tie_odds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How much likelier a tie is than a win of either, between equals."""
    studies: int = Field(default=200, ge=2)
    """How often the study is drawn."""

    @field_validator("ratings")
    @classmethod
    def _within_reach(cls, ratings: dict[str, float]) -> dict[str, float]:
        for model, elo in ratings.items():
            if not abs(elo) <= FURTHEST_ELO:
                raise ValueError(f"the rating {elo:g} of '{model}' is beyond ±{FURTHEST_ELO:g} Elo")
        return ratings


def run_rehearse(settings: RehearseSettings, run: Run) -> dict[str, Any]:
    """Draw the study again and again, rate it, and hold the ratings against the planted ones."""
    study = PlantedStudy(
        ratings=settings.ratings,
        labelers=settings.labelers,
        votes_per_labeler=settings.votes_per_labeler,
        labeler_spread=settings.labeler_spread,
        prompts=settings.prompts,
        prompt_spread=settings.prompt_spread,
        first_advantage=settings.first_advantage,
        tie_odds=settings.tie_odds,
    )

    found = rehearse(
        study,
        lambda votes: settings.rate(votes, seed=settings.seed),
        ties=settings.ties,
        order_effect=settings.order_effect,
        studies=settings.studies,
        seed=settings.seed,
    )
    return {
        "studies": settings.studies,
        "coverage": found.held.to_json(),
        "elo_width": found.width.to_json(),
        "elo_error": found.error.to_json(),
        "undefined": found.undefined,
    }
