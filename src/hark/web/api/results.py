"""What the labels of a study say so far: progress, agreement, labelers, votes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query

from hark.evaluation.intervals import Estimate
from hark.feedback import candidate_scores, studies
from hark.feedback.candidate_scores import CandidateScores
from hark.feedback.refusals import NotAllowedError
from hark.feedback.statistics_agreement import QuestionAgreement
from hark.feedback.statistics_progress import Progress
from hark.feedback.studies import MANAGERS
from hark.web.api.descriptions import KNOWN, StudyName, refusals
from hark.web.api.seen import Managed
from hark.web.identity import Manager, Place, Staff
from hark.web.results import LabelerResult, Results, results_of

router = APIRouter(tags=["results"], dependencies=KNOWN)


def watched_results(
    store: Place,
    caller: Staff,
    name: StudyName,
    fresh: Annotated[
        bool, Query(description="Wait for a new computation; for owners and researchers.")
    ] = False,
) -> Results:
    """Of any study, for all but labelers. Raises: NotAllowedError before NotFoundError."""
    if fresh and caller.person.role not in MANAGERS:
        raise NotAllowedError("fresh results are for the owner and the researchers: leave it out")
    return results_of(store, studies.find_study(store, name), fresh=fresh)


Watched = Annotated[Results, Depends(watched_results)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReply(Progress):
    """How far a study is."""

    as_of: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelersReply:
    """Those who have labelled, those with most labels first."""

    labelers: list[LabelerResult]
    as_of: float
    """Seconds since 1970."""


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
def read_progress(results: Watched) -> ProgressReply:
    """Items, places, labels, pace, and the time left at that pace."""
    counted = results.progress
    fields = {one.name: getattr(counted, one.name) for one in dataclasses.fields(counted)}
    return ProgressReply(**fields, as_of=results.as_of)


@router.get("/studies/{name}/agreement", responses=refusals(401, 403, 404))
def read_agreement(results: Watched) -> AgreementReply:
    """Percent agreement and Krippendorff's alpha for each question; undefined has its reason."""
    return AgreementReply(
        questions=results.agreement, gold_accuracy=results.gold_accuracy, as_of=results.as_of
    )


@router.get("/studies/{name}/labelers", responses=refusals(401, 403, 404))
def read_labelers(results: Watched) -> LabelersReply:
    """Each labeler's work by pseudonym: speed, gold accuracy, agreement, cost, suspicions."""
    return LabelersReply(labelers=results.labelers, as_of=results.as_of)


@router.get("/studies/{name}/votes", responses=refusals(401, 403, 404))
def read_votes(results: Watched) -> dict[str, Any]:
    """Elo of the models that candidates name, and their win rates, with clustered intervals."""
    return results.votes.to_json() | {"as_of": results.as_of}


@router.put("/studies/{name}/scores", responses=refusals(400, 401, 403, 404))
def put_scores(
    store: Place, caller: Manager, study: Managed, given: Annotated[CandidateScores, Body()]
) -> Kept:
    """A preference model's scores of candidates, by id, to hold against the labelers' choices.

    What the model said of the same candidates before is replaced.
    """
    kept = candidate_scores.put_scores(store, study.id, given, by=caller.person.id)
    return Kept(kept=kept)
