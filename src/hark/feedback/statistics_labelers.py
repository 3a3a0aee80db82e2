"""What each labeler did: how much, how fast, at what cost, and whether it looks like work.

Suspicion is a reason to look, never a verdict, and changes nothing by itself.

1. Speed. Adults read English prose silently at 238 words a minute (Brysbaert 2019, a meta-analysis
   of 190 studies), some 24 characters a second; the fastest tenth reads at below twice that. Beyond
   60 characters a second, 2.5 times the mean, texts were not read. The median over a labeler's
   labels counts, for one may see at a glance that a single pair is not worth reading.
2. Pasting. More than half of what was written, of 200 characters or more: a quoted phrase is none.
3. One side. Places on the screen are drawn by lot, so that the best stands first in 1 of K. A
   binomial test against that, at 1 in 100 for all labelers together (Bonferroni), and three
   quarters of the labels at least: a slight lean to the left is human and not worth a warning.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hark.feedback.statistics_columns import Columns
from hark.feedback.studies import StudySettings

Array = NDArray[Any]
FASTEST_READING: Final = 60.0
"""Characters a second."""
FEWEST_LABELS: Final = 8
"""Below it nothing is said of a labeler's speed or side."""
FEWEST_WRITTEN: Final = 200
"""Characters."""
MOST_PASTED: Final = 0.5
LEAST_ONE_SIDED: Final = 0.75
SIGNIFICANCE: Final = 0.01
"""Over all labelers of a study together."""
CLOCKS_APART: Final = 1.25
CLOCKS_SECONDS: Final = 60.0
"""A browser that says more than so many times, and seconds above, what the server's clock allows is
wrong by more than a page that was slow to load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Why a labeler's work deserves a look."""

    kind: Literal["speed", "pasting", "one side"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How often the best stood at one end of the screen."""

    first: int
    last: int
    labels: int
    """That named a single best."""
    chance: float
    """With which it stands at either end, by lot."""
    p: float
    """Of so many at one end, or more, by chance; both ends together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A labeler's part in a study."""

    labeler: str
    labels: int
    untimed: int
    """Labels of which the browser did not say how long they took."""
    seconds: float
    """Of activity in all, as the browser says."""
    paid_seconds: float
    """The same, each step at most as long as the server's clock allows: since the item was handed
    out, or the step before came. The cost is of these."""
    clocks_differ: bool
    """Whether the browser says much more than the server's clock allows."""
    median_seconds: float | None
    """Of a label with all steps on its way; None if no time is known."""
    labels_per_hour: float | None
    """Of activity."""
    characters_per_second: float | None
    """Median over labels; None if nothing was read in a known time."""
    written_characters: int
    pasted_share: float | None
    """Of what was written; None if nothing was."""
    side: Side | None
    """None where nothing is compared."""
    cost: float | None
    """None if the study says nothing of pay."""
    suspicions: tuple[Suspicion, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """What stands of one labeler's labels and the steps that led to them, in columns."""

    counts: Array
    """[n]: whether it is a label."""
    seconds: Array
    """[n]: as the browser says; NaN where it does not."""
    paid_seconds: Array
    """[n]: at most as the server's clock allows."""
    spent: Array
    """[n]: of a label with all steps on its way; NaN for other steps and where it is not known."""
    read: Array
    written: Array
    pasted: Array
    best: Array
    """[n]: where on the screen the best stood; below 0 where nothing is said of a single best."""
    among: Array
    """[n]: so many candidates."""

    def of(self, rows: Array) -> Steps:
        """Some of them."""
        return Steps(**{one.name: getattr(self, one.name)[rows] for one in fields(Steps)})


def work(columns: Columns, settings: StudySettings) -> list[Work]:
    """The part of each labeler, by pseudonym."""
    labels = columns.labels
    stands = np.flatnonzero(labels["stands"])
    if not len(stands):
        return []
    author = labels["author"][stands]
    seconds, paid = columns.seconds()
    counts = labels["counts"][stands] > 0
    everyone = Steps(
        counts=counts,
        seconds=seconds[stands],
        paid_seconds=paid[stands],
        spent=_seconds_of_labels(labels["assignment"][stands], counts, seconds[stands]),
        **{name: labels[name][stands] for name in ("read", "written", "pasted", "best", "among")},
    )
    order = np.argsort(author, kind="stable")
    codes, starts = np.unique(author[order], return_index=True)
    found = [
        _work(columns.authors[code], everyone.of(rows), settings, labelers=len(codes))
        for code, rows in zip(codes, np.split(order, starts[1:]), strict=True)
    ]
    return sorted(found, key=lambda one: one.labeler)


def _work(labeler: str, steps: Steps, settings: StudySettings, labelers: int) -> Work:
    seconds, paid = float(np.nansum(steps.seconds)), float(np.nansum(steps.paid_seconds))
    labels = int(steps.counts.sum())
    timed = int((steps.counts & ~np.isnan(steps.seconds)).sum())
    spent = steps.spent[~np.isnan(steps.spent)]
    speed = _reading_speed(steps)
    written, pasted = int(steps.written.sum()), int(steps.pasted.sum())
    one_side = side(steps)
    return Work(
        labeler=labeler,
        labels=labels,
        untimed=labels - timed,
        seconds=seconds,
        paid_seconds=paid,
        clocks_differ=seconds > CLOCKS_APART * paid + CLOCKS_SECONDS,
        median_seconds=float(np.median(spent)) if len(spent) else None,
        labels_per_hour=timed / seconds * 3600 if seconds else None,
        characters_per_second=speed,
        written_characters=written,
        pasted_share=pasted / written if written else None,
        side=one_side,
        cost=cost(settings, labels=labels, seconds=paid),
        suspicions=tuple(_suspicions(speed, written, pasted, one_side, labelers)),
    )


def _seconds_of_labels(assignment: Array, counts: Array, seconds: Array) -> Array:
    """[n]: the time of each label together with the steps that led to it."""
    order = np.argsort(assignment, kind="stable")
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(assignment[order]) != 0) | counts[order][:-1]
    part = np.cumsum(begins) - 1
    totals = np.bincount(part, np.nan_to_num(seconds[order]))
    spent = np.empty(len(order))
    spent[order] = totals[part] if len(order) else 0.0
    return np.where(counts & ~np.isnan(seconds), spent, np.nan)


def _reading_speed(steps: Steps) -> float | None:
    # A millisecond at least: a program may claim to have taken none.
    known = ~np.isnan(steps.seconds) & (steps.read > 0)
    speeds = steps.read[known] / np.maximum(steps.seconds[known], 0.001)
    return float(np.median(speeds)) if len(speeds) >= FEWEST_LABELS else None


def side(steps: Steps) -> Side | None:
    """Whether the best stands first, or last, more often than by lot; None without comparisons."""
    told = steps.best >= 0
    if not told.any():
        return None
    best, among = steps.best[told].astype(int), steps.among[told].astype(int)
    first, last, count = int((best == 0).sum()), int((best == among - 1).sum()), len(best)
    chance = 1 / int(among.min())
    p = min(1.0, 2 * at_least(max(first, last), count, chance))
    return Side(first=first, last=last, labels=count, chance=chance, p=p)


def at_least(successes: int, n: int, chance: float) -> float:
    """P(X ≥ successes) for a binomial of n trials."""
    return 1.0 if successes <= 0 else float(special.bdtrc(successes - 1, n, chance))


def cost(settings: StudySettings, *, labels: int, seconds: float) -> float | None:
    """What the study owes for labels and hours; None if it says nothing of pay."""
    if settings.pay_per_hour is None and settings.pay_per_label is None:
        return None
    by_hour = (settings.pay_per_hour or 0.0) * seconds / 3600
    return by_hour + (settings.pay_per_label or 0.0) * labels


def _suspicions(
    speed: float | None,
    written: int,
    pasted: int,
    one_side: Side | None,
    labelers: int,
) -> list[Suspicion]:
    found = []
    if speed is not None and speed > FASTEST_READING:
        found.append(
            Suspicion(
                kind="speed",
                message=f"{speed:.0f} characters a second; nobody reads more than "
                f"{FASTEST_READING:.0f}",
            )
        )
    if written >= FEWEST_WRITTEN and pasted > MOST_PASTED * written:
        found.append(
            Suspicion(
                kind="pasting",
                message=f"pasted {pasted / written:.0%} of {written:,} characters",
            )
        )
    if one_side is not None and _leans(one_side, labelers):
        times, where = max((one_side.first, "first"), (one_side.last, "last"))
        found.append(
            Suspicion(
                kind="one side",
                message=f"what stands {where} is the best in {times} of {one_side.labels} labels",
            )
        )
    return found


def _leans(one_side: Side, labelers: int) -> bool:
    share = max(one_side.first, one_side.last) / one_side.labels
    unlikely = one_side.p * labelers < SIGNIFICANCE
    return one_side.labels >= FEWEST_LABELS and share >= LEAST_ONE_SIDED and unlikely
