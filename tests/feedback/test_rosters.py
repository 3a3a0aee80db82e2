"""Who takes part in which study."""

from __future__ import annotations

import pytest
from tests.feedback.workshop import Clock, Workshop

from hark.errors import SettingsError
from hark.feedback import accounts, rosters, studies
from hark.feedback.refusals import ConflictError, NotAllowedError, NotFoundError


def test_a_labeler_has_their_own_studies_and_a_manager_all(
    workshop: Workshop, clock: Clock
) -> None:
    first = workshop.study()
    clock.now += 1
    second = workshop.study("audit")
    person = workshop.labeler(first)
    ((found, member),) = rosters.list_studies(workshop.store, person.id)
    assert (found.id, member and member.state) == (first.id, "active")
    everything = rosters.list_studies(workshop.store, workshop.owner.id)
    assert [(study.id, member) for study, member in everything] == [
        (second.id, None),
        (first.id, None),
    ]


def test_a_study_of_others_is_not_found_under_its_name(workshop: Workshop) -> None:
    study, other = workshop.study(), workshop.study("audit")
    person = workshop.labeler(study)
    found = rosters.find_own_study(workshop.store, study.settings.name, person.id)
    assert found.id == study.id
    with pytest.raises(NotFoundError):
        rosters.find_own_study(workshop.store, other.settings.name, person.id)


def test_members_are_listed_in_the_order_in_which_they_came(
    workshop: Workshop, clock: Clock
) -> None:
    study = workshop.study(categories={"violence": "Violent."})
    first = workshop.labeler(study, held_out=True)
    clock.now += 1
    second = workshop.labeler(study)
    studies.opt_in(workshop.store, study.id, second.id, "violence", client_key="k")
    accounts.forget(workshop.store, first.id, by=workshop.owner.id)
    listed = rosters.list_members(workshop.store, study.id)
    assert [one.person.id for one in listed] == [first.id, second.id]
    assert [one.person.login is None for one in listed] == [True, False]
    assert [one.member.held_out for one in listed] == [True, False]
    assert [sorted(one.member.categories) for one in listed] == [[], ["violence"]]


def test_a_manager_holds_a_labeler_out(workshop: Workshop) -> None:
    study = workshop.study()
    person = workshop.labeler(study)
    by = workshop.owner.id
    assert studies.set_held_out(workshop.store, study.id, person.id, True, by=by).held_out
    assert not studies.set_held_out(workshop.store, study.id, person.id, False, by=by).held_out
    with pytest.raises(NotAllowedError):
        studies.set_held_out(workshop.store, study.id, person.id, True, by=person.id)
    with pytest.raises(NotAllowedError):
        studies.set_held_out(workshop.store, study.id, by, True, by=by)


def test_everyone_with_an_account_is_listed_but_not_those_forgotten(
    workshop: Workshop, clock: Clock
) -> None:
    clock.now += 1
    person = workshop.labeler()
    assert [one.id for one in accounts.list_people(workshop.store)] == [
        workshop.owner.id,
        person.id,
    ]
    accounts.forget(workshop.store, person.id, by=workshop.owner.id)
    assert [one.id for one in accounts.list_people(workshop.store)] == [workshop.owner.id]


def test_changes_of_a_study_leave_the_other_settings(workshop: Workshop) -> None:
    study = workshop.study(gold_fraction=0.5)
    by = workshop.owner.id
    studies.change_study(workshop.store, study.id, {"title": "Another"}, by=by)
    changed = studies.change_study(workshop.store, study.id, {"round": 2}, by=by)
    assert changed.settings == study.settings.model_copy(update={"title": "Another", "round": 2})
    with pytest.raises(SettingsError, match="'round': Input should be"):
        studies.change_study(workshop.store, study.id, {"round": -1}, by=by)
    with pytest.raises(ConflictError, match="the task of study"):
        studies.change_study(workshop.store, study.id, {"task": "audit"}, by=by)
