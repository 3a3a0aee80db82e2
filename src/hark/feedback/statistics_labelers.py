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

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from scipy import special

from hark.feedback.statistics_labels import Label
from hark.feedback.studies import StudySettings

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
    """Of activity, in all."""
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


def work(labels: Iterable[Label], settings: StudySettings) -> list[Work]:
    """The part of each labeler, by pseudonym."""
    by_author = defaultdict[str, list[Label]](list)
    for label in labels:
        by_author[label.author].append(label)
    return [
        _work(author, by_author[author], settings, labelers=len(by_author))
        for author in sorted(by_author)
    ]


def _work(labeler: str, steps: Sequence[Label], settings: StudySettings, labelers: int) -> Work:
    labels = [one for one in steps if one.counts]
    seconds = sum(one.seconds or 0.0 for one in steps)
    timed = sum(one.seconds is not None for one in labels)
    spent = _seconds_of_labels(steps)
    speed = _reading_speed(steps)
    written = sum(one.written_characters for one in steps)
    pasted = sum(one.pasted_characters for one in steps)
    one_side = side(labels)
    return Work(
        labeler=labeler,
        labels=len(labels),
        untimed=len(labels) - timed,
        seconds=seconds,
        median_seconds=statistics.median(spent) if spent else None,
        labels_per_hour=timed / seconds * 3600 if seconds else None,
        characters_per_second=speed,
        written_characters=written,
        pasted_share=pasted / written if written else None,
        side=one_side,
        cost=cost(settings, labels=len(labels), seconds=seconds),
        suspicions=tuple(_suspicions(steps, speed, written, pasted, one_side, labelers)),
    )


def _seconds_of_labels(steps: Sequence[Label]) -> list[float]:
    """The time of each label together with the steps that led to it."""
    spent: list[float] = []
    underway = defaultdict[str, float](float)
    for one in steps:
        underway[one.assignment_id] += one.seconds or 0.0
        if one.counts:
            total = underway.pop(one.assignment_id)
            if one.seconds is not None:
                spent.append(total)
    return spent


def _reading_speed(steps: Sequence[Label]) -> float | None:
    # A millisecond at least: a program may claim to have taken none.
    speeds = [
        one.read_characters / max(one.seconds, 0.001)
        for one in steps
        if one.seconds is not None and one.read_characters
    ]
    return statistics.median(speeds) if len(speeds) >= FEWEST_LABELS else None


def side(labels: Iterable[Label]) -> Side | None:
    """Whether the best stands first, or last, more often than by lot; None without comparisons."""
    first = last = count = 0
    chance = 0.0
    for label in labels:
        if label.ranks is None or label.display_order is None or label.ranks.count(1) != 1:
            continue
        place = label.display_order.index(label.ranks.index(1))
        first += place == 0
        last += place == len(label.ranks) - 1
        chance = max(chance, 1 / len(label.ranks))
        count += 1
    if not count:
        return None
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
    steps: Sequence[Label],
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
