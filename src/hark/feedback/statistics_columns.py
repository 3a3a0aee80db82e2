"""The labels of a study in columns: what statistics read of them, in a hundred bytes each.

A dashboard looks every few seconds, and a study may have a million labels. Events are folded in one
by one, in their order, and never read again: a correction strikes out the row of what it supersedes
and adds one at the end. What was folded in pieces is the same as what was folded at once.

Items, assignments and candidates are known by the first 64 bits of a hash of their ids; two of a
million share them once in 30 million studies.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Select, select

from hark.feedback.gold import Gold
from hark.feedback.statistics_agreement import (
    PREFERENCE,
    Answers,
    Opinion,
    gold_mark,
    opinions_beside_preference,
    subject_keys,
)
from hark.feedback.statistics_labels import FOLLOWED, Label, known_answers, label_of, preferences
from hark.feedback.tables import events
from hark.feedback.votes import MEASURED, shown_order

Array = NDArray[Any]
UNKNOWN: Final = -1
"""In a column of what cannot be negative."""
AT_ONCE: Final = 500
"""Rows fetched from the database together."""


class Table:
    """Columns of numbers that grow."""

    def __init__(self, **kinds: str) -> None:
        """kinds: of each column, as `array.array` has them."""
        self._columns: dict[str, array[Any]] = {name: array(kind) for name, kind in kinds.items()}

    def add(self, **values: float) -> None:
        """One row; every column is given."""
        for name, column in self._columns.items():
            column.append(values[name])

    def put(self, name: str, row: int, value: int) -> None:
        """Change one number."""
        self._columns[name][row] = value

    def row_of(self, name: str, value: int) -> int | None:
        """Where an ascending column has this value."""
        with memoryview(self._columns[name]) as view:
            found = np.frombuffer(view, np.int64)
            row = int(np.searchsorted(found, value)) if len(found) else 0
            there = row < len(found) and found[row] == value
            del found
        return row if there else None

    def __getitem__(self, name: str) -> Array:
        """A copy, so that the column can go on growing."""
        return np.array(self._columns[name])

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))


class Columns:
    """The labels of a study, folded in up to a position of its log."""

    def __init__(self) -> None:
        self.position = 0
        """Of the last event that was folded in."""
        self.authors: list[str] = []
        self.models: list[str] = []
        self.skips: Counter[str] = Counter()
        """By author."""
        self.labels = Table(
            position="q", author="i", item="q", assignment="q", created="d", claimed="d",
            milliseconds="q", read="q", written="q", pasted="q", replaces="i", best="b", among="b",
            counts="b", stands="b", screening="b",
        )  # fmt: skip
        """A row for each label and each step on the way to one."""
        self.pairs = Table(
            row="i", place="i", sign="b", candidate="q", other="q", model="h", other_model="h",
            shown_first="b", live="b", cast="b",
        )  # fmt: skip
        """A row for each two candidates, in the item's order, of a label that compares them."""
        self.marks = Table(row="i", value="d")
        """A row for each label of a gold item: the share of the known answer that it gave."""
        self._said: dict[tuple[str, str], Table] = {}
        self._codes: dict[str, int] = {}
        self._model_codes: dict[str, int] = {}
        self._gold: dict[str, Gold | None] = {}

    def fold(self, connection: Connection, study_id: str, *, most: int | None = None) -> int:
        """Take in what was added to the log since, or so many events of it; return how many."""
        taken = 0
        wanted = self._positions(connection, study_id, most)
        for start in range(0, len(wanted), AT_ONCE):
            for row in connection.execute(_rows_at(wanted[start : start + AT_ONCE].tolist())):
                self._take(connection, study_id, row)
                taken += 1
        return taken

    def _positions(self, connection: Connection, study_id: str, most: int | None) -> array[int]:
        """Of the events to be read; from the index alone, so that no text is sorted."""
        e = events.c
        statement = select(e.position).where(
            e.study_id == study_id,
            e.position > self.position,
            e.kind.in_(sorted(FOLLOWED | {"skip"})),
        )
        found = connection.execute(statement.order_by(e.position).limit(most))
        return array("q", found.scalars())

    def _take(self, connection: Connection, study_id: str, row: Row[Any]) -> None:
        if row.kind == "skip":
            self.skips[row.author] += 1
        elif row.kind == "retraction":
            self.strike(row.replaced)
        else:
            label = label_of(row)
            replaced = None if row.replaced is None else self.strike(row.replaced)
            gold = None
            if label.use == "gold":
                gold = self._gold_of(connection, study_id, label.item_id)
            self.add(label, row.position, replaces=replaced, gold=gold)
        self.position = row.position

    @classmethod
    def of(
        cls, labels: Iterable[Label], gold: dict[str, tuple[str, Gold]] | None = None
    ) -> Columns:
        """Labels at hand."""
        made = cls()
        known = {name: one for name, (use, one) in (gold or {}).items() if use == "gold"}
        for position, label in enumerate(labels, start=1):
            made.add(label, position, gold=known.get(label.item_id))
        return made

    def seconds(self) -> tuple[Array, Array]:
        """[rows]: of activity as the browser says, NaN where it does not; and at most what has
        passed, by the server's clock, since the item was handed out or the step before came."""
        claimed, created = self.labels["claimed"], self.labels["created"]
        replaces, told = self.labels["replaces"], self.labels["milliseconds"]
        said = np.where(told == UNKNOWN, np.nan, told / 1000)
        # A correction keeps the time of what it replaces, and is no step that others wait for.
        steps = np.flatnonzero(replaces == UNKNOWN)
        steps = steps[np.argsort(self.labels["assignment"][steps], kind="stable")]
        same = np.diff(self.labels["assignment"][steps]) == 0
        before = claimed[steps]
        before[1:][same] = created[steps][:-1][same]
        room = np.full(len(said), np.inf)
        room[steps] = np.where(np.isnan(before), np.inf, created[steps] - before)
        for row in np.flatnonzero(replaces != UNKNOWN):
            room[row] = room[replaces[row]]
        return said, np.minimum(said, np.maximum(room, 0.0))

    def strike(self, position: int) -> int | None:
        """What was said at a position of the log stands no more; return its row."""
        row = self.labels.row_of("position", position)
        if row is not None:
            self.labels.put("stands", row, 0)
        return row

    def add(
        self, label: Label, position: int, *, replaces: int | None = None, gold: Gold | None = None
    ) -> None:
        """One label more, wholly or, if it cannot be read, not at all.

        gold: what is known of its item, if that is what the item is for.
        """
        # All that may fail comes before the first row: a fold that failed begins here again.
        mark = gold_mark(label, gold) if label.counts and gold is not None else None
        opinions = list(opinions_beside_preference(label)) if label.counts else []
        row, best, among = len(self.labels), UNKNOWN, 0
        ranks, order = label.ranks, label.display_order
        if label.counts and ranks is not None and order is not None and ranks.count(1) == 1:
            best, among = order.index(ranks.index(1)), len(ranks)
        pairs = self._pairs_of(row, label) if label.counts else []
        self.labels.add(
            position=position,
            author=_code(self._codes, self.authors, label.author),
            item=key_of(label.item_id),
            assignment=key_of(label.assignment_id),
            created=label.created_at,
            claimed=np.nan if label.claimed_at is None else label.claimed_at,
            milliseconds=UNKNOWN if label.seconds is None else round(label.seconds * 1000),
            read=label.read_characters,
            written=label.written_characters,
            pasted=label.pasted_characters,
            replaces=UNKNOWN if replaces is None else replaces,
            best=best,
            among=among,
            counts=label.counts,
            stands=True,
            screening=label.use == "screening",
        )
        for pair in pairs:
            self.pairs.add(**pair)
        for one in opinions:
            self._add_opinion(row, one)
        if mark is not None:
            self.marks.add(row=row, value=mark)

    def _pairs_of(self, row: int, label: Label) -> list[dict[str, Any]]:
        if label.ranks is None:
            return []
        count = len(label.candidate_ids)
        keys = [key_of(name) for name in label.candidate_ids]
        models = [
            UNKNOWN if name is None else _code(self._model_codes, self.models, name)
            for name in label.snapshots
        ]
        named = not label.names_model and None not in label.snapshots
        cast = named and not label.late and label.use in MEASURED
        order = shown_order(label.id, label.display_order, count)
        at = {place: screen for screen, place in enumerate(order)}
        return [
            {
                "row": row, "place": place_of((None, i, j)), "sign": sign,
                "candidate": keys[i], "other": keys[j],
                "model": models[i], "other_model": models[j],
                "shown_first": at[i] < at[j], "live": label.kind == "comparison", "cast": cast,
            }
            for i, j, sign in preferences(label)
        ]  # fmt: skip

    def _add_opinion(self, row: int, one: Opinion) -> None:
        name = (one.question, one.level)
        if name not in self._said:
            self._said[name] = Table(row="i", place="i", value="i")
        self._said[name].add(row=row, place=place_of(one.subject), value=int(one.value))

    def answers(self, wanted: Array) -> list[Answers]:
        """What the labels that are `wanted` [rows] say and still stands, question by question."""
        wanted = wanted & (self.labels["stands"] > 0)
        item, author = self.labels["item"], self.labels["author"]
        found = []
        given = [((PREFERENCE, "nominal"), self.pairs, "sign"), *(
            (name, table, "value") for name, table in self._said.items()
        )]  # fmt: skip
        for (question, level), table, column in given:
            row = table["row"]
            keep = wanted[row]
            if table is self.pairs:
                keep &= table["live"] == 0
            if keep.any():
                row = row[keep]
                found.append(
                    Answers(
                        question=question,
                        level=level,  # type: ignore[arg-type]
                        subject=subject_keys(item[row], table["place"][keep]),
                        author=author[row],
                        value=table[column][keep].astype(float),
                    )
                )
        return sorted(found, key=lambda one: one.order)

    def _gold_of(self, connection: Connection, study_id: str, item_id: str) -> Gold | None:
        if item_id not in self._gold:
            known = known_answers(connection, study_id, uses=("gold",))
            self._gold |= {name: one for name, (_, one) in known.items()}
            self._gold.setdefault(item_id, None)
        return self._gold[item_id]


def _rows_at(positions: Sequence[int]) -> Select[Any]:
    e, earlier = events.c, events.alias("earlier")
    return (
        select(
            e.position, e.id, e.kind, e.author, e.item_id, e.assignment_id, e.supersedes, e.body,
            e.created_at, earlier.c.position.label("replaced"),
        )
        .outerjoin(earlier, earlier.c.id == e.supersedes)
        .where(e.position.in_(positions))
        .order_by(e.position)
    )  # fmt: skip


def key_of(name: str) -> int:
    """64 bits that stand for an id."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def place_of(subject: Any) -> int:
    """What of an item an opinion is about: 0 is the item, then its candidates, then two of them."""
    places = subject[1:] if isinstance(subject, tuple) else ()
    return sum((place + 1) * 16**power for power, place in enumerate(places))


def _code(codes: dict[str, int], names: list[str], name: str) -> int:
    code = codes.setdefault(name, len(names))
    if code == len(names):
        names.append(name)
    return code


def answers_of(said: Iterable[Opinion], authors: dict[str, int] | None = None) -> list[Answers]:
    """Opinions at hand, in the form in which many are compared.

    authors: numbers of those that are known; others are given the next ones.
    """
    numbers = {} if authors is None else authors
    found = []
    by_question = itertools.groupby(
        sorted(said, key=lambda one: (one.question, one.level)),
        key=lambda one: (one.question, one.level),
    )
    for (question, level), group in by_question:
        these = list(group)
        items = [one.subject[0] if isinstance(one.subject, tuple) else one.subject for one in these]
        found.append(
            Answers(
                question=question,
                level=level,
                subject=subject_keys(
                    np.array([key_of(str(one)) for one in items]),
                    np.array([place_of(one.subject) for one in these]),
                ),
                author=np.array([numbers.setdefault(one.author, len(numbers)) for one in these]),
                value=np.array([one.value for one in these]),
            )
        )
    return sorted(found, key=lambda one: one.order)
