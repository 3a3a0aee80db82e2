"""How far studies are, and how well labelers agree."""

from __future__ import annotations

from typing import Any

import pytest
from tests.feedback.workshop import Workshop

from hark.feedback import assignment, labelling
from hark.feedback.assignment import Assignment
from hark.feedback.overview import overview
from hark.feedback.refusals import NotFoundError


def vote(workshop: Workshop, study: Any, *texts: str) -> None:
    """A new labeler prefers these, item by item."""
    person = workshop.labeler(study)
    for text in texts:
        held = assignment.claim(workshop.store, study.id, person.id)
        assert isinstance(held, Assignment)
        seen = labelling.view(workshop.store, held.id, person.id).candidates
        chosen = next(one["id"] for one in seen if one["text"] == text)
        labelling.submit(
            workshop.store, held.id, person.id, "vote", {"chosen": chosen}, client_key=held.id
        )


def test_a_study_is_counted(workshop: Workshop) -> None:
    study = workshop.study("vote", overlap=2)
    workshop.votes(study, 3)
    workshop.votes(study, 1, use="gold", gold={"chosen": "0"})
    vote(workshop, study, "a", "a")
    vote(workshop, study, "a", "b")
    assignment.claim(workshop.store, study.id, workshop.labeler(study).id)
    (found,) = overview(workshop.store)
    assert (found.study, found.state, found.task) == ("vote-study", "open", "vote")
    assert (found.items, found.full, found.working) == (3, 2, 1)
    assert (found.labels, found.labelers) == (4, 2)
    assert found.agreement == pytest.approx(0.5)


def test_one_study_by_name(workshop: Workshop) -> None:
    workshop.study("vote")
    workshop.study("audit")
    assert [one.study for one in overview(workshop.store)] == ["vote-study", "audit-study"]
    assert [one.task for one in overview(workshop.store, "audit-study")] == ["audit"]
    with pytest.raises(NotFoundError):
        overview(workshop.store, "other")
