"""Studies and who takes part in them.

Every public function is one transaction. What a study's owner changes is kept as an event too, so
that each label can be read beside the instructions of its day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator
from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, update

from hark.errors import did_you_mean
from hark.feedback import accounts, events, queue
from hark.feedback.identifiers import new_id
from hark.feedback.records import FreeText, Name, Sampling, WrittenText
from hark.feedback.refusals import ConflictError, NotAllowedError, NotFoundError
from hark.feedback.screening import CutOffs
from hark.feedback.store import Store
from hark.feedback.tables import member_categories, members, studies
from hark.feedback.tasks import TaskKind
from hark.settings import Settings

StudyState = Literal["draft", "open", "paused", "closed"]
MemberState = Literal["screening", "active", "rejected", "paused"]

MAY_BECOME: Final[Mapping[str, frozenset[str]]] = {
    "draft": frozenset({"open", "closed"}),
    "open": frozenset({"paused", "closed"}),
    "paused": frozenset({"open", "closed"}),
    "closed": frozenset({"open"}),
}
WITHOUT_RESPONSES: Final = frozenset({"demonstration", "review", "audit"})
"""Kinds of task in which nothing that a model says is judged."""
Category = Annotated[str, Field(pattern=r"^[^/\x00-\x1f]{1,64}$")]
MAXIMUM_OVERLAP: Final = 1_000_000
MANAGERS: Final = ("owner", "researcher")
"""The roles that make and change studies."""


class StudySettings(Settings):
    """What a study asks of whom, how often, and how."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]
    """In addresses and exports: small letters, digits, hyphens."""
    title: Annotated[str, Field(max_length=1000)]
    task: TaskKind
    """The kind of all its items but those of its screening test."""
    instructions: WrittenText
    """Written by the owner for the labelers; Markdown."""
    round: Annotated[int, Field(ge=0)] = 0
    """Of online training; every event carries it."""
    overlap: Annotated[int, Field(ge=1, le=MAXIMUM_OVERLAP)] = 1
    """Labelers for each item."""
    gold_fraction: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Share of the assignments that have a known answer, while such items are left."""
    lease_minutes: Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)] = 15.0
    """Without a sign of life for so long, an item goes to somebody else."""
    maximum_labels: Annotated[int, Field(ge=1)] | None = None
    """Items for each labeler; None is no limit."""
    maximum_sensitive_per_day: Annotated[int, Field(ge=0)] | None = 100
    """Items of any category that a labeler may have been given in the last 24 hours, in this study
    and all others, to be given one more here; None is no limit. The default is ours, for want of a
    published one: five times the 20 in a row after which the page suggests a pause."""
    pay_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """What a labeler earns in an hour of activity, in any currency; for the cost in figures."""
    pay_per_label: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """What a labeler earns for each label, in the same currency; both may be paid."""
    categories: dict[Category, FreeText] = Field(default_factory=dict)
    """Category → the warning that a labeler reads before agreeing to see such items."""
    support: FreeText = ""
    """Where a labeler finds help; shown beside sensitive items."""
    break_minutes: Annotated[float, Field(gt=0)] | None = 45.0
    """After so much work without a pause, the page suggests one; None never does."""
    screening: CutOffs | None = None
    """What the screening test asks; None admits everyone who is invited."""
    snapshots: tuple[Name, ...] = ()
    """Names of the models, of those that the server knows, that answer in this study: two of them
    drawn for each comparison, or the only one twice. None leaves responses to files and clients."""
    sampling: Sampling = Sampling()
    """How they answer; a seed makes another set of draws."""
    max_response_tokens: Annotated[int, Field(ge=1)] = 256
    """A response that is longer is cut off, and so is drawn again."""
    ranked_responses: Annotated[int, Field(ge=2, le=9)] | None = None
    """How many are drawn for each item of a ranking; 4, the fewest of InstructGPT's, by default."""

    @model_validator(mode="after")
    def _consistent_models(self) -> Self:
        if len(set(self.snapshots)) < len(self.snapshots):
            raise ValueError("a snapshot is named twice; one alone is compared with itself")
        if self.snapshots and self.task in WITHOUT_RESPONSES:
            raise ValueError(f"snapshots would be ignored: no model answers in a '{self.task}'")
        if self.ranked_responses is not None and not (self.snapshots and self.task == "ranking"):
            raise ValueError("ranked_responses would be ignored: it is for models that are ranked")
        if self.sampling.best_of > 1 and self.sampling.temperature == 0:
            raise ValueError(
                "best_of above 1 at temperature 0 draws one response again and again; raise the "
                "temperature"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as it stands."""

    id: str
    state: StudyState
    owner_id: str
    settings: StudySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A labeler in a study."""

    study_id: str
    person_id: str
    state: MemberState
    held_out: bool
    """Labels no training data, so that others' agreement with it is a fair test."""
    categories: frozenset[str]
    """What they have agreed to see."""


def create_study(store: Store, settings: StudySettings, *, by: str) -> Study:
    """A draft of a study. Raises: NotAllowedError; ConflictError if the name is taken."""
    study_id, now = new_id(), store.clock()
    with store.write() as connection:
        person = accounts.require(connection, by, MANAGERS)
        taken = connection.execute(select(studies.c.id).where(studies.c.name == settings.name))
        if taken.one_or_none():
            raise ConflictError(f"there is a study '{settings.name}' already; choose another name")
        row = {
            "id": study_id,
            "name": settings.name,
            "state": "draft",
            "settings": settings.model_dump(mode="json"),
            "owner_id": by,
            "created_at": now,
        }
        connection.execute(insert(studies).values(row))
        study = get_study(connection, study_id)
        _record_change(connection, study, person.pseudonym, now)
        return study


def change_study(
    store: Store, study_id: str, changes: StudySettings | Mapping[str, Any], *, by: str
) -> Study:
    """Change all but the task and the overlap of a study, for what is labelled from now on.

    changes: all settings anew, or those that change.
    Raises: NotAllowedError; SettingsError; ConflictError if the kind of task or the overlap would
    change.
    """
    now = store.clock()
    with store.write() as connection:
        person = accounts.require(connection, by, MANAGERS)
        study = lock_study(connection, study_id)
        settings = _changed(study.settings, changes)
        for fixed in ("name", "task", "overlap"):
            if getattr(study.settings, fixed) != getattr(settings, fixed):
                raise ConflictError(
                    f"the {fixed} of study '{study.settings.name}' is fixed: make a new study"
                )
        values = {"settings": settings.model_dump(mode="json")}
        connection.execute(update(studies).where(studies.c.id == study_id).values(values))
        changed = get_study(connection, study_id)
        _record_change(connection, changed, person.pseudonym, now)
        return changed


def _changed(settings: StudySettings, changes: StudySettings | Mapping[str, Any]) -> StudySettings:
    if isinstance(changes, StudySettings):
        return changes
    return StudySettings.parse({**settings.model_dump(mode="json"), **changes})


def set_state(store: Store, study_id: str, state: StudyState, *, by: str) -> Study:
    """Open, pause or close a study. Raises: NotAllowedError; ConflictError for another step."""
    now = store.clock()
    with store.write() as connection:
        person = accounts.require(connection, by, MANAGERS)
        study = lock_study(connection, study_id)
        if state == study.state:
            return study
        if state not in MAY_BECOME[study.state]:
            raise ConflictError(
                f"study '{study.settings.name}' is {study.state} and cannot become {state}; "
                f"it can become: {', '.join(sorted(MAY_BECOME[study.state]))}"
            )
        connection.execute(update(studies).where(studies.c.id == study_id).values(state=state))
        changed = get_study(connection, study_id)
        _record_change(connection, changed, person.pseudonym, now)
        return changed


def find_study(store: Store, name: str) -> Study:
    """Raises: NotFoundError with the closest name there is."""
    with store.read() as connection:
        row = connection.execute(select(studies).where(studies.c.name == name)).one_or_none()
        if row is not None:
            return study_of(row)
        names = connection.execute(select(studies.c.name)).scalars().all()
    close = did_you_mean(name, names)
    raise NotFoundError(f"there is no study '{name}'{close}")


def find_drawn(store: Store) -> list[Study]:
    """The open studies whose responses come from models that a server knows."""
    with store.read() as connection:
        rows = connection.execute(select(studies).where(studies.c.state == "open")).all()
        return [study for row in rows if (study := study_of(row)).settings.snapshots]


def get_study(connection: Connection, study_id: str) -> Study:
    """Raises: NotFoundError."""
    row = connection.execute(select(studies).where(studies.c.id == study_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no study '{study_id}'")
    return study_of(row)


def lock_study(connection: Connection, study_id: str) -> Study:
    """The study, with every other change to its items, members and assignments made to wait.

    Raises: NotFoundError.
    """
    # Weaker than FOR UPDATE: rows that only refer to the study may be added meanwhile.
    held = select(studies).where(studies.c.id == study_id)
    statement = held.with_for_update(key_share=True)
    row = connection.execute(statement).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no study '{study_id}'")
    return study_of(row)


def join(store: Store, study_id: str, person_id: str, *, held_out: bool = False) -> Member:
    """Take part; whoever does already stays as they are."""
    with store.write() as connection:
        return admit(connection, study_id, person_id, held_out=held_out, now=store.clock())


def admit(
    connection: Connection, study_id: str, person_id: str, *, held_out: bool, now: float
) -> Member:
    """`join` within a transaction. Held-out labelers skip screening (2203.02155, appendix B.1)."""
    study = lock_study(connection, study_id)
    accounts.require(connection, person_id, accounts.ROLES)
    if found := find_member(connection, study_id, person_id):
        return found
    screened = study.settings.screening is not None and not held_out
    row = {
        "study_id": study_id,
        "person_id": person_id,
        "state": "screening" if screened else "active",
        "held_out": held_out,
        "joined_at": now,
    }
    connection.execute(insert(members).values(row))
    return get_member(connection, study_id, person_id)


def set_member_state(
    store: Store, study_id: str, person_id: str, state: MemberState, *, by: str
) -> Member:
    """Pause, readmit or turn away a labeler; their labels stay. Kept as an event."""
    return _change_member(store, study_id, person_id, "state", state, by=by)


def set_held_out(store: Store, study_id: str, person_id: str, held_out: bool, *, by: str) -> Member:
    """Let a labeler label no more training data, or again; kept as an event.

    Raises: NotAllowedError if `by` is no manager, or the person does not take part.
    """
    return _change_member(store, study_id, person_id, "held_out", held_out, by=by)


def _change_member(
    store: Store,
    study_id: str,
    person_id: str,
    what: Literal["state", "held_out"],
    value: MemberState | bool,
    *,
    by: str,
) -> Member:
    with store.write() as connection:
        author = accounts.require(connection, by, MANAGERS).pseudonym
        lock_study(connection, study_id)
        before = getattr(get_member(connection, study_id, person_id), what)
        if before != value:
            ours = _membership(study_id, person_id)
            connection.execute(update(members).where(ours).values({what: value}))
            labeler = accounts.get_person(connection, person_id).pseudonym
            events.append_change(
                connection,
                "member_changed",
                {"labeler": labeler, "what": what, "before": before, "after": value},
                by=author,
                now=store.clock(),
                study_id=study_id,
            )
        return get_member(connection, study_id, person_id)


def put_member_state(
    connection: Connection, study_id: str, person_id: str, state: MemberState
) -> None:
    """The decision of a screening test, within the transaction that keeps its event."""
    connection.execute(update(members).where(_membership(study_id, person_id)).values(state=state))


def opt_in(
    store: Store, study_id: str, person_id: str, category: str, *, client_key: str
) -> Member:
    """Agree to see items of a category, having read its warning; kept as an event.

    Raises: NotFoundError for a category that the study does not have.
    """
    return _consent(store, study_id, person_id, category, client_key, agrees=True)


def opt_out(
    store: Store, study_id: str, person_id: str, category: str, *, client_key: str
) -> Member:
    """See no more items of a category."""
    return _consent(store, study_id, person_id, category, client_key, agrees=False)


def _consent(
    store: Store, study_id: str, person_id: str, category: str, client_key: str, *, agrees: bool
) -> Member:
    now = store.clock()
    with store.write() as connection:
        study = lock_study(connection, study_id)
        get_member(connection, study_id, person_id)
        known = study.settings.categories
        if category not in known:
            close = did_you_mean(category, known)
            raise NotFoundError(
                f"study '{study.settings.name}' has no category '{category}'{close}"
            )
        body = {"category": category, "agrees": agrees, "warning": known[category]}
        kept = events.append(
            connection,
            events.NewEvent(
                kind="consent",
                author=accounts.get_person(connection, person_id).pseudonym,
                client_key=client_key,
                study_id=study_id,
                body=body,
                request=body,
            ),
            now=now,
        )
        if not kept.repeated:
            _put_category(connection, study_id, person_id, category, agrees, now)
        return get_member(connection, study_id, person_id)


def _put_category(
    connection: Connection, study_id: str, person_id: str, category: str, agrees: bool, now: float
) -> None:
    row = {"study_id": study_id, "person_id": person_id, "category": category}
    held = member_categories.c
    ours = (held.study_id == study_id) & (held.person_id == person_id)
    connection.execute(delete(member_categories).where(ours, held.category == category))
    if agrees:
        connection.execute(insert(member_categories).values(**row, consented_at=now))
        queue.start_anew(connection, study_id, person_id)


def get_member(connection: Connection, study_id: str, person_id: str) -> Member:
    """Raises: NotAllowedError if the person does not take part."""
    found = find_member(connection, study_id, person_id)
    if found is None:
        raise NotAllowedError("you do not take part in this study: ask its owner for an invite")
    return found


def find_member(connection: Connection, study_id: str, person_id: str) -> Member | None:
    """The person's part in the study, if any."""
    row = connection.execute(select(members).where(_membership(study_id, person_id))).one_or_none()
    if row is None:
        return None
    held = member_categories.c
    categories = connection.execute(
        select(held.category).where(held.study_id == study_id, held.person_id == person_id)
    ).scalars()
    return Member(
        study_id=study_id,
        person_id=person_id,
        state=row.state,
        held_out=row.held_out,
        categories=frozenset(categories),
    )


def _membership(study_id: str, person_id: str) -> ColumnElement[bool]:
    return (members.c.study_id == study_id) & (members.c.person_id == person_id)


def study_of(row: Row[Any]) -> Study:
    """A row of the table."""
    return Study(
        id=row.id,
        state=row.state,
        owner_id=row.owner_id,
        settings=StudySettings.parse(row.settings, where=f"study '{row.name}'"),
    )


def _record_change(connection: Connection, study: Study, author: str, now: float) -> None:
    events.append(
        connection,
        events.NewEvent(
            kind="study_changed",
            author=author,
            client_key=new_id(),
            study_id=study.id,
            body={"state": study.state, "settings": study.settings.model_dump(mode="json")},
        ),
        now=now,
    )
