"""What a study's labels say, computed for all who look together and kept until there is more.

`hark.feedback` counts and compares; intervals and strengths are `hark.evaluation`'s.

1. New events are folded into columns (`statistics_columns`) and never read again.
2. Everything is computed from the columns at once, and anew only when something has changed and a
   pause is over that grows with what the last time cost: a small study is always up to date, a
   large one takes a twentieth of a core at most. What is shown says as of when it is. Whoever
   manages a study may ask for `fresh` results, computed during a pause too, one at a time.
3. Of a long log that nobody has looked at since the server began, pages show what has been read so
   far; programs are made to wait for the rest.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from hark.evaluation.bradley_terry import FIRST, SECOND, TIE
from hark.evaluation.elo import Ratings, VoteColumns, rate
from hark.evaluation.intervals import NOTHING, Estimate, clustered_rate
from hark.evaluation.matchups import Matchup, matchups
from hark.feedback.agreement import Agreement
from hark.feedback.statistics_agreement import (
    Answers,
    QuestionAgreement,
    against,
    among,
    gold_opinions,
    model_agreement,
    with_others,
)
from hark.feedback.statistics_columns import Columns, answers_of, key_of
from hark.feedback.statistics_labelers import Work, work
from hark.feedback.statistics_labels import known_answers, roles
from hark.feedback.statistics_progress import Progress, progress
from hark.feedback.store import Store
from hark.feedback.studies import MANAGERS, Study
from hark.feedback.tables import candidate_scores, candidates, events, items

Array = NDArray[Any]
NOBODY: Final = Agreement(value=None, state="nothing to compare", units=0, values=0)
REST: Final = 20.0
"""Pauses are so many times as long as what the last computation cost."""
FREE_SECONDS: Final = 0.25
"""Of a processor; what costs less is done whenever it is asked for."""
READ_AT_ONCE: Final = 25_000
"""Events read for one look at a page: a second or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelerResult:
    """A labeler's work, and how right it is as far as one can tell."""

    work: Work
    role: str
    gold: Estimate
    """Share of the known answers that they gave."""
    with_others: Agreement
    """Share of pairs with others' answers that are the same, to the study's main question."""
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteResults:
    """How models fare against each other."""

    ratings: Ratings
    matchups: tuple[Matchup, ...]

    @property
    def models(self) -> list[str]:
        """The strongest first."""
        return [one.model for one in self.ratings.ratings]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "ratings": self.ratings.to_json(),
            "matchups": [one.to_json() for one in self.matchups],
        }

    def matchup(self, row: str, column: str) -> Matchup:
        """How `row` fares against `column`, another model."""
        return next(one for one in self.matchups if (one.row, one.column) == (row, column))


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that is said of the labels of a study as they stood at one moment."""

    as_of: float
    """Seconds since 1970."""
    seconds_to_next: float
    """Before which they are not computed again."""
    labels: int
    """That were read, steps on the way to them and those superseded included."""
    unread: int
    """Events of a long log that are still to be read."""
    progress: Progress
    agreement: list[QuestionAgreement]
    """Labelers with each other, with researchers, and with each preference model."""
    gold_accuracy: Estimate
    """Share of the known answers given, over all labelers; clustered by labeler and item."""
    labelers: list[LabelerResult]
    """One for each who has labelled, those with most labels first."""
    votes: VoteResults
    """Strengths and win rates of the models that candidates name."""

    @property
    def cost(self) -> float | None:
        """Of all labelers; None if the study says nothing of pay."""
        known = [one.work.cost for one in self.labelers if one.work.cost is not None]
        return sum(known) if known else None

    @property
    def to_look_at(self) -> int:
        """Labelers who are under suspicion, or whose browser's clock is not the server's."""
        return sum(bool(one.work.suspicions) or one.work.clocks_differ for one in self.labelers)


class Scores:
    """What preference models say of a study's candidates, read again when they say more."""

    def __init__(self) -> None:
        self.version = 0
        self._stamp: object = None
        self.models: dict[str, tuple[Array, Array]] = {}
        """Model → keys of candidates, ascending, and their scores."""

    def read(self, connection: Connection, study_id: str) -> None:
        """Bring them up to date."""
        told = candidate_scores.c
        ours = (
            select(told.model)
            .join(candidates, candidates.c.id == told.candidate_id)
            .join(items, items.c.id == candidates.c.item_id)
            .where(items.c.study_id == study_id)
        )
        measures = (func.count(), func.max(told.created_at), func.sum(told.score))
        of_each = ours.add_columns(*measures).group_by(told.model).order_by(told.model)
        stamp = connection.execute(of_each).all()
        if stamp == self._stamp:
            return
        self.models = {}
        for model in [row.model for row in stamp]:
            found = connection.execute(
                ours.with_only_columns(told.candidate_id, told.score).where(told.model == model),
                execution_options={"yield_per": 1000},
            )
            rows = np.array(
                [(key_of(name), score) for name, score in found],
                dtype=[("key", np.int64), ("score", np.float64)],
            )
            rows.sort(order="key")
            self.models[model] = rows["key"].copy(), rows["score"].copy()
        self._stamp = stamp
        self.version += 1

    def of(self, model: str, wanted: Array) -> Array:
        """[n]: NaN where the model says nothing."""
        keys, scores = self.models[model]
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, scores[place], np.nan)


class Watch:
    """One study that is looked at."""

    def __init__(self, study_id: str) -> None:
        self.study_id = study_id
        self.lock = threading.Lock()
        self.columns = Columns()
        self.scores = Scores()
        self.results: Results | None = None
        self._state: object = None
        self._rests_until = 0.0
        self._begun = 0.0

    def renew(self, store: Store, study: Study) -> Results:
        """Results of all that was kept before this call; those who wait together share them."""
        asked = time.monotonic()
        with self.lock:
            found = self.results
            if found is not None and self._begun > asked and not found.unread:
                return found
            return self._look(store, study, wait=True)

    def look(self, store: Store, study: Study, *, wait: bool) -> Results:
        """The latest results; wait: until the whole log has been read."""
        found = self.results
        if found is not None and not (wait and found.unread):
            # While one computes, or has just done so, others see what there is.
            if time.monotonic() < self._rests_until or not self.lock.acquire(blocking=False):
                return found
        else:
            self.lock.acquire()
        try:
            return self._look(store, study, wait=wait)
        finally:
            self.lock.release()

    def _look(self, store: Store, study: Study, *, wait: bool) -> Results:
        now, self._begun = store.clock(), time.monotonic()
        with store.read() as connection:
            most = None if wait else READ_AT_ONCE
            taken = self.columns.fold(connection, self.study_id, most=most)
            unread = 0 if taken != most else self._count_unread(connection)
            self.scores.read(connection, self.study_id)
            # Reading a long log is done once; what is done again and again sets the rest.
            begun = time.thread_time()
            known = known_answers(connection, self.study_id, uses=("screening",))
            role_of = roles(connection)
            times = label_times(self.columns)
            counted = progress(connection, self.study_id, now=now, label_times=times)
        state = (self.columns.position, self.scores.version, known, role_of, study.settings)
        if self.results is not None and self._state == state:
            found = dataclasses.replace(self.results, as_of=now, progress=counted, unread=unread)
        else:
            found = compute(self.columns, self.scores, known, role_of, study, counted)
        cost = time.thread_time() - begun
        rest = 0.0 if unread else rest_after(cost)
        self.results = dataclasses.replace(found, as_of=now, seconds_to_next=rest, unread=unread)
        self._state, self._rests_until = state, time.monotonic() + rest
        return self.results

    def _count_unread(self, connection: Connection) -> int:
        later = (events.c.study_id == self.study_id) & (events.c.position > self.columns.position)
        count = select(func.count()).select_from(events).where(later)
        return int(connection.execute(count).scalar_one())


def rest_after(cost: float) -> float:
    """Seconds to rest after so many seconds of computing."""
    return 0.0 if cost < FREE_SECONDS else REST * cost


def compute(
    columns: Columns,
    scores: Scores,
    known: dict[str, Any],
    role_of: dict[str, Any],
    study: Study,
    counted: Progress,
) -> Results:
    """Everything, from the columns."""
    manages = np.array([role_of.get(name) in MANAGERS for name in columns.authors], bool)
    of_manager = manages[columns.labels["author"]] if len(manages) else np.zeros(0, bool)
    of_test = columns.labels["screening"] > 0
    codes = {name: number for number, name in enumerate(columns.authors)}
    tested = answers_of(gold_opinions(known, use="screening"), codes)
    said = columns.answers(~of_test)
    marks = _marks(columns, of_manager)
    return Results(
        as_of=0.0,
        seconds_to_next=0.0,
        labels=len(columns.labels),
        unread=0,
        progress=counted,
        agreement=[
            *among(columns.answers(~of_manager & ~of_test), between="labelers"),
            *against(
                columns.answers(~of_manager),
                joined(columns.answers(of_manager), tested),
                between="labelers and researchers",
            ),
            *_with_models(columns, scores, ~of_manager & ~of_test),
        ],
        gold_accuracy=_rate_of(marks, by_labeler=True),
        labelers=_labelers(columns, study, role_of, said, marks),
        votes=_votes(votes(columns)),
    )


def joined(one: Sequence[Answers], other: Sequence[Answers]) -> list[Answers]:
    """Answers to the same questions put together."""
    found = {(said.question, said.level): said for said in one}
    for said in other:
        name = (said.question, said.level)
        if name in found:
            both = found[name], said
            found[name] = dataclasses.replace(
                said,
                subject=np.concatenate([given.subject for given in both]),
                author=np.concatenate([given.author for given in both]),
                value=np.concatenate([given.value for given in both]),
            )
        else:
            found[name] = said
    return list(found.values())


def _with_models(columns: Columns, scores: Scores, wanted: Array) -> list[QuestionAgreement]:
    pairs, row = columns.pairs, columns.pairs["row"]
    keep = np.zeros(0, bool)
    if len(row):
        keep = (wanted & (columns.labels["stands"] > 0))[row]
    sign = pairs["sign"][keep]
    return [
        model_agreement(
            model,
            sign,
            np.stack(
                [scores.of(model, pairs[name][keep]) for name in ("candidate", "other")], axis=1
            ),
        )
        for model in scores.models
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Marks:
    labeler: Array
    item: Array
    value: Array


def _marks(columns: Columns, of_manager: Array) -> _Marks:
    """Of labelers' labels of gold items that stand."""
    row = columns.marks["row"]
    keep = (columns.labels["stands"][row] > 0) & ~of_manager[row] if len(row) else row > 0
    return _Marks(
        labeler=columns.labels["author"][row[keep]],
        item=columns.labels["item"][row[keep]],
        value=columns.marks["value"][keep],
    )


def _rate_of(marks: _Marks, *, by_labeler: bool = False) -> Estimate:
    if not len(marks.value):
        return NOTHING
    ways = [marks.labeler] if by_labeler else []
    return clustered_rate(marks.value, clusters=[*ways, marks.item])


def _labelers(
    columns: Columns,
    study: Study,
    role_of: dict[str, Any],
    said: Sequence[Answers],
    marks: _Marks,
) -> list[LabelerResult]:
    same = with_others(said[0], columns.authors) if said else {}
    found = []
    for one in work(columns, study.settings):
        theirs = marks.labeler == columns.authors.index(one.labeler)
        mine = _Marks(**{
            field.name: getattr(marks, field.name)[theirs] for field in dataclasses.fields(_Marks)
        })  # fmt: skip
        found.append(
            LabelerResult(
                work=one,
                role=role_of.get(one.labeler, "labeler"),
                gold=_rate_of(mine),
                with_others=same.get(one.labeler, NOBODY),
                skipped=columns.skips[one.labeler],
            )
        )
    return sorted(found, key=lambda one: (-one.work.labels, one.work.labeler))


def votes(columns: Columns) -> VoteColumns:
    """What labels say of two models, as `hark.feedback.votes` has it of events.

    A ranking of K is a vote on each two.
    """
    pairs, row = columns.pairs, columns.pairs["row"]
    keep = np.zeros(0, bool)
    if len(row):
        keep = (pairs["cast"] > 0) & (columns.labels["stands"][row] > 0)
    row, sign, ahead = row[keep], pairs["sign"][keep], pairs["shown_first"][keep] > 0
    model, other = pairs["model"][keep], pairs["other_model"][keep]
    voted = sorted({columns.models[code] for code in np.unique(np.concatenate([model, other]))})
    place = np.array([voted.index(one) if one in voted else -1 for one in columns.models], np.intp)
    won = np.where(sign == 0, TIE, np.where((sign > 0) == ahead, FIRST, SECOND))
    live, labels = pairs["live"][keep] > 0, columns.labels
    return VoteColumns(
        models=tuple(voted),
        first=place[np.where(ahead, model, other)] if len(row) else np.zeros(0, np.intp),
        second=place[np.where(ahead, other, model)] if len(row) else np.zeros(0, np.intp),
        outcome=won.astype(np.intp),
        labeler=labels["author"][row],
        prompt=np.where(live, labels["assignment"][row], labels["item"][row]),
    )


def _votes(cast: VoteColumns) -> VoteResults:
    # What the ratings are made of is as long as the votes, and nothing more is asked of it.
    ratings = rate(cast)
    matched = tuple(matchups(cast, ratings=ratings))
    return VoteResults(ratings=dataclasses.replace(ratings, strengths=None), matchups=matched)


def label_times(columns: Columns) -> Array:
    """When each label was first given, ascending; a correction is not another one."""
    labels = columns.labels
    first = (labels["counts"] > 0) & (labels["replaces"] < 0)
    return np.asarray(np.sort(labels["created"][first]))


_WATCHED: weakref.WeakKeyDictionary[Store, dict[str, Watch]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def results_of(store: Store, study: Study, *, wait: bool = True, fresh: bool = False) -> Results:
    """What the labels of a study say, for all who look.

    wait: until the whole log was read. fresh: and computed after this call, whatever the pause.
    """
    with _LOCK:
        watch = _WATCHED.setdefault(store, {}).setdefault(study.id, Watch(study.id))
    return watch.renew(store, study) if fresh else watch.look(store, study, wait=wait)
