"""Leases: nobody beyond the overlap, nobody twice, nothing reserved for ever."""

from __future__ import annotations

import collections
import subprocess
import sys
import threading
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from tests.feedback.workshop import Clock, Workshop, vote_item

from hark.feedback import accounts, assignment, items, labelling, studies
from hark.feedback.assignment import Assignment, Nothing, claim
from hark.feedback.refusals import ConflictError, NotAllowedError, NotFoundError
from hark.feedback.store import Store
from hark.feedback.tables import assignments
from hark.feedback.tables import items as item_table


def get(workshop: Workshop, study: studies.Study, person: accounts.Person) -> Assignment:
    got = claim(workshop.store, study.id, person.id)
    assert isinstance(got, Assignment), got
    return got


def vote(workshop: Workshop, held: Assignment, person: accounts.Person, key: str = "k") -> Any:
    seen = labelling.view(workshop.store, held.id, person.id)
    answer = {"chosen": seen.candidates[0]["id"]}
    return labelling.submit(
        workshop.store, held.id, person.id, "vote", answer, client_key=f"{key} {held.id}"
    )


def test_asking_twice_gives_the_same_item(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 3)
    person = workshop.labeler(study)
    first = get(workshop, study, person)
    assert get(workshop, study, person) == first
    assert first.lease == 1


def test_an_item_goes_to_as_many_as_the_overlap_says(workshop: Workshop) -> None:
    study = workshop.study(overlap=2)
    first, second = workshop.votes(study, 2)
    got = [get(workshop, study, workshop.labeler(study)).item_id for _ in range(4)]
    assert got == [first, first, second, second]
    assert claim(workshop.store, study.id, workshop.labeler(study).id) == Nothing(
        because="nothing left"
    )


def test_an_item_may_want_more_labelers_than_its_study(workshop: Workshop) -> None:
    study = workshop.study()
    item = workshop.votes(study, 1, overlap=3)[0]
    got = [get(workshop, study, workshop.labeler(study)) for _ in range(3)]
    assert [(one.item_id, one.slot) for one in got] == [(item, 0), (item, 1), (item, 2)]
    assert isinstance(claim(workshop.store, study.id, workshop.labeler(study).id), Nothing)


def test_no_labeler_has_an_item_twice(workshop: Workshop) -> None:
    study = workshop.study(overlap=5)
    wanted = workshop.votes(study, 3)
    person = workshop.labeler(study)
    got = []
    for _ in wanted:
        held = get(workshop, study, person)
        vote(workshop, held, person)
        got.append(held.item_id)
    assert got == wanted
    assert isinstance(claim(workshop.store, study.id, person.id), Nothing)


def test_what_others_have_begun_comes_first(workshop: Workshop) -> None:
    study = workshop.study(overlap=2)
    first, second, third = workshop.votes(study, 3)
    ann, bob = workshop.labeler(study), workshop.labeler(study)
    for _ in range(3):
        vote(workshop, get(workshop, study, ann), ann)
    assert [vote(workshop, get(workshop, study, bob), bob).event.item_id for _ in range(3)] == [
        first, second, third,
    ]  # fmt: skip


def test_a_lease_runs_out_and_the_item_goes_to_another(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study(lease_minutes=10)
    workshop.votes(study, 1)
    ann, bob = workshop.labeler(study), workshop.labeler(study)
    held = get(workshop, study, ann)
    assert held.expires_at == clock.now + 600
    clock.now += 599
    assert isinstance(claim(workshop.store, study.id, bob.id), Nothing)
    clock.now += 2
    assert get(workshop, study, bob).item_id == held.item_id
    with pytest.raises(ConflictError, match="not yours any more: it is expired"):
        assignment.heartbeat(workshop.store, held.id, ann.id)


def test_a_heartbeat_keeps_an_item(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study(lease_minutes=10)
    workshop.votes(study, 1)
    ann, bob = workshop.labeler(study), workshop.labeler(study)
    held = get(workshop, study, ann)
    for _ in range(5):
        clock.now += 500
        assert assignment.heartbeat(workshop.store, held.id, ann.id) == clock.now + 600
    assert isinstance(claim(workshop.store, study.id, bob.id), Nothing)


def test_an_abandoned_item_can_come_back_to_its_labeler(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    ann = workshop.labeler(study)
    held = get(workshop, study, ann)
    clock.now += 3600
    again = get(workshop, study, ann)
    assert (again.id, again.lease, again.slot) == (held.id, 2, 0)


def test_released_items_are_free_at_once(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    ann, bob = workshop.labeler(study), workshop.labeler(study)
    held = get(workshop, study, ann)
    assignment.release(workshop.store, held.id, ann.id)
    assignment.release(workshop.store, held.id, ann.id)
    assert get(workshop, study, bob).item_id == held.item_id


def test_skipping_costs_nothing_and_is_for_good(workshop: Workshop) -> None:
    study = workshop.study(maximum_labels=1)
    first, second = workshop.votes(study, 2)
    ann = workshop.labeler(study)
    held = get(workshop, study, ann)
    store = workshop.store
    kept = assignment.skip(store, held.id, ann.id, "too upsetting", client_key="s")
    assert assignment.skip(store, held.id, ann.id, "too upsetting", client_key="s").repeated
    assert kept.body == {"skip_reason": "too upsetting"}
    other = get(workshop, study, ann)
    assert other.item_id == second
    vote(workshop, other, ann)
    assert claim(store, study.id, ann.id) == Nothing(because="quota reached")
    assert get(workshop, study, workshop.labeler(study)).item_id == first
    with pytest.raises(ConflictError, match="is done and cannot be skipped"):
        assignment.skip(store, other.id, ann.id, "late", client_key="s2")


def test_a_late_label_takes_its_place_again(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    ann = workshop.labeler(study)
    held = get(workshop, study, ann)
    clock.now += 3600
    assignment_state = vote(workshop, held, ann).state
    assert assignment_state == "done"
    assert isinstance(claim(workshop.store, study.id, workshop.labeler(study).id), Nothing)


@pytest.mark.parametrize("other_has_answered", [True, False])
def test_a_label_that_comes_too_late_is_kept_beyond_the_overlap(
    workshop: Workshop, clock: Clock, other_has_answered: bool
) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    ann, bob = workshop.labeler(study), workshop.labeler(study)
    held = get(workshop, study, ann)
    clock.now += 3600
    other = get(workshop, study, bob)
    if other_has_answered:
        vote(workshop, other, bob)
    receipt = vote(workshop, held, ann)
    assert (receipt.state, receipt.event.body["late"]) == ("late", True)
    assert vote(workshop, held, ann).event.id == receipt.event.id
    assert vote(workshop, other, bob).event.body["late"] is False
    with pytest.raises(ConflictError, match="this item is done"):
        vote(workshop, held, ann, key="another")


def test_broken_candidates_are_never_handed_out(workshop: Workshop) -> None:
    """Cut off, failed or empty: both are drawn again before anyone sees the item."""
    study = workshop.study()
    broken = [
        {"text": "cut o", "finish": "length"},
        {"text": "some", "error": "timeout"},
        {"text": "x", "finish": "error"},
        {"text": "  "},
    ]
    for one in broken:
        item = vote_item().to_json()
        item["candidates"][1] = one
        items.add_items(
            workshop.store, study.id, [items.NewItem.read(item, what="t")], by=workshop.owner.id
        )
    ann = workshop.labeler(study)
    assert isinstance(claim(workshop.store, study.id, ann.id), Nothing)
    waiting = items.to_draw(workshop.store, study.id)
    assert len(waiting) == 4
    fresh = vote_item(texts=("new a", "new b")).candidates
    items.put_candidates(workshop.store, waiting[0].id, fresh)
    held = get(workshop, study, ann)
    assert held.item_id == waiting[0].id
    seen = labelling.view(workshop.store, held.id, ann.id)
    assert {one["text"] for one in seen.candidates} == {"new a", "new b"}
    with pytest.raises(ConflictError, match="are not replaced"):
        items.put_candidates(workshop.store, held.item_id, fresh)


def test_sensitive_items_need_consent(workshop: Workshop) -> None:
    study = workshop.study(categories={"violence": "Describes violence."})
    item = workshop.votes(study, 1, categories=["violence"])[0]
    ann = workshop.labeler(study)
    store = workshop.store
    assert isinstance(claim(store, study.id, ann.id), Nothing)
    studies.opt_in(store, study.id, ann.id, "violence", client_key="c1")
    assert get(workshop, study, ann).item_id == item
    bob = workshop.labeler(study)
    studies.opt_in(store, study.id, bob.id, "violence", client_key="c2")
    studies.opt_out(store, study.id, bob.id, "violence", client_key="c3")
    studies.opt_in(store, study.id, bob.id, "violence", client_key="c2")  # a retry, come late
    assert isinstance(claim(store, study.id, bob.id), Nothing)
    consents = workshop.events(kinds=["consent"])
    assert [one.body["agrees"] for one in consents] == [True, True, False]
    assert consents[0].body["warning"] == "Describes violence."


def test_exposure_is_capped_across_studies(workshop: Workshop, clock: Clock) -> None:
    """What somebody has seen in one study counts in every other; an uncapped study has no cap."""
    gore = {"gore": "Gore."}
    ann = workshop.labeler()
    made = []
    for name, most in (("one", 2), ("two", 2), ("three", None)):
        study = workshop.study(name=name, categories=gore, maximum_sensitive_per_day=most)
        workshop.votes(study, 3, categories=["gore"])
        studies.join(workshop.store, study.id, ann.id)
        studies.opt_in(workshop.store, study.id, ann.id, "gore", client_key=name)
        made.append(study)
    for study in made[:2]:
        vote(workshop, get(workshop, study, ann), ann)
    for study in made[:2]:
        nothing = assignment.claim(workshop.store, study.id, ann.id)
        assert nothing == Nothing(because="enough sensitive items today")
    vote(workshop, get(workshop, made[2], ann), ann)
    clock.now += 86401
    vote(workshop, get(workshop, made[0], ann), ann)


def test_a_study_with_warnings_has_a_cap_unless_its_owner_takes_it_off(workshop: Workshop) -> None:
    study = workshop.study(categories={"gore": "Gore."})
    assert study.settings.maximum_sensitive_per_day == 100


def test_who_is_turned_away_adds_nothing_to_what_they_hold(workshop: Workshop) -> None:
    store = workshop.store
    study = workshop.study()
    workshop.votes(study, 2)
    ann = workshop.labeler(study)
    vote(workshop, get(workshop, study, ann), ann)
    (kept,) = workshop.events(kinds=["vote"])
    held = get(workshop, study, ann)
    studies.set_member_state(store, study.id, ann.id, "rejected", by=workshop.owner.id)
    with pytest.raises(NotAllowedError, match="your part in this study has ended"):
        labelling.submit(store, held.id, ann.id, "vote", {"chosen": None}, client_key="late")
    assert len(workshop.events(kinds=["vote"])) == 1
    # What was acknowledged stays so, however often it is sent.
    same = {"chosen": kept.body["answer"]["chosen"]}
    again = labelling.submit(
        store, str(kept.assignment_id), ann.id, "vote", same, client_key=kept.client_key
    )
    assert again.event.repeated
    with pytest.raises(NotAllowedError, match="your part in this study has ended"):
        assignment.skip(store, held.id, ann.id, "turned away", client_key="skip")
    assert not workshop.events(kinds=["skip"])


@pytest.mark.parametrize("answer", [{"chosen": None}, None], ids=["corrected", "retracted"])
def test_who_is_turned_away_changes_no_label(
    workshop: Workshop, answer: dict[str, Any] | None
) -> None:
    store = workshop.store
    study = workshop.study()
    workshop.votes(study, 2)
    ann = workshop.labeler(study)
    vote(workshop, get(workshop, study, ann), ann)
    vote(workshop, get(workshop, study, ann), ann)
    first, second = workshop.events(kinds=["vote"])
    before = labelling.correct(store, first.id, ann.id, answer, client_key="before")
    studies.set_member_state(store, study.id, ann.id, "rejected", by=workshop.owner.id)
    count = len(workshop.events(study_id=study.id))
    with pytest.raises(NotAllowedError, match="your part in this study has ended"):
        labelling.correct(store, second.id, ann.id, answer, client_key="after")
    # What was acknowledged stays so, however often it is sent.
    again = labelling.correct(store, first.id, ann.id, answer, client_key="before")
    assert (again.id, again.repeated) == (before.id, True)
    assert len(workshop.events(study_id=study.id)) == count


def test_who_is_paused_may_end_what_they_hold(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 2)
    ann = workshop.labeler(study)
    held = get(workshop, study, ann)
    studies.set_member_state(workshop.store, study.id, ann.id, "paused", by=workshop.owner.id)
    vote(workshop, held, ann)
    with pytest.raises(NotAllowedError, match="paused"):
        assignment.claim(workshop.store, study.id, ann.id)


def test_exposure_is_capped_for_a_day(workshop: Workshop, clock: Clock) -> None:
    study = workshop.study(categories={"gore": "Gore."}, maximum_sensitive_per_day=1)
    hard = workshop.votes(study, 2, categories=["gore"])
    mild = workshop.votes(study, 1)[0]
    ann = workshop.labeler(study)
    studies.opt_in(workshop.store, study.id, ann.id, "gore", client_key="c")
    got = []
    for _ in range(2):
        held = get(workshop, study, ann)
        got.append(held.item_id)
        vote(workshop, held, ann)
    assert got == [hard[0], mild]
    assert isinstance(claim(workshop.store, study.id, ann.id), Nothing)
    clock.now += 86401
    assert get(workshop, study, ann).item_id == hard[1]


def test_held_out_labelers_see_no_training_item(workshop: Workshop) -> None:
    study = workshop.study()
    train = workshop.votes(study, 1, use="train")[0]
    test = workshop.votes(study, 1, use="test")[0]
    out, ann = workshop.labeler(study, held_out=True), workshop.labeler(study)
    assert get(workshop, study, out).item_id == test
    assert get(workshop, study, ann).item_id == train
    assert isinstance(claim(workshop.store, study.id, workshop.labeler(study).id), Nothing)
    another = workshop.votes(study, 1, use="train")[0]
    other_out = workshop.labeler(study, held_out=True)
    assert isinstance(claim(workshop.store, study.id, other_out.id), Nothing)
    assert get(workshop, study, workshop.labeler(study)).item_id == another


def test_gold_comes_at_its_rate_to_everyone(workshop: Workshop) -> None:
    """Of 40 claims at a rate of 1/4, 10 are expected, with a standard deviation of 2.7."""
    study = workshop.study(gold_fraction=0.25)
    workshop.votes(study, 40)
    gold = set(workshop.votes(study, 40, use="gold", gold={"chosen": "0"}))
    ann = workshop.labeler(study)
    got = []
    for _ in range(40):
        held = get(workshop, study, ann)
        got.append(held.item_id)
        vote(workshop, held, ann)
    assert 2 <= len(gold & set(got)) <= 18
    with workshop.store.read() as connection:
        held_gold = connection.execute(
            select(func.count()).select_from(assignments).where(assignments.c.slot.is_(None))
        ).scalar_one()
    assert held_gold == len(gold & set(got))


def test_only_open_studies_hand_out(workshop: Workshop) -> None:
    study = workshop.study(open_it=False)
    workshop.votes(study, 1)
    ann = workshop.labeler(study)
    with pytest.raises(ConflictError, match="is draft; come back later"):
        claim(workshop.store, study.id, ann.id)
    with pytest.raises(NotAllowedError, match="do not take part"):
        stranger = workshop.labeler()
        studies.set_state(workshop.store, study.id, "open", by=workshop.owner.id)
        claim(workshop.store, study.id, stranger.id)


def test_somebody_elses_assignment_is_not_found(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    ann, eve = workshop.labeler(study), workshop.labeler(study)
    held = get(workshop, study, ann)
    store = workshop.store
    for act in (
        lambda: labelling.view(store, held.id, eve.id),
        lambda: assignment.heartbeat(store, held.id, eve.id),
        lambda: assignment.release(store, held.id, eve.id),
        lambda: assignment.skip(store, held.id, eve.id, "", client_key="k"),
        lambda: labelling.submit(store, held.id, eve.id, "vote", {}, client_key="k"),
        lambda: assignment.find(store, held.id, eve.id),
    ):
        with pytest.raises(NotFoundError, match="you have no assignment"):
            act()
    assert assignment.find(store, held.id, ann.id)[0] == held


def test_the_database_itself_refuses_a_place_held_twice(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    ann, bob = workshop.labeler(study), workshop.labeler(study)
    held = get(workshop, study, ann)
    with workshop.store.read() as connection:
        row = connection.execute(select(assignments)).one()._asdict()
    for change in ({"person_id": bob.id}, {"slot": 7}):  # the same place; the same labeler
        with pytest.raises(IntegrityError), workshop.store.write() as connection:
            connection.execute(insert(assignments).values({**row, "id": "other", **change}))
    with pytest.raises(IntegrityError), workshop.store.write() as connection:
        connection.execute(
            update(item_table).values(taken=2).where(item_table.c.id == held.item_id)
        )


def test_a_forgotten_persons_item_goes_back(workshop: Workshop) -> None:
    study = workshop.study()
    workshop.votes(study, 1)
    ann, bob = workshop.labeler(study), workshop.labeler(study)
    held = get(workshop, study, ann)
    accounts.forget(workshop.store, ann.id, by=workshop.owner.id)
    assert get(workshop, study, bob).item_id == held.item_id


# Many at once -----------------------------------------------------------------------------------


def check_places(store: Store, study: studies.Study, overlap: int) -> collections.Counter[str]:
    """No item beyond its overlap, no labeler twice on one; how often each was labelled."""
    with store.read() as connection:
        rows = connection.execute(
            select(assignments).where(assignments.c.study_id == study.id)
        ).all()
        taken = {row.id: row.taken for row in connection.execute(select(item_table))}
    holding = collections.Counter(row.item_id for row in rows if row.state in ("open", "done"))
    assert max(holding.values()) <= overlap
    assert len({(row.item_id, row.person_id) for row in rows}) == len(rows)
    assert {item: holding[item] for item in taken} == taken
    return holding


def test_threads_that_claim_at_once_stay_within_the_overlap(workshop: Workshop) -> None:
    """24 labelers, 6 items of 3 places: 18 get one."""
    study = workshop.study(overlap=3)
    workshop.votes(study, 6)
    people = [workshop.labeler(study) for _ in range(24)]
    got: list[Assignment | Nothing] = []
    barrier = threading.Barrier(len(people))

    def ask(person: accounts.Person) -> None:
        barrier.wait()
        got.append(claim(workshop.store, study.id, person.id))

    threads = [threading.Thread(target=ask, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, Assignment) for one in got) == 18
    assert set(check_places(workshop.store, study, 3).values()) == {3}


def test_one_labeler_with_many_tabs_holds_one_item(workshop: Workshop) -> None:
    study = workshop.study(overlap=3)
    workshop.votes(study, 6)
    ann = workshop.labeler(study)
    got: list[str] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        got.append(get(workshop, study, ann).id)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1


LABELLING = """
import random, sys
from hark.feedback import assignment, labelling
from hark.feedback.assignment import Assignment
from hark.feedback.store import Store
place, study, *people = sys.argv[1:]
chance = random.Random(people[0])
with Store(place) as store:
    working = set(people)
    while working:
        person = chance.choice(sorted(working))
        held = assignment.claim(store, study, person)
        if not isinstance(held, Assignment):
            working.discard(person)
            continue
        fate = chance.random()
        if fate < 0.15:
            assignment.release(store, held.id, person)
            continue
        if fate < 0.3:
            assignment.heartbeat(store, held.id, person)
        chosen = labelling.view(store, held.id, person).candidates[0]["id"]
        for _ in range(2 if fate < 0.5 else 1):  # a double click
            labelling.submit(
                store, held.id, person, "vote", {"chosen": chosen}, client_key=held.id
            )
"""


def test_eight_processes_label_everything_once_for_each_place(
    workshop: Workshop, place: str
) -> None:
    """8 processes of 2 labelers each share 12 items of 3 places: 36 labels, none twice.

    Labelers release, double-click and interleave; when all find nothing left, all is labelled.
    """
    study = workshop.study(overlap=3)
    workshop.votes(study, 12)
    workers = []
    for _ in range(8):
        people = [workshop.labeler(study).id for _ in range(2)]
        command = [sys.executable, "-c", LABELLING, place, study.id, *people]
        workers.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    for worker in workers:
        _, problems = worker.communicate(timeout=120)
        assert worker.returncode == 0, problems
    assert set(check_places(workshop.store, study, 3).values()) == {3}
    votes = workshop.events(study_id=study.id, kinds=["vote"])
    assert len(votes) == 36
    assert len({(one.item_id, one.author) for one in votes}) == 36
