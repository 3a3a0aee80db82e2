"""Where feedback is kept: SQLite by default, PostgreSQL by URL.

A transaction either reads (`Store.read`) or writes (`Store.write`). When `write` has ended without
an error, what was written is on the disk: SQLite flushes its log at every commit
(`synchronous = FULL`), and PostgreSQL does so unless its owner has told it not to.

Writers of SQLite wait for each other from their first statement (`BEGIN IMMEDIATE`); a transaction
that began by reading could find that it may not write and would have to be done again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from hark.errors import HarkError
from hark.feedback.turns import Turns

SECONDS_TO_WAIT = 30
"""For another writer, before a request fails."""
CONNECTIONS = 40
"""At most; as many as a web server has threads."""
MIGRATION_LOCK = 0x6861726B
"""PostgreSQL's advisory lock under which one process at a time brings the tables up to date."""
MIGRATIONS = Path(__file__).parent / "migrations"


class StoreError(HarkError):
    """The database cannot be reached, or is not one of ours."""

    status = 503
    """Over HTTP: try again."""


class Store:
    """A database of feedback, its tables up to date."""

    def __init__(self, place: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or make the database at `place`, a file of SQLite or a `postgresql://` URL.

        clock: seconds since 1970; tests put their own here.
        Raises: StoreError if it cannot be opened or was made by a newer version.
        """
        self.url = url_of(place)
        self.clock = clock
        self.engine = _engine(self.url)
        self.secrets: dict[str, str] = {}
        """The server's keys that were asked for, which never change (`secret_keys.find`)."""
        self._writers = Turns()
        self._name = self.url.render_as_string(hide_password=True)
        try:
            with self.engine.connect():
                pass
            self._migrate()
        except DBAPIError as error:
            self.close()
            raise StoreError(
                f"cannot open the database '{self._name}': {_reason(error)}; check the path or URL"
            ) from None
        except BaseException:
            self.close()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing.

        Raises: StoreError if the server is gone, or every connection is in use for long.
        """
        try:
            with self.engine.connect() as connection:
                if not self.is_sqlite:
                    connection = connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                with connection.begin() as transaction:
                    yield connection
                    transaction.rollback()
        except (OperationalError, NoConnectionLeft) as error:
            raise StoreError(
                f"cannot read from '{self._name}': {_reason(error)}; try again"
            ) from error

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block ends, or has not happened.

        Raises: StoreError if another writer keeps SQLite busy for `SECONDS_TO_WAIT`, the disk is
        full, or the server is gone.
        """
        try:
            with self._turn_to_write(), self.engine.connect() as connection:
                connection = connection.execution_options(hark_writes=True)
                with connection.begin():
                    yield connection
        except (OperationalError, NoConnectionLeft) as error:
            raise StoreError(
                f"cannot write to '{self._name}': {_reason(error)}; nothing of it was kept: try "
                "again"
            ) from error

    @contextlib.contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        """Of SQLite, which has one writer at a time."""
        with contextlib.ExitStack() as stack:
            if self.is_sqlite:
                try:
                    stack.enter_context(self._writers.turn(SECONDS_TO_WAIT))
                except TimeoutError:
                    raise StoreError(
                        f"cannot write to '{self._name}': too many write at once; nothing of it "
                        "was kept: try again"
                    ) from None
            yield

    def overwrite_deleted(self) -> None:
        """Leave nothing on the disk of what was deleted (SQLite; PostgreSQL does it by VACUUM)."""
        if not self.is_sqlite:
            return
        with self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _migrate(self) -> None:
        with self.write() as connection:
            if not self.is_sqlite:
                lock = sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(MIGRATION_LOCK))
                connection.execute(lock)
            migrate(connection, self._name)


def migrate(connection: Connection, name: str, *, to: str = "head") -> None:
    """Bring the tables of a database up to a version, inside the transaction of `connection`.

    Raises: StoreError if they are of a version that is not known here.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in {one.revision for one in scripts.walk_revisions()}:
        raise StoreError(
            f"the database '{name}' is of version '{current}', which this hark does not know: "
            "upgrade hark, or give another database"
        )
    if current != scripts.get_current_head() or to != "head":
        command.upgrade(config, to)


def url_of(place: str | Path) -> URL:
    """The URL of a file or URL. Raises: StoreError for a database that is not supported."""
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        url = make_url(place)
    except ArgumentError:
        raise StoreError("the database URL cannot be read; expected 'postgresql://…'") from None
    backend = url.drivername.split("+")[0]
    if backend in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    elif backend != "sqlite":
        raise StoreError(
            f"hark keeps feedback in SQLite or PostgreSQL, not in '{backend}'; give a file or "
            "'postgresql://user@host/database'"
        )
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    try:
        return sqlalchemy.create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,  # Labels and hashes of secrets do not belong in a log.
        )
    except (ImportError, NoSuchModuleError):
        raise StoreError(
            "PostgreSQL needs the package psycopg: pip install 'hark[postgres]'"
        ) from None


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise StoreError("feedback is not kept in memory; give a file, for example feedback.db")
    parent = Path(url.database).parent
    if not parent.is_dir():
        raise StoreError(f"there is no directory '{parent}' for the database '{url.database}'")
    engine = sqlalchemy.create_engine(
        url,
        pool_size=CONNECTIONS,
        hide_parameters=True,
        max_overflow=0,
        connect_args={"timeout": SECONDS_TO_WAIT, "check_same_thread": False},
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # Python's driver would begin transactions by itself, and not before a CREATE or a SELECT.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON").fetchall()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("hark_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: DBAPIError | NoConnectionLeft) -> str:
    if isinstance(error, NoConnectionLeft):
        return f"all {CONNECTIONS} connections are in use"
    return " ".join(str(error.orig).split()) or type(error.orig).__name__
