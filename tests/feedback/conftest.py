"""Stores to test with: SQLite, and a PostgreSQL of our own where its programs are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from argon2 import PasswordHasher
from tests.feedback.workshop import Clock, Workshop

from hark.feedback import accounts
from hark.feedback.store import Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


def postgresql_programs() -> Path | None:
    """Where initdb is: on the path, or where Debian puts it."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL, without a database, of a private cluster that takes connections on a socket only."""
    programs = postgresql_programs()
    if programs is None:
        assert not os.environ.get("CI"), "install PostgreSQL: the store's tests need it"
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # initdb refuses to run as root.
    user = {"user": "nobody", "group": "nogroup"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="hark-pg-") as name:
        place = Path(name)
        if user:
            shutil.chown(place, "nobody", "nogroup")
        data = place / "data"

        def run(*command: str) -> None:
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, **user)
            assert done.returncode == 0, f"{command[0]}: {done.stdout}\n{done.stderr}"

        locale = ("--locale=C", "--encoding=UTF8", "--auth=trust", "--no-sync")
        run(str(programs / "initdb"), "-D", str(data), "-U", "hark", *locale)
        options = f"-k {place} -c listen_addresses='' -c max_connections=200"
        control = (str(programs / "pg_ctl"), "-D", str(data), "-w")
        run(*control, "-l", str(place / "log"), "-o", options, "start")
        try:
            yield f"postgresql://hark@/{{database}}?host={place}"
        finally:
            run(*control, "-m", "immediate", "stop")


@pytest.fixture
def postgresql_url(postgresql_server: str, request: pytest.FixtureRequest) -> str:
    """URL of a fresh database."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    engine = sqlalchemy.create_engine(
        postgresql_server.format(database="postgres").replace("://", "+psycopg://"),
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return postgresql_server.format(database=name)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file or URL for a store, in each database."""
    if request.param == "sqlite":
        return str(tmp_path / "feedback.db")
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def store(place: str, clock: Clock) -> Iterator[Store]:
    with Store(place, clock=clock) as opened:
        yield opened


@pytest.fixture
def workshop(store: Store) -> Workshop:
    return Workshop(store)


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with little work, so that tests of accounts take no seconds."""
    quick = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(accounts, "_HASHER", quick)
    monkeypatch.setattr(accounts, "hash_of_nobody", lambda: quick.hash("nobody's password"))
