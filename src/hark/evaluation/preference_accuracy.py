"""How often a scorer puts the better reply first.

The measure of InstructGPT (section 3.5), Bai et al. (2022) and Stiennon et al. (2020):
the share of held-out ordered pairs in which the preferred reply has the higher score.

1. A ranking of K replies gives all its ordered pairs, each counted once; they share a prompt and so
   a cluster.
2. Pairs that the labeler called a tie have no right answer; they are left out and counted.
3. Equal scores on an ordered pair count one half and are counted.
4. A soft label (a probability) is right for its majority; calibration uses the probability.
5. Accuracy is also told apart by turn (Bai et al.), by file, by labelers held out or
   not (InstructGPT, section 5), and where both replies are good (Bai et al., figure 9).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from hark.data.records import Comparison, answered
from hark.errors import DataError
from hark.evaluation.calibration import Calibration, gap_calibration
from hark.evaluation.intervals import Array, Estimate, clustered_rate
from hark.evaluation.scores import Scorer, score

Key = TypeVar("Key", int, str)

BOTH_GOOD_LEVELS = tuple(i / 10 for i in range(10))
"""Shares of the scores below each threshold of the slices in which both replies are good."""
HELD_OUT, LEARNED_FROM = "held out", "learned from"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPair:
    """One ordered pair of a comparison and what the scorer thinks of it."""

    better: float
    """Score of the reply the labeler preferred."""
    worse: float
    probability: float
    """How sure the labeler was: 1 for a vote or a ranking, above ½ for a soft label."""
    prompt: Hashable
    labeler: str | None
    choices: int
    """K: how many replies the comparison had."""
    turn: int = 1
    """Which reply of the dialogue is compared: 1 after the person's first message."""
    file: str | None = None
    """Where the comparison is from, if that was said."""

    @property
    def credit(self) -> float:
        """1 if the scorer agrees, ½ if it gives equal scores, 0 if it disagrees."""
        return 0.5 if self.better == self.worse else float(self.better > self.worse)


@dataclass(frozen=True, slots=True, kw_only=True)
class BothGood:
    """Accuracy where both replies are scored above a threshold."""

    threshold: float
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceAccuracy:
    """Accuracy of a scorer on held-out comparisons."""

    estimate: Estimate
    """Share of ordered pairs put in the right order, clustered by prompt and labeler."""
    calibration: Calibration
    by_choices: dict[int, Estimate]
    """The same for comparisons of K replies, by K."""
    by_turn: dict[int, Estimate]
    """By turn of the dialogue, from 1."""
    by_file: dict[str, Estimate]
    """By file, where the files were said."""
    by_labelers: dict[str, Estimate]
    """By labelers "held out" of training and "learned from", where some are."""
    both_good: tuple[BothGood, ...]
    """Where both scores exceed a threshold, from the lowest threshold up."""
    comparisons: int
    score_ties: int
    """Ordered pairs given equal scores, counted one half."""
    label_ties: int
    """Pairs the labelers called a tie, left out."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PreferenceAccuracy:
        """The inverse of `to_json`; JSON has turned K into text."""
        return cls(
            **{
                **values,
                "estimate": Estimate.from_json(values["estimate"]),
                "calibration": Calibration.from_json(values["calibration"]),
                **{
                    name: {int(k): Estimate.from_json(each) for k, each in values[name].items()}
                    for name in ("by_choices", "by_turn")
                },
                **{
                    name: {k: Estimate.from_json(each) for k, each in values[name].items()}
                    for name in ("by_file", "by_labelers")
                },
                "both_good": tuple(
                    BothGood(
                        threshold=each["threshold"], estimate=Estimate.from_json(each["estimate"])
                    )
                    for each in values["both_good"]
                ),
            }
        )


def preference_accuracy(
    scorer: Scorer,
    comparisons: Sequence[Comparison],
    *,
    files: Sequence[str] = (),
    held_out_labelers: frozenset[str] = frozenset(),
    bins: int = 10,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PreferenceAccuracy:
    """Score every reply once and measure accuracy and calibration.

    files: the file of each comparison, to be told apart; held_out_labelers: from whom the scorer
    did not learn.
    Raises: DataError if a comparison is unjudged or none has an order; HarkError if a score is not
    finite.
    """
    pairs = score_pairs(scorer, comparisons, files=files)
    if not pairs:
        raise DataError(
            f"none of the {len(comparisons)} comparisons puts one reply before another: there is "
            "nothing to be right about; give comparisons with ranks that differ"
        )
    settings: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    possible = sum(len(each.responses) * (len(each.responses) - 1) // 2 for each in comparisons)
    return PreferenceAccuracy(
        estimate=_accuracy(pairs, settings),
        calibration=gap_calibration(
            [pair.better - pair.worse for pair in pairs],
            [pair.probability for pair in pairs],
            bins=bins,
            clusters=_clusters(pairs),
            **settings,
        ),
        by_choices=_by(pairs, lambda pair: pair.choices, settings),
        by_turn=_by(pairs, lambda pair: pair.turn, settings),
        by_file=_by(pairs, lambda pair: pair.file or "", settings) if files else {},
        by_labelers=_by_labelers(pairs, held_out_labelers, settings),
        both_good=_both_good(pairs, settings),
        comparisons=len(comparisons),
        score_ties=sum(pair.better == pair.worse for pair in pairs),
        label_ties=possible - len(pairs),
    )


def score_pairs(
    scorer: Scorer, comparisons: Sequence[Comparison], *, files: Sequence[str] = ()
) -> list[ScoredPair]:
    """Every ordered pair of every comparison with its two scores; files: of each comparison.

    Raises: DataError if a comparison is unjudged; HarkError if a score is not finite.
    """
    unjudged = [n for n, each in enumerate(comparisons) if not each.judged]
    if unjudged:
        raise DataError(
            f"{len(unjudged)} of {len(comparisons)} comparisons have no judgement, the first is "
            f"number {unjudged[0]}: give ranks or a probability"
        )
    dialogues = [answered(each.prompt, text) for each in comparisons for text in each.responses]
    scores = iter(score(scorer, dialogues))
    pairs = []
    for number, each in enumerate(comparisons):
        own = [float(next(scores)) for _ in each.responses]
        certainty = 1.0 if each.probability is None else max(each.probability, 1 - each.probability)
        pairs += [
            ScoredPair(
                better=own[i],
                worse=own[j],
                probability=certainty,
                prompt=each.prompt,
                labeler=each.labeler or f"unknown labeler {number}",
                choices=len(own),
                turn=sum(message.role == "user" for message in each.prompt),
                file=files[number] if files else None,
            )
            for i, j in each.ordered_pairs()
        ]
    return pairs


def accuracy_when_both_exceed(
    pairs: Sequence[ScoredPair],
    thresholds: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Estimate]:
    """Accuracy on the pairs in which both scores exceed each threshold (Bai et al., figure 9).

    It falls as the threshold rises: telling good from good is harder than good from bad.
    """
    settings: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    return [
        _accuracy([pair for pair in pairs if min(pair.better, pair.worse) > threshold], settings)
        for threshold in thresholds
    ]


def _by(
    pairs: Sequence[ScoredPair], key: Callable[[ScoredPair], Key], settings: dict[str, Any]
) -> dict[Key, Estimate]:
    return {
        value: _accuracy([pair for pair in pairs if key(pair) == value], settings)
        for value in sorted({key(pair) for pair in pairs})
    }


def _by_labelers(
    pairs: Sequence[ScoredPair], held_out: frozenset[str], settings: dict[str, Any]
) -> dict[str, Estimate]:
    if not held_out:
        return {}
    return _by(pairs, lambda pair: HELD_OUT if pair.labeler in held_out else LEARNED_FROM, settings)


def _both_good(pairs: Sequence[ScoredPair], settings: dict[str, Any]) -> tuple[BothGood, ...]:
    scores = [score for pair in pairs for score in (pair.better, pair.worse)]
    # The lowest threshold is just below all scores, so that the first slice is everything.
    thresholds = [float(each) for each in np.quantile(scores, BOTH_GOOD_LEVELS)]
    thresholds[0] = float(np.nextafter(thresholds[0], -np.inf))
    estimates = accuracy_when_both_exceed(pairs, thresholds, **settings)
    return tuple(
        BothGood(threshold=threshold, estimate=estimate)
        for threshold, estimate in zip(thresholds, estimates, strict=True)
    )


def _accuracy(pairs: Sequence[ScoredPair], settings: dict[str, Any]) -> Estimate:
    credits: Array = np.array([pair.credit for pair in pairs])
    return clustered_rate(credits, clusters=_clusters(pairs), **settings)


def _clusters(pairs: Sequence[ScoredPair]) -> list[list[Hashable]]:
    return [[pair.prompt for pair in pairs], [pair.labeler for pair in pairs]]
