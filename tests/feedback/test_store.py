"""The store: transactions, migrations, and what a power cut or a kill leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from hark.feedback import events
from hark.feedback.events import NewEvent
from hark.feedback.store import CONNECTIONS, Store, StoreError
from hark.feedback.tables import metadata, people


def message(key: str, **fields: object) -> NewEvent:
    return NewEvent(kind="message", author="anon-1", client_key=key, **fields)  # type: ignore[arg-type]


def test_migrations_make_the_tables_that_the_code_reads(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_store_opens_again_with_what_it_held(place: str) -> None:
    with Store(place) as store, store.write() as connection:
        events.append(connection, message("a"), now=1.0)
    with Store(place) as store, store.read() as connection:
        assert [one.client_key for one in events.iterate(connection)] == ["a"]


def test_a_newer_database_is_refused(place: str) -> None:
    with Store(place) as store, store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="version '9999', which this hark does not know"):
        Store(place)


def test_a_store_whose_connections_are_all_in_use_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as taken:
        for _ in range(CONNECTIONS):
            taken.enter_context(store.engine.connect())
        monkeypatch.setattr(store.engine.pool, "_timeout", 0.0)
        for block in (store.read, store.write):
            with pytest.raises(StoreError, match="all 40 connections are in use"), block():
                pass
    with store.read() as connection:
        connection.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (":memory:", "not kept in memory"),
        ("mysql://localhost/x", "not in 'mysql'"),
        ("sqlite://", "not kept in memory"),
        ("/nowhere/at/all/feedback.db", "there is no directory '/nowhere/at/all'"),
        ("http//[", "cannot open|there is no directory"),
    ],
)
def test_places_that_are_no_store_are_refused(place: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Store(place)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be read as one " * 50)
    with pytest.raises(StoreError, match="cannot open the database .*notes.txt"):
        Store(path)


def test_an_unreachable_server_is_an_error_without_the_password() -> None:
    with pytest.raises(StoreError, match="cannot open the database") as caught:
        Store("postgresql://hark:secret@localhost:1/none")
    assert "secret" not in str(caught.value)


def test_sqlite_is_set_up_to_lose_nothing(tmp_path: Path) -> None:
    with Store(tmp_path / "feedback.db") as store, store.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
    }


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    def fail_halfway() -> None:
        with store.write() as connection:
            events.append(connection, message("a"), now=1.0)
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()
    with store.read() as connection:
        assert list(events.iterate(connection)) == []


def test_a_reading_transaction_sees_one_state(store: Store) -> None:
    with store.read() as reader:
        assert list(events.iterate(reader)) == []
        with store.write() as writer:
            events.append(writer, message("a"), now=1.0)
        assert list(events.iterate(reader)) == []


def test_a_reading_transaction_keeps_nothing(store: Store) -> None:
    row = {"id": "p", "pseudonym": "p", "role": "owner", "disabled": False, "created_at": 0.0}
    try:
        with store.read() as connection:
            connection.execute(insert(people).values(row))
    except DBAPIError:
        assert not store.is_sqlite
    with store.read() as connection:
        assert connection.execute(select(people)).all() == []


@pytest.mark.parametrize("statement", ["UPDATE events SET author = 'x'", "DELETE FROM events"])
def test_the_database_refuses_to_change_events(store: Store, statement: str) -> None:
    with store.write() as connection:
        events.append(connection, message("a"), now=1.0)
    with pytest.raises(DBAPIError, match="append-only"), store.write() as connection:
        connection.execute(text(statement))
    with store.read() as connection:
        assert [one.author for one in events.iterate(connection)] == ["anon-1"]


def test_a_busy_database_is_an_error_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hark.feedback.store.SECONDS_TO_WAIT", 0.1)
    place = tmp_path / "feedback.db"
    for said, same in (("database is locked", False), ("too many write at once", True)):
        refused = pytest.raises(StoreError, match=f"{said}; nothing of it was kept")
        with Store(place) as store, Store(place) as other:
            second = store if same else other
            with store.write(), refused, second.write():
                pass


OPENING = """
import sys
from hark.feedback.store import Store
Store(sys.argv[1]).close()
"""


def test_processes_that_open_a_new_store_at_once_make_it_once(place: str) -> None:
    opening = [subprocess.Popen([sys.executable, "-c", OPENING, place]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in opening] == [0] * 4


WRITING = """
import os, sys
from hark.feedback import events
from hark.feedback.store import Store
store = Store(sys.argv[1])
number = 0
while True:
    with store.write() as connection:
        new = events.NewEvent(kind="message", author=f"anon-{os.getpid()}", client_key=str(number))
        kept = events.append(connection, new, now=1.0)
    os.write(1, f"{kept.id}\\n".encode())
    number += 1
"""


def test_kill_9_loses_no_acknowledged_event(place: str) -> None:
    """Three writers are killed in the middle of it; what they had acknowledged is there."""
    Store(place).close()
    acknowledged: set[str] = set()
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITING, place], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(40):
            acknowledged.add(process.stdout.readline().strip())
        os.kill(process.pid, signal.SIGKILL)
        # Not `communicate`, which would leave out what the lines above have read ahead.
        acknowledged |= set(process.stdout.read().split())
        process.stdout.close()
        assert process.wait(timeout=30) == -signal.SIGKILL
    with Store(place) as store, store.read() as connection:
        kept = [one.id for one in events.iterate(connection)]
    assert len(acknowledged) >= 120
    assert acknowledged <= set(kept)
    # Of each killed writer at most the one event in flight was kept without its acknowledgement.
    assert len(kept) - len(acknowledged) <= 3
