"""What the labels of a study say so far: progress, agreement, labelers, votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body

from hark.evaluation.intervals import Estimate
from hark.feedback import candidate_scores, studies
from hark.feedback.candidate_scores import CandidateScores
from hark.feedback.statistics_agreement import QuestionAgreement
from hark.feedback.statistics_progress import Progress, progress
from hark.web.identity import Manager, Place, Staff
from hark.web.results import LabelerResult, results_of

router = APIRouter(tags=["results"])


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementReply:
    """Who agrees with whom."""

    questions: list[QuestionAgreement]
    gold_accuracy: Estimate
    """Share of the known answers given; clustered by labeler and item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How many scores were taken in."""

    kept: int


@router.get("/studies/{name}/progress")
def read_progress(store: Place, _caller: Staff, name: str) -> Progress:
    """Items, places, labels, pace, and the time left at that pace."""
    study = studies.find_study(store, name)
    with store.read() as connection:
        return progress(connection, study.id, now=store.clock())


@router.get("/studies/{name}/agreement")
def read_agreement(store: Place, _caller: Staff, name: str) -> AgreementReply:
    """Percent agreement and Krippendorff's alpha for each question; undefined has its reason."""
    results = results_of(store, studies.find_study(store, name))
    return AgreementReply(questions=results.agreement, gold_accuracy=results.gold_accuracy)


@router.get("/studies/{name}/labelers")
def read_labelers(store: Place, _caller: Staff, name: str) -> list[LabelerResult]:
    """Each labeler's work by pseudonym: speed, gold accuracy, agreement, cost, suspicions."""
    return results_of(store, studies.find_study(store, name)).labelers


@router.get("/studies/{name}/votes")
def read_votes(store: Place, _caller: Staff, name: str) -> dict[str, Any]:
    """Elo of the models that candidates name, and their win rates, with clustered intervals."""
    votes = results_of(store, studies.find_study(store, name)).votes
    return {
        "ratings": votes.ratings.to_json(),
        "matchups": [one.to_json() for one in votes.matchups],
    }


@router.put("/studies/{name}/scores")
def put_scores(
    store: Place, caller: Manager, name: str, given: Annotated[CandidateScores, Body()]
) -> Kept:
    """A preference model's scores of candidates, by id, to hold against the labelers' choices.

    What the model said of the same candidates before is replaced.
    """
    study = studies.find_study(store, name)
    kept = candidate_scores.put_scores(store, study.id, given, by=caller.person.id)
    return Kept(kept=kept)
