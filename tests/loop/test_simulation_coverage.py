"""Intervals of redrawn studies hold the truth as often as they say, and shorter ones do not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hark.evaluation.elo import Vote
from hark.evaluation.intervals import Estimate
from hark.feedback.tasks import VoteTask
from hark.loop.simulation import coverage as tested
from hark.loop.simulation import truths
from hark.loop.simulation.characters import CrowdSettings, crowd
from hark.loop.simulation.coverage import Ballot, coverage, redrawn
from hark.loop.simulation.items import playground_items

DIALS = CrowdSettings(labelers=15)


@pytest.fixture(scope="module")
def ballots() -> list[Ballot]:
    """Sixty items, three labelers each."""
    rng, people, cast = random.Random(0), crowd(DIALS), list[Ballot]()
    for number, item in enumerate(playground_items("vote", 60)):
        assert isinstance(item.task, VoteTask)
        one, two = item.candidates
        for index in rng.sample(range(len(people)), 3):
            ballot = Ballot(
                labeler=index,
                item=str(number),
                prompt=truths.dialogue_of(turn.to_json() for turn in item.task.prompt),
                models=(str(one.snapshot), str(two.snapshot)),
                texts=(one.text, two.text),
                outcome="tie",
            )
            cast.append(replace(ballot, outcome=ballot.outcome_by(people[index])))
    return cast


def test_a_redrawn_study_has_the_shape_of_the_first(ballots: list[Ballot]) -> None:
    again = redrawn(ballots, crowd(DIALS), seed=1)
    assert [(one.labeler, one.item) for one in again] == [
        (one.labeler, one.item) for one in ballots
    ]
    assert again == redrawn(ballots, crowd(DIALS), seed=1)
    assert [one.texts for one in again] != [one.texts for one in ballots]
    said = {frozenset(zip(one.models, one.texts, strict=True)) for one in ballots}
    assert {frozenset(zip(one.models, one.texts, strict=True)) for one in again} <= said


def test_intervals_hold_what_they_state_and_a_fifth_of_them_would_not(
    ballots: list[Ballot], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = coverage(ballots, DIALS, redraws=12)
    assert told is not None
    assert told["redrawn_intervals"] > 80
    assert told["redrawn_coverage"] > 0.85
    whole = tested.estimates

    def short(votes: list[Vote]) -> dict[str, Estimate]:
        return {name: _shorter(one) for name, one in whole(votes).items()}

    monkeypatch.setattr(tested, "estimates", short)
    less = coverage(ballots, DIALS, redraws=12)
    assert less is not None
    assert less["redrawn_coverage"] < 0.5


def _shorter(one: Estimate) -> Estimate:
    if one.value is None or one.low is None or one.high is None:
        return one
    return replace(
        one, low=one.value - (one.value - one.low) / 5, high=one.value + (one.high - one.value) / 5
    )
