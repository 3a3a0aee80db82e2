"""Results of a log folded in pieces, held against what it says counted from scratch."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update
from tests.feedback.workshop import Clock, Workshop

from hark.evaluation.elo import Vote, rate
from hark.evaluation.matchups import matchups
from hark.feedback import (
    accounts,
    assignment,
    events,
    items,
    labelling,
    statistics_columns,
    studies,
)
from hark.feedback.accounts import Person
from hark.feedback.agreement import krippendorff_alpha, percent_agreement
from hark.feedback.assignment import Assignment
from hark.feedback.items import NewItem
from hark.feedback.statistics_agreement import opinions
from hark.feedback.statistics_columns import Columns
from hark.feedback.statistics_labels import label_of
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.feedback.tables import items as items_table
from hark.feedback.tables import people
from hark.feedback.votes import votes_of
from hark.web import results
from hark.web.results import Watch, results_of

TABLES = ("labels", "pairs", "marks")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workshop(tmp_path: Path, clock: Clock) -> Iterator[Workshop]:
    """On a clock that goes when it is told to."""
    with Store(tmp_path / "feedback.db", clock=clock) as store:
        yield Workshop(store)


def rankings(workshop: Workshop, study: Study, count: int) -> None:
    for number in range(count):
        gold = {"use": "gold", "gold": {"ranking": [["0"], ["1"]]}} if number % 4 == 3 else {}
        task = {
            "kind": "ranking", "flags": ["rude"],
            "prompt": [{"role": "user", "content": f"Question {number}"}],
        }  # fmt: skip
        candidates = [{"text": text, "snapshot": f"model-{text}"} for text in "abcd"]
        new = NewItem.read({"task": task, "candidates": candidates, **gold}, what="a test")
        items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)


def test_a_label_whose_response_names_its_model_is_no_vote(workshop: Workshop) -> None:
    study = workshop.study("vote", overlap=3)
    for texts in (("I am tiny-7 by trade", "so"), ("yes", "no")):
        said = [{"text": text, "snapshot": f"tiny-{7 + n}"} for n, text in enumerate(texts)]
        task = {"kind": "vote", "prompt": [{"role": "user", "content": texts[0]}]}
        new = NewItem.read({"task": task, "candidates": said}, what="a test")
        items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)
    person = workshop.labeler(study)
    for key in "ab":
        held = assignment.claim(workshop.store, study.id, person.id)
        assert isinstance(held, Assignment)
        best = labelling.view(workshop.store, held.id, person.id).candidates[0]["id"]
        labelling.submit(
            workshop.store, held.id, person.id, "vote", {"chosen": best}, client_key=key
        )
    kept = votes_of(workshop.events(study_id=study.id))
    assert kept.left_out == {"of a response that names its model": 1}
    found = results_of(workshop.store, study)
    assert (found.labels, found.votes.ratings.votes, len(kept.ballots)) == (2, 1, 1)


def rank(draw: random.Random, ids: list[str]) -> dict[str, Any]:
    order = sorted(ids, key=lambda _: draw.random())
    groups = [order[:1], order[1:3], order[3:]] if draw.random() < 0.3 else [[one] for one in order]
    return {
        "likert": {one: draw.randint(1, 7) for one in ids},
        "flags": {one: {"rude": draw.random() < 0.3} for one in ids},
        "ranking": groups,
    }


def label_at_random(workshop: Workshop, study: Study, clock: Clock, draw: random.Random) -> None:
    """Four labelers and a researcher, who skip, correct and take back; one is forgotten."""
    store, hands = workshop.store, [workshop.labeler(study) for _ in range(4)]
    with store.write() as connection:
        hands.append(
            accounts.insert_person(
                connection, f"researcher-{clock.now}", "x", "researcher", clock.now
            )
        )
    studies.join(store, study.id, hands[-1].id)
    mine: list[tuple[Person, str, list[str]]] = []
    for turn in range(60):
        clock.now += draw.uniform(1, 50)
        person = draw.choice(hands)
        held = assignment.claim(store, study.id, person.id)
        if not isinstance(held, Assignment):
            continue
        clock.now += draw.uniform(1, 50)
        if draw.random() < 0.1:
            assignment.skip(store, held.id, person.id, "other", client_key=f"s{turn}")
            continue
        ids = [one["id"] for one in labelling.view(store, held.id, person.id).candidates]
        client = labelling.Client(ms_active=draw.choice((None, draw.randrange(90_000))))
        kept = labelling.submit(
            store, held.id, person.id, "ranking", rank(draw, ids), client_key=f"k{turn}",
            client=client,
        )  # fmt: skip
        mine.append((person, kept.event.id, ids))
        if draw.random() < 0.3:
            who, event, shown = mine.pop(draw.randrange(len(mine)))
            answer = None if draw.random() < 0.3 else rank(draw, shown)
            again = labelling.correct(store, event, who.id, answer, client_key=f"c{turn}")
            if answer is not None:
                mine.append((who, again.id, shown))
    accounts.forget(store, hands[0].id, by=workshop.owner.id)


@pytest.fixture
def study(workshop: Workshop, clock: Clock) -> Study:
    made = workshop.study("ranking", overlap=3, gold_fraction=0.25, pay_per_hour=20.0)
    rankings(workshop, made, 24)
    label_at_random(workshop, made, clock, random.Random(5))
    return made


def test_folded_at_random_cuts_is_folded_at_once(workshop: Workshop, study: Study) -> None:
    draw = random.Random(1)
    with workshop.store.read() as connection:
        whole = Columns()
        count = whole.fold(connection, study.id)
        assert count > 60
        for _ in range(5):
            pieces = Columns()
            while pieces.fold(connection, study.id, most=draw.randint(1, 12)):
                pass
            for name in TABLES:
                one, other = getattr(whole, name), getattr(pieces, name)
                for column in one._columns:
                    np.testing.assert_array_equal(one[column], other[column], err_msg=column)
            assert (pieces.skips, pieces.authors) == (whole.skips, whole.authors)


@pytest.mark.parametrize("fails", ["gold_mark", "opinions_beside_preference", "preferences"])
def test_a_label_that_cannot_be_read_is_not_folded_in_by_halves(
    workshop: Workshop, study: Study, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def cannot(*_: object) -> None:
        raise KeyError("chosen")

    columns, whole = Columns(), Columns()
    with workshop.store.read() as connection:
        whole.fold(connection, study.id)
        monkeypatch.setattr(statistics_columns, fails, cannot)
        sizes = []
        for _ in range(3):
            with pytest.raises(KeyError):
                columns.fold(connection, study.id)
            sizes.append([len(getattr(columns, name)) for name in TABLES])
        assert sizes[0] == sizes[1] == sizes[2]
        monkeypatch.undo()
        columns.fold(connection, study.id)
    for name in TABLES:
        one, other = getattr(whole, name), getattr(columns, name)
        for column in one._columns:
            np.testing.assert_array_equal(one[column], other[column], err_msg=column)


def test_gold_that_an_older_version_took_for_ratings_on_axes_gives_no_mark(
    workshop: Workshop,
) -> None:
    study = workshop.study("summary", gold_fraction=1.0)
    rated = {"kind": "summary", "post": "P", "asks": "axes", "axes": ["accuracy"]}
    new = NewItem.read({"task": rated, "candidates": [{"text": "one"}]}, what="a test")
    (item,) = items.add_items(workshop.store, study.id, [new], by=workshop.owner.id)
    with workshop.store.write() as connection:
        values = {"use": "gold", "gold": {"chosen": "0"}}
        connection.execute(update(items_table).where(items_table.c.id == item).values(values))
    ann = workshop.labeler(study)
    held = assignment.claim(workshop.store, study.id, ann.id)
    assert isinstance(held, Assignment)
    given = {"ratings": {"accuracy": 6}}
    labelling.submit(workshop.store, held.id, ann.id, "axes", given, client_key="k")
    found = Watch(study.id).look(workshop.store, study, wait=True)
    assert found.labels == 1
    assert found.gold_accuracy.n == 0


def test_results_of_pieces_are_those_of_all_at_once(
    workshop: Workshop, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Watch(study.id).look(workshop.store, study, wait=True)
    monkeypatch.setattr(results, "READ_AT_ONCE", 7)
    watch = Watch(study.id)
    looks = [watch.look(workshop.store, study, wait=False)]
    assert looks[0].unread > 0
    while looks[-1].unread:
        looks.append(watch.look(workshop.store, study, wait=False))
    assert len(looks) > 5
    found = looks[-1]
    for field in ("labels", "agreement", "gold_accuracy", "labelers", "progress", "cost"):
        assert getattr(found, field) == getattr(whole, field), field
    assert found.votes.ratings.to_json() == whole.votes.ratings.to_json()
    assert found.votes.matchups == whole.votes.matchups


def test_results_are_what_counting_from_scratch_gives(workshop: Workshop, study: Study) -> None:
    found = results_of(workshop.store, study)
    with workshop.store.read() as connection:
        kept = list(events.iterate(connection, study_id=study.id))
        stands = events.iterate(connection, study_id=study.id, kinds=events.LABELS, current=True)
        labels = [label_of(one) for one in stands]
        known = {row.pseudonym: row.role for row in connection.execute(select(people))}
    ours = [one for one in labels if known[one.author] == "labeler"]
    units = defaultdict[tuple[str, str], defaultdict[Any, list[float]]](lambda: defaultdict(list))
    for one in opinions(ours):
        units[one.question, one.level][one.subject].append(one.value)
    measured = {one.question: one for one in found.agreement if one.between == "labelers"}
    assert measured.keys() == {question for question, _ in units}
    for (question, level), subjects in units.items():
        said = list(subjects.values())
        for got, expected in (
            (measured[question].percent, percent_agreement(said)),
            (measured[question].alpha, krippendorff_alpha(said, level)),  # type: ignore[arg-type]
        ):
            assert (got.state, got.units, got.values) == (
                expected.state, expected.units, expected.values,
            )  # fmt: skip
            assert got.value == pytest.approx(expected.value, abs=1e-12)
    cast = [
        Vote(first=one.first, second=one.second, outcome=one.outcome, labeler=one.labeler,
             prompt=one.prompt)
        for one in votes_of(kept).ballots
    ]  # fmt: skip
    close(found.votes.ratings.to_json(), rate(cast).to_json())
    close(
        [one.to_json() for one in found.votes.matchups],
        [one.to_json() for one in matchups(cast, ratings=rate(cast))],
    )
    counts = Counter(one.author for one in labels)
    assert {one.work.labeler: one.work.labels for one in found.labelers} == counts
    skips = Counter(one.author for one in kept if one.kind == "skip")
    assert sum(one.skipped for one in found.labelers) == sum(skips[name] for name in counts)


def close(got: Any, expected: Any) -> None:
    """The same to the last digits, wherever numbers stand."""
    if isinstance(expected, dict):
        assert got.keys() == expected.keys()
        for name in expected:
            close(got[name], expected[name])
    elif isinstance(expected, list | tuple):
        for one, other in itertools.zip_longest(got, expected):
            close(one, other)
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9)
    else:
        assert got == expected


def test_a_costly_study_rests_and_a_small_one_never(
    workshop: Workshop, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert results.rest_after(0.2) == 0.0
    assert results.rest_after(3.0) == pytest.approx(60.0)
    watch = Watch(study.id)
    first = watch.look(workshop.store, study, wait=True)
    assert first.seconds_to_next == 0.0
    monkeypatch.setattr(results, "FREE_SECONDS", 0.0)
    monkeypatch.setattr(results, "REST", 1e6)
    resting = watch.look(workshop.store, study, wait=True)
    assert resting.seconds_to_next > 0
    label_at_random(workshop, study, workshop.store.clock, random.Random(6))  # type: ignore[arg-type]
    assert watch.look(workshop.store, study, wait=True) is resting
    assert asdict(resting.progress) == asdict(first.progress)
