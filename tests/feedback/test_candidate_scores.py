"""Scores of preference models: kept, replaced, and refused for what is not there."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from tests.feedback.workshop import Workshop

from hark.feedback import items
from hark.feedback.candidate_scores import CandidateScores, put_scores
from hark.feedback.refusals import InvalidLabelError, NotAllowedError, NotFoundError
from hark.feedback.tables import candidate_scores


def candidate_ids(workshop: Workshop, item_id: str) -> list[str]:
    with workshop.store.read() as connection:
        return [one.id for one in items.candidates_of(connection, item_id)[0]]


def kept(workshop: Workshop) -> set[tuple[str, str, float]]:
    """Model, candidate's id and score, of all studies."""
    told = candidate_scores.c
    with workshop.store.read() as connection:
        rows = connection.execute(select(told.model, told.candidate_id, told.score))
        return {(model, candidate, score) for model, candidate, score in rows}


def test_scores_are_kept_by_model_and_replaced(workshop: Workshop) -> None:
    study = workshop.study("vote")
    (item,) = workshop.votes(study, 1)
    one, other = candidate_ids(workshop, item)
    by = workshop.owner.id
    first = CandidateScores(model="pm-1", scores={one: 1.5, other: -2.0})
    assert put_scores(workshop.store, study.id, first, by=by) == 2
    put_scores(workshop.store, study.id, CandidateScores(model="pm-1", scores={one: 3.0}), by=by)
    put_scores(workshop.store, study.id, CandidateScores(model="pm-2", scores={one: 0.0}), by=by)
    assert kept(workshop) == {("pm-1", one, 3.0), ("pm-1", other, -2.0), ("pm-2", one, 0.0)}


def test_a_candidate_of_another_study_is_refused_and_nothing_is_kept(workshop: Workshop) -> None:
    study = workshop.study("vote")
    (item,) = workshop.votes(study, 1)
    other = workshop.study("vote", name="other-study")
    (elsewhere,) = workshop.votes(other, 1)
    foreign = candidate_ids(workshop, elsewhere)[0]
    scores = {candidate_ids(workshop, item)[0]: 1.0, foreign: 1.0}
    given = CandidateScores(model="pm", scores=scores)
    with pytest.raises(NotFoundError, match=foreign):
        put_scores(workshop.store, study.id, given, by=workshop.owner.id)
    assert kept(workshop) == set()


def test_labelers_give_no_scores_and_infinity_is_none(workshop: Workshop) -> None:
    study = workshop.study("vote")
    labeler = workshop.labeler(study)
    with pytest.raises(NotAllowedError):
        put_scores(workshop.store, study.id, CandidateScores(model="pm", scores={}), by=labeler.id)
    with pytest.raises(InvalidLabelError, match="finite"):
        CandidateScores.read({"model": "pm", "scores": {"x": float("inf")}}, what="these scores")
