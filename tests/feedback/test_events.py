"""One key makes one event; corrections supersede; the canonical record."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from tests.feedback.workshop import Workshop

from hark.feedback import events
from hark.feedback.events import Event, NewEvent
from hark.feedback.refusals import ConflictError, InvalidLabelError, NotFoundError
from hark.feedback.store import Store

VOTE = NewEvent(
    kind="vote", author="anon-1", client_key="k", body={"answer": {"chosen": "a"}},
    request={"answer": {"chosen": "a"}},
)  # fmt: skip


def append(store: Store, new: NewEvent) -> events.Event:
    with store.write() as connection:
        return events.append(connection, new, now=1_700_000_000.25)


def every(store: Store, **where: object) -> list[events.Event]:
    with store.read() as connection:
        return list(events.iterate(connection, **where))  # type: ignore[arg-type]


def test_a_retry_makes_no_second_event(store: Store) -> None:
    first, second = append(store, VOTE), append(store, VOTE)
    assert (first.repeated, second.repeated) == (False, True)
    assert first.id == second.id
    assert len(every(store)) == 1


def test_sixteen_retries_at_once_make_one_event(store: Store) -> None:
    kept: list[events.Event] = []
    barrier = threading.Barrier(16)

    def send() -> None:
        barrier.wait()
        kept.append(append(store, VOTE))

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.id for one in kept}) == 1
    assert sorted(one.repeated for one in kept) == [False] + [True] * 15
    assert len(every(store)) == 1


def test_another_request_under_the_same_key_is_refused(store: Store) -> None:
    append(store, VOTE)
    other = dataclasses.replace(VOTE, request={"answer": {"chosen": "b"}})
    with pytest.raises(ConflictError, match="idempotency key 'k' was used for another vote"):
        append(store, other)


def test_a_key_is_an_authors_own(store: Store) -> None:
    append(store, VOTE)
    append(store, dataclasses.replace(VOTE, author="anon-2"))
    assert [one.author for one in every(store)] == ["anon-1", "anon-2"]


@pytest.mark.parametrize("key", ["", "x" * 101, "a\0b", "\ud800"])
def test_keys_have_a_length(store: Store, key: str) -> None:
    with pytest.raises(InvalidLabelError, match="idempotency key has"):
        append(store, dataclasses.replace(VOTE, client_key=key))


def test_a_correction_supersedes_once(store: Store) -> None:
    first = append(store, VOTE)
    better = dataclasses.replace(VOTE, client_key="k2", supersedes=first.id)
    second = append(store, better)
    assert [one.id for one in every(store)] == [first.id, second.id]
    assert [one.id for one in every(store, current=True)] == [second.id]
    with pytest.raises(ConflictError, match=f"superseded by '{second.id}'; correct that one"):
        append(store, dataclasses.replace(VOTE, client_key="k3", supersedes=first.id))


def test_a_retraction_leaves_nothing_current(store: Store) -> None:
    first = append(store, VOTE)
    append(store, dataclasses.replace(VOTE, kind="retraction", client_key="r", supersedes=first.id))
    assert every(store, current=True) == []
    assert len(every(store)) == 2


def test_what_is_superseded_exists(store: Store) -> None:
    with pytest.raises(NotFoundError, match="there is no event 'none'"):
        append(store, dataclasses.replace(VOTE, supersedes="none"))


def test_events_come_in_order_and_from_a_position(store: Store) -> None:
    kept = [append(store, dataclasses.replace(VOTE, client_key=str(i))) for i in range(3)]
    assert [one.position for one in every(store)] == [one.position for one in kept]
    assert [one.client_key for one in every(store, after=kept[0].position)] == ["1", "2"]
    assert every(store, kinds=["ranking"]) == []
    assert every(store, author="anon-2") == []


def test_the_canonical_record(store: Store) -> None:
    new = dataclasses.replace(VOTE, body={**VOTE.body, "client": {"ms_active": 5}})
    record = append(store, new).to_json()
    assert record["ts"] == "2023-11-14T22:13:20.250Z"
    assert record["labeler"] == "anon-1"
    assert record["client"] == {"key": "k", "ms_active": 5}
    assert record["answer"] == {"chosen": "a"}
    assert record["schema"] == 1


def test_an_event_is_read_back_from_its_canonical_record(workshop: Workshop) -> None:
    workshop.study("vote")
    for position, event in enumerate(workshop.events(), start=1):
        again = Event.from_json(event.to_json(), position=position)
        assert again.to_json() == event.to_json()
        assert (again.id, again.author, again.client_key) == (
            event.id, event.author, event.client_key
        )  # fmt: skip
