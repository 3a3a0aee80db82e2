"""What a study's labels say, computed once for each state of its log and kept until it changes.

`hark.feedback` counts and compares; intervals and strengths are `hark.evaluation`'s.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from hark.evaluation.elo import Outcome, Ratings, Vote, rate
from hark.evaluation.intervals import NOTHING, Estimate, clustered_rate
from hark.evaluation.matchups import Matchup, matchups
from hark.feedback import candidate_scores
from hark.feedback.agreement import Agreement
from hark.feedback.gold import Gold
from hark.feedback.statistics_agreement import (
    GoldMark,
    Opinion,
    QuestionAgreement,
    against,
    among,
    gold_marks,
    gold_opinions,
    model_agreement,
    opinions,
    with_others,
)
from hark.feedback.statistics_labelers import Work, work
from hark.feedback.statistics_labels import Label, LabelLog, known_answers, preferences, roles
from hark.feedback.store import Store
from hark.feedback.studies import MANAGERS, Study, StudySettings
from hark.feedback.tables import events as events_table
from hark.feedback.votes import MEASURED, shown_order

NOBODY: Final = Agreement(value=None, state="nothing to compare", units=0, values=0)


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

    def matchup(self, row: str, column: str) -> Matchup:
        """How `row` fares against `column`, another model."""
        return next(one for one in self.matchups if (one.row, one.column) == (row, column))


class Results:
    """Everything that is said of the labels of a study as they stood at one moment."""

    def __init__(
        self,
        *,
        settings: StudySettings,
        labels: Sequence[Label],
        roles: Mapping[str, str],
        gold: Mapping[str, tuple[str, Gold]],
        scores: Mapping[str, Mapping[str, float]],
        skips: Mapping[str, int],
    ) -> None:
        """roles: of each pseudonym; gold: of items; scores: of models; skips: of each pseudonym."""
        self.settings, self.labels, self.roles = settings, labels, roles
        self.gold, self.scores, self.skips = gold, scores, skips

    @functools.cached_property
    def agreement(self) -> list[QuestionAgreement]:
        """Labelers with each other, with researchers, and with each preference model."""
        ours = [one for one in self._opinions if not self._is_manager(one.author)]
        theirs = [one for one in self._opinions if self._is_manager(one.author)]
        theirs += gold_opinions(self.gold, use="screening")
        counted = [one for one in ours if not self._is_screening(one)]
        labels = [one for one in self._of_labelers if one.use != "screening"]
        return [
            *among(counted, between="labelers"),
            *against(ours, theirs, between="labelers and researchers"),
            *(model_agreement(labels, name, told) for name, told in self.scores.items()),
        ]

    @functools.cached_property
    def gold_accuracy(self) -> Estimate:
        """Share of the known answers given, over all labelers; clustered by labeler and item."""
        return _rate_of(self._gold_marks, by_labeler=True)

    @functools.cached_property
    def labelers(self) -> list[LabelerResult]:
        """One for each who has labelled, those with most labels first."""
        counted = [one for one in self._opinions if not self._is_screening(one)]
        main = counted[0].question if counted else ""
        same = with_others(one for one in counted if one.question == main)
        found = [
            LabelerResult(
                work=one,
                role=self.roles.get(one.labeler, "labeler"),
                gold=_rate_of([mark for mark in self._gold_marks if mark.labeler == one.labeler]),
                with_others=same.get(one.labeler, NOBODY),
                skipped=self.skips.get(one.labeler, 0),
            )
            for one in work(self.labels, self.settings)
        ]
        return sorted(found, key=lambda one: (-one.work.labels, one.work.labeler))

    @property
    def cost(self) -> float | None:
        """Of all labelers; None if the study says nothing of pay."""
        costs = [one.work.cost for one in self.labelers]
        known = [one for one in costs if one is not None]
        return sum(known) if known else None

    @functools.cached_property
    def votes(self) -> VoteResults:
        """Strengths and win rates of the models that candidates name."""
        cast = votes(self.labels)
        ratings = rate(cast)
        return VoteResults(ratings=ratings, matchups=tuple(matchups(cast, ratings=ratings)))

    @functools.cached_property
    def _opinions(self) -> list[Opinion]:
        return opinions(self.labels)

    @functools.cached_property
    def _screening_items(self) -> frozenset[str]:
        return frozenset(one.item_id for one in self.labels if one.use == "screening")

    @functools.cached_property
    def _gold_marks(self) -> list[GoldMark]:
        return gold_marks(self._of_labelers, self.gold)

    @property
    def _of_labelers(self) -> list[Label]:
        return [one for one in self.labels if not self._is_manager(one.author)]

    def _is_manager(self, author: str) -> bool:
        return self.roles.get(author) in MANAGERS

    def _is_screening(self, opinion: Opinion) -> bool:
        subject = opinion.subject
        item = subject[0] if isinstance(subject, tuple) else subject
        return item in self._screening_items


def votes(labels: Sequence[Label]) -> list[Vote]:
    """What labels say of two models, as `hark.feedback.votes` has it of events.

    A ranking of K is a vote on each two.
    """
    found = []
    for label in labels:
        if label.late or label.use not in MEASURED or None in label.snapshots:
            continue
        live = label.kind == "comparison"
        order = shown_order(label.id, label.display_order, len(label.candidate_ids))
        at = {place: screen for screen, place in enumerate(order)}
        for i, j, sign in preferences(label):
            first, second = (i, j) if at[i] < at[j] else (j, i)
            found.append(
                Vote(
                    first=label.snapshots[first] or "",
                    second=label.snapshots[second] or "",
                    outcome=_OUTCOMES[sign if first == i else -sign],
                    labeler=label.author,
                    prompt=label.assignment_id if live else label.item_id,
                )
            )
    return found


_OUTCOMES: Final[dict[int, Outcome]] = {1: "first", 0: "tie", -1: "second"}


def _rate_of(marks: Sequence[GoldMark], *, by_labeler: bool = False) -> Estimate:
    if not marks:
        return NOTHING
    clusters = [[mark.item_id for mark in marks]]
    if by_labeler:
        clusters.insert(0, [mark.labeler for mark in marks])
    return clustered_rate([mark.value for mark in marks], clusters=clusters)


@dataclass(slots=True)
class _Kept:
    log: LabelLog
    stamp: object = None
    results: Results | None = None


_KEPT: weakref.WeakKeyDictionary[Store, dict[str, _Kept]] = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def results_of(store: Store, study: Study) -> Results:
    """What the labels of a study say now."""
    with _LOCK:
        ours = _KEPT.setdefault(store, {}).setdefault(study.id, _Kept(LabelLog(study.id)))
    with store.read() as connection:
        labels = ours.log.read(connection)
        known = known_answers(connection, study.id)
        scores = candidate_scores.find_scores(connection, study.id)
        role_of = roles(connection)
        skipped = Counter(
            connection.execute(
                select(events_table.c.author).where(
                    events_table.c.study_id == study.id, events_table.c.kind == "skip"
                )
            ).scalars()
        )
    stamp = (labels, known, scores, role_of, skipped, study.settings)
    if ours.results is None or ours.stamp != stamp:
        ours.results = Results(
            settings=study.settings,
            labels=labels,
            roles=role_of,
            gold=known,
            scores=scores,
            skips=skipped,
        )
        ours.stamp = stamp
    return ours.results
