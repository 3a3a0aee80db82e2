"""Progress, pace and history of a study; labels followed as they come."""

from __future__ import annotations

import numpy as np
import pytest
from tests.feedback.workshop import Clock, Workshop

from hark.feedback import assignment, events, labelling
from hark.feedback.assignment import Assignment
from hark.feedback.statistics_columns import Columns
from hark.feedback.statistics_labels import label_of
from hark.feedback.statistics_progress import Filled, Progress, history, pace, progress
from hark.feedback.studies import Study
from hark.web.results import label_times

HOUR = 3600.0


def vote(workshop: Workshop, study_id: str, person_id: str, key: str) -> str:
    given = assignment.claim(workshop.store, study_id, person_id)
    assert isinstance(given, Assignment)
    shown = labelling.view(workshop.store, given.id, person_id)
    answer = {"chosen": shown.candidates[0]["id"]}
    return labelling.submit(
        workshop.store, given.id, person_id, "vote", answer, client_key=key
    ).event.id


def filled(times: list[float], now: float) -> Filled:
    recent = sum(one > now - HOUR for one in times)
    return Filled(places=len(times), last_hour=recent, first_at=min(times, default=None))


def counted(workshop: Workshop, study: Study, now: float) -> Progress:
    """Of the whole log."""
    columns = Columns()
    with workshop.store.read() as connection:
        columns.fold(connection, study.id)
        return progress(connection, study.id, now=now, label_times=label_times(columns))


def test_pace_is_of_the_last_hour() -> None:
    times = [0.0, 100.0, 4000.0, 5000.0, 6000.0]
    assert pace(filled(times, 7000.0), 7000.0).per_hour == pytest.approx(3)  # after 3400


def test_pace_of_a_study_younger_than_an_hour_is_of_its_age() -> None:
    assert pace(filled([0.0, 300.0, 600.0], 1800.0), 1800.0).per_hour == pytest.approx(6)
    # of a minute, not of a second
    assert pace(filled([0.0, 1.0], 1.0), 1.0).per_hour == pytest.approx(120)


@pytest.mark.parametrize(
    ("times", "because"),
    [
        ([], "nothing was finished in the last hour"),
        ([0.0, 1.0], "nothing was finished in the last hour"),
        ([9000.0], "only one place is filled"),
    ],
)
def test_pace_is_undefined_with_a_reason(times: list[float], because: str) -> None:
    found = pace(filled(times, 9001.0), 9001.0)
    assert found.per_hour is None
    assert found.because == because


def test_history_takes_the_shortest_spell_that_shows_all() -> None:
    short = history([60.0, 61.0, 200.0], 250.0)
    assert short is not None
    assert (short.start, short.seconds, short.counts) == (60.0, 60.0, (2, 0, 1, 1 - 1))
    long = history([0.0, 10 * HOUR], 40 * HOUR)
    assert long is not None
    assert long.seconds == HOUR
    assert (len(long.counts), sum(long.counts)) == (41, 2)
    assert history([], 10.0) is None


def test_places_are_filled_and_the_time_left_follows_from_the_pace(
    workshop: Workshop, clock: Clock
) -> None:
    study = workshop.study("vote", overlap=2)
    workshop.votes(study, 3)
    workshop.votes(study, 1, use="gold", gold={"chosen": "0"})
    one, other = workshop.labeler(study), workshop.labeler(study)
    vote(workshop, study.id, one.id, "1")
    clock.now += 600
    vote(workshop, study.id, other.id, "1")
    clock.now += 600
    found = counted(workshop, study, clock.now)
    assert (found.places, found.filled, found.labels) == (6, 2, 2)
    assert found.pace.per_hour == pytest.approx(6)  # two in twenty minutes
    assert found.seconds_left == pytest.approx(4 / 6 * HOUR)
    train, gold = found.uses
    assert (train.use, train.items, train.full, train.labelled) == ("train", 3, 1, 2)
    assert (gold.use, gold.items, gold.waiting) == ("gold", 1, 0)


def test_an_empty_study_has_nothing_left_undefined_time_and_no_history(
    workshop: Workshop, clock: Clock
) -> None:
    study = workshop.study("vote")
    found = counted(workshop, study, clock.now)
    assert (found.places, found.uses, found.history) == (0, (), None)
    assert found.seconds_left is None


def test_items_without_responses_are_waiting(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study("vote")
    workshop.votes(study, 2, texts=("whole", ""))
    (train,) = counted(workshop, study, clock.now).uses
    assert train.waiting == 2


def test_columns_follow_labels_corrections_and_retractions(workshop: Workshop) -> None:
    study = workshop.study("vote")
    workshop.votes(study, 2)
    person = workshop.labeler(study)
    columns = Columns()

    def read() -> list[int]:
        """The preferences that stand."""
        with workshop.store.read() as connection:
            columns.fold(connection, study.id)
        said = columns.answers(np.ones(len(columns.labels), bool))
        return [int(value) for one in said for value in one.value]

    assert read() == []
    first = vote(workshop, study.id, person.id, "1")
    second = vote(workshop, study.id, person.id, "2")
    before = read()
    assert len(before) == 2
    labelling.correct(workshop.store, first, person.id, {"chosen": None}, client_key="3")
    assert read() == [before[1], 0]
    labelling.correct(workshop.store, second, person.id, None, client_key="4")
    assert read() == [0]
    assert columns.labels["milliseconds"].tolist() == [-1, -1, -1]


def test_what_was_read_and_written_is_counted_in_characters(workshop: Workshop) -> None:
    study = workshop.study("vote")
    workshop.votes(study, 1)  # "Question 0" and two responses of one character
    person = workshop.labeler(study)
    vote(workshop, study.id, person.id, "1")
    with workshop.store.read() as connection:
        (event,) = events.iterate(connection, study_id=study.id, kinds=("vote",))
    label = label_of(event)
    assert label.read_characters == len("Question 0") + 2
    assert label.written_characters == 0
