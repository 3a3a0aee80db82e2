"""A filled database of every version there has been, brought up to this one: nothing is lost.

A database is filled by the code of today, its rows are copied into tables of the older version (in
the columns that it had), and those are opened as any store is. A migration after which the rows of
today do not fit the older tables has to teach this test how they were.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, select, text
from sqlalchemy.exc import DBAPIError
from tests.feedback.workshop import Clock, Workshop

from hark.feedback import (
    accounts,
    assignment,
    candidate_scores,
    events,
    invites,
    labelling,
    secret_keys,
    sign_in,
    studies,
)
from hark.feedback.assignment import Assignment
from hark.feedback.refusals import NotSignedInError
from hark.feedback.store import MIGRATIONS, Store, migrate, url_of
from hark.feedback.tables import metadata

Rows = dict[str, list[dict[str, Any]]]
VERSIONS = sorted(one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions())


@pytest.fixture
def filled(tmp_path: Path, clock: Clock) -> Rows:
    """A row or more of every table, as work leaves them."""
    with Store(tmp_path / "filled.db", clock=clock) as store:
        fill(Workshop(store))
        rows = rows_of(store.engine, metadata)
    assert all(rows.values()), [name for name, found in rows.items() if not found]
    return rows


def fill(workshop: Workshop) -> None:
    store, owner = workshop.store, workshop.owner
    study = workshop.study(overlap=2, categories={"violence": "Violent."})
    workshop.votes(study, 3)
    workshop.votes(study, 2, use="gold", gold={"chosen": "0"}, categories=["violence"])
    first, second, third = (workshop.labeler(study) for _ in range(3))
    studies.opt_in(store, study.id, first.id, "violence", client_key="consent")
    for number in range(2):
        held = claim(store, study.id, first.id)
        kept = labelling.submit(
            store, held.id, first.id, "vote", {"chosen": None}, client_key=f"vote-{number}"
        )
    labelling.correct(store, kept.event.id, first.id, None, client_key="retraction")
    scores = {one["id"]: 0.5 for one in kept.event.body["candidates"]}
    given = candidate_scores.CandidateScores(model="pm", scores=scores)
    candidate_scores.put_scores(store, study.id, given, by=owner.id)
    held = claim(store, study.id, second.id)
    assignment.skip(store, held.id, second.id, "too upsetting", client_key="skip")
    claim(store, study.id, second.id)
    accounts.forget(store, third.id, by=owner.id)
    invites.invite(store, by=owner.id, study_id=study.id)
    sign_in.create_api_token(store, owner.id, "script")
    sign_in.start_session(store, first.id)
    with pytest.raises(NotSignedInError):
        sign_in.log_in(store, "nobody", "a wrong password", address="here")
    secret_keys.find(store, "cookies")


def claim(store: Store, study_id: str, person_id: str) -> Assignment:
    claimed = assignment.claim(store, study_id, person_id)
    assert isinstance(claimed, Assignment)
    return claimed


def rows_of(engine: Engine, tables: MetaData) -> Rows:
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row._mapping)
                for row in connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in tables.sorted_tables
        }


def make_old(place: str, version: str, rows: Rows) -> Rows:
    """A database of an older version with these rows in it, as they were then; what went in."""
    engine = sqlalchemy.create_engine(url_of(place))
    try:
        with engine.begin() as connection:
            migrate(connection, "old", to=version)
        tables = MetaData()
        tables.reflect(engine)
        kept: Rows = {}
        with engine.begin() as connection:
            for table in tables.sorted_tables:
                columns = {one.name for one in table.columns}
                if table.name == "events":
                    columns.remove("position")  # drawn by the database, in the same order
                kept[table.name] = [
                    {name: value for name, value in row.items() if name in columns}
                    for row in rows.get(table.name, [])
                ]
                if table.name == "tokens" and version < "0004":
                    _make_endless(kept[table.name])
                for row in kept[table.name]:
                    connection.execute(table.insert().values(row))
        return kept
    finally:
        engine.dispose()


def _make_endless(tokens: list[dict[str, Any]]) -> None:
    """API tokens had no end."""
    for row in tokens:
        if row["kind"] == "api":
            row["expires_at"] = None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_filled_database_of_each_version_is_brought_up_to_date(
    place: str, version: str, filled: Rows, clock: Clock
) -> None:
    old = make_old(place, version, filled)
    with Store(place, clock=clock) as store:
        now = rows_of(store.engine, metadata)
        check_tokens_end(old["tokens"], now["tokens"])
        for name, rows in old.items():
            if name == "alembic_version":
                continue
            found = [
                {column: row[column] for column in before if column in row}
                for before, row in zip(rows, now[name], strict=True)
            ]
            assert found == [{c: v for c, v in row.items() if c in now[name][0]} for row in rows]
        check_events_are_kept(store, [row["id"] for row in filled["events"]])
        check_work_goes_on(store)


def check_tokens_end(old: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
    """Those that had no end are good for a while yet; the others end as they did."""
    for before, row in zip(old, now, strict=True):
        if before["expires_at"] is None:
            assert row["expires_at"] == pytest.approx(time.time() + 90 * 86400, abs=600)
            before["expires_at"] = row["expires_at"]


def check_events_are_kept(store: Store, ids: list[str]) -> None:
    with store.read() as connection:
        assert [one.id for one in events.iterate(connection)] == ids
    for statement in ("UPDATE events SET author = 'x'", "DELETE FROM events"):
        with pytest.raises(DBAPIError, match="append-only"), store.write() as connection:
            connection.execute(text(statement))


def check_work_goes_on(store: Store) -> None:
    study = studies.find_study(store, "vote-study")
    with store.read() as connection:
        done = {one.author for one in events.iterate(connection, kinds=["vote"])}
        (first,) = [one for one in accounts.list_people(store) if one.pseudonym in done]
        before = len(list(events.iterate(connection)))
    held = claim(store, study.id, first.id)
    labelling.submit(store, held.id, first.id, "vote", {"chosen": None}, client_key="new")
    again = labelling.submit(store, held.id, first.id, "vote", {"chosen": None}, client_key="new")
    assert again.event.repeated
    with store.read() as connection:
        assert len(list(events.iterate(connection))) == before + 1
    assert len(secret_keys.find(store, "cookies")) > 20


def test_there_is_a_database_of_each_version() -> None:
    assert VERSIONS[:2] == ["0001", "0002"]
