"""What a labeler with the source at hand must not be able to work out."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from sqlalchemy import select, update
from tests.feedback.workshop import Clock, Workshop

from hark.feedback import assignment, labelling
from hark.feedback.assignment import Assignment
from hark.feedback.chance import Chance, chance_of, display_order
from hark.feedback.store import Store
from hark.feedback.tables import assignments, candidates


def given(name: str, *, keyed: bool = True) -> Any:
    return SimpleNamespace(id=name, keyed=keyed)


def test_display_orders_are_random_and_stay() -> None:
    """1000 fair coins: 500 heads expected, standard deviation 16."""
    chance = Chance("a key")
    orders = [display_order(chance, given(f"assignment {n}"), 0, 2) for n in range(1000)]
    assert 420 < orders.count([0, 1]) < 580
    again = display_order(chance, given("a"), 3, 9)
    assert again == display_order(Chance("a key"), given("a"), 3, 9)
    assert sorted(again) == list(range(9))


def test_another_key_draws_independently() -> None:
    """Who knows the identifiers, and not the key, is right half the time (sd 16 of 1000)."""
    names = [given(f"assignment {n}") for n in range(1000)]
    mine, other = Chance("a key"), Chance("another")
    same = sum(display_order(mine, one, 0, 2) == display_order(other, one, 0, 2) for one in names)
    assert 420 < same < 580
    guessed = sum(
        display_order(mine, one, 0, 2) == display_order(mine, given(one.id, keyed=False), 0, 2)
        for one in names
    )
    assert 420 < guessed < 580
    assert mine.uniform("gold", 1) != other.uniform("gold", 1)


def test_each_store_has_a_key_that_outlives_the_server(place: str, clock: Clock) -> None:
    with Store(place, clock=clock) as store:
        workshop = Workshop(store)
        study = workshop.study()
        workshop.votes(study, 1)
        person = workshop.labeler(study)
        held = assignment.claim(store, study.id, person.id)
        assert isinstance(held, Assignment)
        before = labelling.view(store, held.id, person.id).candidates
        key = chance_of(store)
        assert len(key.key) > 40
    with Store(place, clock=clock) as store:
        assert chance_of(store) == key
        assert labelling.view(store, held.id, person.id).candidates == before
        answer = {"chosen": before[0]["id"]}
        kept = labelling.submit(store, held.id, person.id, "vote", answer, client_key="k").event
        shown = [kept.body["candidates"][place]["id"] for place in kept.body["display_order"]]
        assert shown == [one["id"] for one in before]


def test_an_item_in_hand_when_the_key_came_keeps_the_order_it_was_shown_in(
    workshop: Workshop,
) -> None:
    study = workshop.study()
    workshop.votes(study, 12)
    for _ in range(12):
        person = workshop.labeler(study)
        held = assignment.claim(workshop.store, study.id, person.id)
        assert isinstance(held, Assignment)
        with workshop.store.write() as connection:
            before = assignments.c.id == held.id
            connection.execute(update(assignments).where(before).values(keyed=False))
        order = [0, 1]
        random.Random(f"{held.id} 0").shuffle(order)  # as versions before the key had it
        texts = [
            one["text"] for one in labelling.view(workshop.store, held.id, person.id).candidates
        ]
        assert texts == ["ab"[place] for place in order]


def test_the_ids_of_responses_do_not_tell_their_places(workshop: Workshop) -> None:
    """400 fair coins: 200 expected, standard deviation 10."""
    study = workshop.study()
    workshop.votes(study, 400)
    with workshop.store.read() as connection:
        rows = connection.execute(select(candidates).order_by(candidates.c.item_id)).all()
    first, second = ([one.id for one in rows if one.place == place] for place in (0, 1))
    rising = sum(one < other for one, other in zip(first, second, strict=True))
    assert 150 < rising < 250
