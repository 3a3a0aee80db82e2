"""Accuracy by turn of the dialogue (Bai et al., 2204.05862), over seeds.

Runs of `hark preference` measured on dialogues of several turns. One claim: the first turn is the
easiest to call.

1. The paper shows a curve by turn; here the first turn is held against the mean of the second and
   third, since few dialogues go on longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import Line, Training, described, draw, trainings
from hark.report.effects import Effect, judged, number
from hark.report.run_record import RunRecord

LATER = (2, 3)
"""Turns that the first is held against."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Accuracy on first turns less that on later ones, by seed; no number without later turns."""
    members = trainings(runs)
    turns = sorted(set.intersection(*({*each.measured.by_turn} for each in members)))
    by_turn = {turn: mean_over_seeds([_at(each, turn) for each in members]) for turn in turns}
    figure = draw(
        directory / "by-turn.png",
        [Line(label="mean over seeds", x=turns, y=[*by_turn.values()])],
        x_label="turn of the dialogue", y_label="accuracy, held out", levels=[("chance", 0.5)],
    )  # fmt: skip
    both = [each for each in members if 1 in each.measured.by_turn and _later(each)]
    gap = mean_over_seeds([_at(each, 1) - fmean(_later(each)) for each in both])
    told = "; ".join(f"turn {turn}: {number(each)}" for turn, each in by_turn.items())
    return [
        Effect(
            name="The first turn is easier to call than later ones",
            paper="HH, 2204.05862, accuracy by turn",
            claim="Accuracy is a few per cent better on the first turn, then flat over turns.",
            setting=described(members), data=members[0].source,
            measured="accuracy on first turns less the mean of that on second and third, by seed",
            seeds=gap.n, figure=figure, **judged(gap, above=0.0, further=f"{told}."),
        )
    ]  # fmt: skip


def _at(each: Training, turn: int) -> float:
    return each.measured.by_turn[turn].value or 0.0


def _later(each: Training) -> list[float]:
    return [_at(each, turn) for turn in LATER if turn in each.measured.by_turn]
