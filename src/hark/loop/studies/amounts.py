"""Accuracy against the amount of comparisons and the size of the model.

Bai et al. (2204.05862), section 3.2; Stiennon et al. (2009.01325), section 4.3. Runs of `hark
preference` swept over `comparisons`, over `model` where sizes are studied, and over seeds; with the
runs of `hark playground-comparisons` among them, accuracy is held against what labelers allow.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from hark.evaluation.accuracy_fit import AccuracyFit, fit_accuracy
from hark.evaluation.intervals import Estimate
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import (
    Line,
    Training,
    described,
    draw,
    grouped,
    over_seeds,
    settings_of,
    trainings,
)
from hark.report.effects import Effect, above, below, number
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862, section 3.2"
NEAR = 0.05
"""How far below the labelers' ceiling still is near it, in accuracy."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Slopes in ln D and ln P, and the distance to the ceiling where it is known."""
    members = trainings(runs)
    fit = fit_accuracy(
        [each.accuracy for each in members],
        [each.parameters for each in members],
        [each.comparisons for each in members],
    )
    ceilings = _ceilings(runs, members)
    figure = _figure(members, ceilings, directory)
    effects = [
        _slope(fit, members, figure, of_data=of_data)
        for of_data, estimate in ((True, fit.per_data), (False, fit.per_size))
        if estimate.state == "defined"
    ]
    return effects + (_near_ceiling(members, ceilings, figure) if ceilings else [])


def _slope(fit: AccuracyFit, members: Sequence[Training], figure: str, *, of_data: bool) -> Effect:
    per_doubling = _per_doubling(fit.per_data if of_data else fit.per_size)
    what, of_paper = (
        ("comparisons", "0.015 for each e-fold of comparisons (Stiennon et al.: 1.1 points for "
         "each doubling)") if of_data else
        ("parameters", "0.007 for each e-fold of parameters (Stiennon et al.: 1.8 points for each "
         "doubling)")
    )  # fmt: skip
    assert fit.accuracy.value is not None
    return Effect(
        name=f"Accuracy grows with the logarithm of the {what}", paper=PAPER,
        claim=f"Accuracy rises by about {of_paper}.", setting=described(members),
        data=members[0].source,
        measured=f"accuracy for each doubling of the {what}, by a + b·ln P + c·ln D",
        rule="reproduced if the whole interval is above 0", estimate=per_doubling,
        seeds=len({each.seed for each in members}), verdict=above(per_doubling, 0.0),
        reason=f"The fit leaves {100 * fit.residual_deviation:.1f} points from training to "
        f"training; it has {fit.accuracy.value:.3f} at {fit.parameters:,.0f} parameters and "
        f"{fit.comparisons:,.0f} comparisons.", figure=figure,
    )  # fmt: skip


def _per_doubling(estimate: Estimate) -> Estimate:
    ends = {name: getattr(estimate, name) for name in ("value", "low", "high")}
    return dataclasses.replace(
        estimate, **{name: math.log(2) * end for name, end in ends.items() if end is not None}
    )


def _ceilings(runs: Sequence[RunRecord], members: Sequence[Training]) -> dict[int, float]:
    """By seed, how often a perfect scorer would be right, the mean over the kinds of comparisons
    learned from (and measured on equally); empty where nobody knows."""
    kinds = [Path(path).stem for path in members[0].settings["data"]]
    worlds = [run for run in runs if run.manifest.stage == "playground-comparisons"]
    known = {
        int(settings_of(run)["seed"]): fmean(run.results[f"{kind}_ceiling"] for kind in kinds)
        for run in worlds
        if all(f"{kind}_ceiling" in run.results for kind in kinds)
    }
    return known if {each.seed for each in members} <= known.keys() else {}


def _near_ceiling(
    members: Sequence[Training], ceilings: dict[int, float], figure: str
) -> list[Effect]:
    most = max((each.parameters, each.comparisons) for each in members)
    best = [each for each in members if (each.parameters, each.comparisons) == most]
    gap = mean_over_seeds([ceilings[each.seed] - each.accuracy for each in best])
    reached = over_seeds(best, lambda each: each.accuracy)
    return [
        Effect(
            name="Accuracy comes near what the labelers' noise allows", paper="playground's truth",
            claim="With enough comparisons a preference model is as right as its labelers let it.",
            setting=described(best), data=best[0].source,
            measured="how often a perfect scorer would be right, less the model's accuracy",
            rule=f"reproduced if the whole interval is below {NEAR}", estimate=gap,
            seeds=len(best), verdict=below(gap, NEAR),
            reason=f"The model has {number(reached)}.", figure=figure,
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
