"""How often a scorer puts the better reply first.

The measure of InstructGPT (section 3.5), Bai et al. (2022, section 3) and Stiennon et al. (2020):
the share of held-out ordered pairs in which the preferred reply has the higher score.

1. A ranking of K replies gives all its ordered pairs, each counted once; they share a prompt and so
   a cluster.
2. Pairs that the labeler called a tie have no right answer; they are left out and counted.
3. Equal scores on an ordered pair count one half and are counted.
4. A soft label (a probability) is right for its majority; calibration uses the probability.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hark.data.records import Comparison, answered
from hark.errors import DataError
from hark.evaluation.calibration import Calibration, gap_calibration
from hark.evaluation.intervals import Array, Estimate, clustered_rate
from hark.evaluation.scores import Scorer, score


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

    @property
    def credit(self) -> float:
        """1 if the scorer agrees, ½ if it gives equal scores, 0 if it disagrees."""
        return 0.5 if self.better == self.worse else float(self.better > self.worse)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceAccuracy:
    """Accuracy of a scorer on held-out comparisons."""

    estimate: Estimate
    """Share of ordered pairs put in the right order, clustered by prompt and labeler."""
    calibration: Calibration
    by_choices: dict[int, Estimate]
    """The same for comparisons of K replies, by K."""
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
                "by_choices": {
                    int(k): Estimate.from_json(each) for k, each in values["by_choices"].items()
                },
            }
        )


def preference_accuracy(
    scorer: Scorer,
    comparisons: Sequence[Comparison],
    *,
    bins: int = 10,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PreferenceAccuracy:
    """Score every reply once and measure accuracy and calibration.

    Raises: DataError if a comparison is unjudged or none has an order; HarkError if a score is not
    finite.
    """
    pairs = score_pairs(scorer, comparisons)
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
        by_choices={
            k: _accuracy([pair for pair in pairs if pair.choices == k], settings)
            for k in sorted({pair.choices for pair in pairs})
        },
        comparisons=len(comparisons),
        score_ties=sum(pair.better == pair.worse for pair in pairs),
        label_ties=possible - len(pairs),
    )


def score_pairs(scorer: Scorer, comparisons: Sequence[Comparison]) -> list[ScoredPair]:
    """Every ordered pair of every comparison with its two scores.

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


def _accuracy(pairs: Sequence[ScoredPair], settings: dict[str, Any]) -> Estimate:
    credits: Array = np.array([pair.credit for pair in pairs])
    return clustered_rate(credits, clusters=_clusters(pairs), **settings)


def _clusters(pairs: Sequence[ScoredPair]) -> list[list[Hashable]]:
    return [[pair.prompt for pair in pairs], [pair.labeler for pair in pairs]]
