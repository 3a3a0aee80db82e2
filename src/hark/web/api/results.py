"""What the labels of a study say so far: progress, agreement, labelers, votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from hark.evaluation.intervals import Estimate
from hark.feedback import candidate_scores, studies
from hark.feedback.candidate_scores import CandidateScores
from hark.feedback.statistics_agreement import QuestionAgreement
from hark.feedback.statistics_progress import Progress
from hark.feedback.studies import Study
from hark.web.api.descriptions import KNOWN, StudyName, refusals
from hark.web.api.seen import Managed
from hark.web.identity import Manager, Place, Staff
from hark.web.results import LabelerResult, results_of

router = APIRouter(tags=["results"], dependencies=KNOWN)


def watched_study(store: Place, _caller: Staff, name: StudyName) -> Study:
    """Any study, for all but labelers. Raises: NotAllowedError before NotFoundError."""
    return studies.find_study(store, name)


Watched = Annotated[Study, Depends(watched_study)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementReply:
    """Who agrees with whom."""

    questions: list[QuestionAgreement]
    gold_accuracy: Estimate
    """Share of the known answers given; clustered by labeler and item."""
    as_of: float
    """Seconds since 1970; of many labels these are not counted anew at every request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How many scores were taken in."""

    kept: int


@router.get("/studies/{name}/progress", responses=refusals(401, 403, 404))
def read_progress(store: Place, study: Watched) -> Progress:
    """Items, places, labels, pace, and the time left at that pace."""
    return results_of(store, study).progress


@router.get("/studies/{name}/agreement", responses=refusals(401, 403, 404))
def read_agreement(store: Place, study: Watched) -> AgreementReply:
    """Percent agreement and Krippendorff's alpha for each question; undefined has its reason."""
    results = results_of(store, study)
    return AgreementReply(
        questions=results.agreement, gold_accuracy=results.gold_accuracy, as_of=results.as_of
    )


@router.get("/studies/{name}/labelers", responses=refusals(401, 403, 404))
def read_labelers(store: Place, study: Watched) -> list[LabelerResult]:
    """Each labeler's work by pseudonym: speed, gold accuracy, agreement, cost, suspicions."""
    return results_of(store, study).labelers


@router.get("/studies/{name}/votes", responses=refusals(401, 403, 404))
def read_votes(store: Place, study: Watched) -> dict[str, Any]:
    """Elo of the models that candidates name, and their win rates, with clustered intervals."""
    return results_of(store, study).votes.to_json()


@router.put("/studies/{name}/scores", responses=refusals(400, 401, 403, 404))
def put_scores(
    store: Place, caller: Manager, study: Managed, given: Annotated[CandidateScores, Body()]
) -> Kept:
    """A preference model's scores of candidates, by id, to hold against the labelers' choices.

    What the model said of the same candidates before is replaced.
    """
    kept = candidate_scores.put_scores(store, study.id, given, by=caller.person.id)
    return Kept(kept=kept)
