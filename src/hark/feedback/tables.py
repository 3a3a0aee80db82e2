"""The tables of the feedback store, for SQLite and PostgreSQL alike.

`events` is the record: append-only, and every row says by itself what was shown and what was
answered. The other tables say who takes part, what there is to label and who holds what right now;
they may change. Times are seconds since 1970 (UTC), identifiers are strings.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Counter = BigInteger().with_variant(Integer, "sqlite")
"""A 64-bit key that counts up; SQLite counts only in a column of its type INTEGER."""


def _id(*, primary: bool = True) -> Column[str]:
    return Column("id", String(64), primary_key=primary)


def _of(name: str, target: str, *, required: bool = True, primary: bool = False) -> Column[str]:
    key = ForeignKey(f"{target}.id")
    return Column(name, String(64), key, nullable=not required, primary_key=primary)


def _time(name: str, *, required: bool = True) -> Column[float]:
    return Column(name, Double, nullable=not required)


people = Table(
    "people",
    metadata,
    _id(),
    Column(
        "pseudonym", String(64), nullable=False, unique=True
    ),  # all that events ever say of them
    Column("role", String(16), nullable=False),
    Column("login", String(254), unique=True),  # null once forgotten
    Column("password_hash", Text),
    Column("disabled", Boolean, nullable=False, default=False),
    _time("created_at"),
    _time("forgotten_at", required=False),
)

invites = Table(
    "invites",
    metadata,
    _id(),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("study_id", String(64), ForeignKey("studies.id")),
    Column("held_out", Boolean, nullable=False, default=False),
    Column("uses_left", Integer, nullable=False),
    _of("created_by", "people"),
    _time("created_at"),
    _time("expires_at"),
)

tokens = Table(
    "tokens",
    metadata,
    _id(),
    Column("kind", String(16), nullable=False),  # session | api
    Column("token_hash", String(64), nullable=False, unique=True),
    _of("person_id", "people"),
    Column("label", String(200), nullable=False, default=""),
    Column("csrf", String(64)),  # of a session
    _time("created_at"),
    _time("expires_at"),
    Index(None, "person_id"),
)

login_attempts = Table(
    "login_attempts",
    metadata,
    Column("key_hash", String(64), primary_key=True),  # of a login, or of an address
    Column("failures", Integer, nullable=False),
    _time("last_at"),
)

studies = Table(
    "studies",
    metadata,
    _id(),
    Column("name", String(100), nullable=False, unique=True),
    Column("state", String(16), nullable=False),  # draft | open | paused | closed
    Column("settings", JSON, nullable=False),
    _of("owner_id", "people"),
    Column("queued", Integer, nullable=False, server_default="0"),  # numbers given in its queue
    _time("created_at"),
)

members = Table(
    "members",
    metadata,
    _of("study_id", "studies", primary=True),
    _of("person_id", "people", primary=True),
    Column("state", String(16), nullable=False),  # screening | active | rejected | paused
    Column("held_out", Boolean, nullable=False, default=False),
    _time("joined_at"),
)

member_categories = Table(
    "member_categories",
    metadata,
    _of("study_id", "studies", primary=True),
    _of("person_id", "people", primary=True),
    Column("category", String(64), primary_key=True),
    _time("consented_at"),
)

items = Table(
    "items",
    metadata,
    _id(),
    _of("study_id", "studies"),
    Column("position", Integer, nullable=False),
    Column("use", String(16), nullable=False),  # train | test | gold | screening
    Column("content", JSON, nullable=False),
    Column("gold", JSON),  # the answer that is known to be right
    Column("source_id", String(200)),  # what a file or a client calls it
    Column("votable", Boolean, nullable=False),  # every candidate can be read to its end
    Column("slots", Integer),  # how many labelers it wants; null: as many as there are
    Column("taken", Integer, nullable=False),
    Column("fill", String(8), nullable=False),  # fresh | begun | full, by taken and slots
    Column("queue", Integer, nullable=False, server_default="0"),  # see queue.py
    UniqueConstraint("study_id", "position"),
    UniqueConstraint("study_id", "source_id"),
    CheckConstraint("taken >= 0 AND (slots IS NULL OR taken <= slots)", name="overlap"),
    Index(None, "study_id", "use", "votable", "fill", "queue"),
)

queue_places = Table(
    "queue_places",
    metadata,
    _of("study_id", "studies", primary=True),
    _of("person_id", "people", primary=True),
    Column("use", String(16), primary_key=True),
    Column("fill", String(8), primary_key=True),
    Column("passed", Integer, nullable=False),  # up to this number, nothing for them
)

item_categories = Table(
    "item_categories",
    metadata,
    _of("item_id", "items", primary=True),
    Column("category", String(64), primary_key=True),
)

assignments = Table(
    "assignments",
    metadata,
    _id(),
    _of("study_id", "studies"),
    _of("item_id", "items"),
    _of("person_id", "people"),
    Column("state", String(16), nullable=False),  # open | done | late | skipped | expired
    Column("slot", Integer),  # held while open or done
    Column("lease", Integer, nullable=False, default=1),  # how often it was handed out
    Column("keyed", Boolean, nullable=False, server_default=false()),  # see chance.display_order
    _time("leased_at"),
    _time("expires_at"),
    _time("step_started_at", required=False),
    _time("finished_at", required=False),
    UniqueConstraint("item_id", "person_id"),  # no labeler twice on one item
    UniqueConstraint("item_id", "slot"),  # no two labelers in one place
    Index(None, "study_id", "state", "expires_at"),
    Index(None, "person_id", "study_id", "state"),
    Index(None, "person_id", "leased_at"),
)

candidates = Table(
    "candidates",
    metadata,
    _id(),
    _of("item_id", "items"),
    Column("assignment_id", String(64), ForeignKey("assignments.id")),  # of a live dialogue
    Column("turn", Integer, nullable=False, default=0),
    Column("generation", Integer, nullable=False),  # counts up when unusable ones are replaced
    Column("place", Integer, nullable=False),
    Column("body", JSON, nullable=False),
    _time("created_at"),
    Index(None, "item_id", "assignment_id", "turn", "generation"),
)

events = Table(
    "events",
    metadata,
    Column("position", Counter, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("schema_version", Integer, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("author", String(64), nullable=False),  # a pseudonym, never a name
    Column("client_key", String(100), nullable=False),
    Column("request_hash", String(64), nullable=False),
    _of("study_id", "studies", required=False),
    Column("item_id", String(64)),
    Column("assignment_id", String(64)),
    Column("supersedes", String(64), ForeignKey("events.id"), unique=True),
    Column("body", JSON, nullable=False),
    _time("created_at"),
    UniqueConstraint("author", "client_key"),  # retries and double clicks make one event
    Index(None, "study_id", "kind", "position"),
    Index(None, "assignment_id", "position"),
    sqlite_autoincrement=True,
)

secret_keys = Table(
    "secret_keys",
    metadata,
    Column("purpose", String(64), primary_key=True),
    Column("secret", String(64), nullable=False),
    _time("created_at"),
)

candidate_scores = Table(
    "candidate_scores",
    metadata,
    Column("model", String(200), primary_key=True),  # a preference model
    _of("candidate_id", "candidates", primary=True),
    Column("score", Double, nullable=False),
    _time("created_at"),
)
