"""Accuracy against the amount of comparisons and the size of the model.

Bai et al. (2204.05862), accuracy of preference models; Stiennon et al. (2009.01325), section 4.3.
Runs of `hark preference` swept over `comparisons`, over `model` where sizes are studied, and over
seeds; with the runs of `hark playground-comparisons` among them, accuracy is held against what
labelers allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from hark.evaluation.accuracy_fit import fit_accuracy
from hark.evaluation.intervals import Estimate
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.sizes import slope_in_size
from hark.loop.studies.trainings import (
    Line,
    Training,
    described,
    draw,
    grouped,
    over_seeds,
    trainings,
)
from hark.report.effects import Effect, judged, number
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862, accuracy of preference models"
FITTED = "a + b·ln P + c·ln D by least squares for each seed"
NEAR = 0.05
"""How far below the labelers' ceiling still is near it, in accuracy."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Slopes in ln D and ln P, and the distance to the ceiling where it is known."""
    members = trainings(runs)
    fits = [
        fit_accuracy(
            [each.accuracy for each in of_seed],
            [each.parameters for each in of_seed],
            [each.comparisons for each in of_seed],
        )
        for of_seed in grouped(members, lambda each: each.seed).values()
    ]
    ceilings = _ceilings(runs, members)
    figure = _figure(members, ceilings, directory)
    effects = []
    if per_data := [fit.per_data for fit in fits if fit.per_data is not None]:
        effects.append(_slope_in_data(per_data, members, figure))
    if per_size := [fit.per_size for fit in fits if fit.per_size is not None]:
        effects.append(_slope_in_size(per_size, members, figure))
    return effects + (_near_ceiling(members, ceilings, figure) if ceilings else [])


def _slope_in_data(slopes: Sequence[float], members: Sequence[Training], figure: str) -> Effect:
    estimate = _per_doubling(slopes)
    return Effect(
        name="Accuracy grows with the logarithm of the comparisons", paper=PAPER,
        claim="Accuracy rises by about 0.015 for each e-fold of comparisons (Stiennon et al.: 1.1 "
        "points for each doubling).", setting=f"{described(members)}; {FITTED}",
        data=members[0].source, measured="accuracy for each doubling of the comparisons",
        seeds=estimate.n, figure=figure, **judged(estimate, above=0.0),
    )  # fmt: skip


def _slope_in_size(slopes: Sequence[float], members: Sequence[Training], figure: str) -> Effect:
    return Effect(
        name="Accuracy grows with the logarithm of the parameters", paper=PAPER,
        claim="Accuracy rises by about 0.007 for each e-fold of parameters (Stiennon et al.: 1.8 "
        "points for each doubling).", setting=f"{described(members)}; {FITTED}",
        data=members[0].source, measured="accuracy for each doubling of the parameters",
        seeds=len(slopes), figure=figure, **slope_in_size(_per_doubling(slopes), members),
    )  # fmt: skip


def _per_doubling(slopes: Sequence[float]) -> Estimate:
    return mean_over_seeds([math.log(2) * slope for slope in slopes])


def _ceilings(runs: Sequence[RunRecord], members: Sequence[Training]) -> dict[int, float]:
    """By seed, how often a perfect scorer would be right, the mean over the kinds of comparisons
    learned from (and measured on equally); empty where nobody knows."""
    kinds = [Path(path).stem for path in members[0].settings["data"]]
    worlds = [run for run in runs if run.manifest.stage == "playground-comparisons"]
    known = {
        int(run.settings["seed"]): fmean(run.results[f"{kind}_ceiling"] for kind in kinds)
        for run in worlds
        if all(f"{kind}_ceiling" in run.results for kind in kinds)
    }
    return known if {each.seed for each in members} <= known.keys() else {}


def _near_ceiling(
    members: Sequence[Training], ceilings: dict[int, float], figure: str
) -> list[Effect]:
    most = max((each.comparisons, each.parameters) for each in members)
    best = [each for each in members if (each.comparisons, each.parameters) == most]
    gap = mean_over_seeds([ceilings[each.seed] - each.accuracy for each in best])
    reached = over_seeds(best, lambda each: each.accuracy)
    return [
        Effect(
            name="Accuracy comes near what the labelers' noise allows", paper="playground's truth",
            claim="With enough comparisons a preference model is as right as its labelers let it.",
            setting=described(best), data=best[0].source,
            measured="how often a perfect scorer would be right, less the model's accuracy",
            seeds=gap.n, figure=figure,
            **judged(gap, below=NEAR, further=f"The model has {number(reached)}."),
        )
    ]  # fmt: skip


def _figure(members: Sequence[Training], ceilings: dict[int, float], directory: Path) -> str:
    lines = []
    for parameters, of_size in sorted(grouped(members, lambda each: each.parameters).items()):
        by_amount = dict(sorted(grouped(of_size, lambda each: each.comparisons).items()))
        lines.append(
            Line(
                label=f"{parameters:,} parameters", x=list(by_amount),
                y=[over_seeds(group, lambda each: each.accuracy) for group in by_amount.values()],
            )
        )  # fmt: skip
    mean = [("labelers' ceiling", sum(ceilings.values()) / len(ceilings))] if ceilings else []
    return draw(
        directory / "amounts.png", lines, x_label="comparisons learned from",
        y_label="accuracy, held out", levels=mean, logarithmic=True,
    )  # fmt: skip
