"""Helpful and harmless in one preference model: shares, and the weight λ of the harmless loss.

Bai et al. (2204.05862), preference-model mixtures. Runs of `hark preference` whose first file of
data (and of evaluation data) is harmless and whose second is helpful, swept over `shares` at one
total, over `loss_weights` at one share, or over both, and over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hark.errors import DataError
from hark.evaluation.intervals import Estimate
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import (
    Line,
    Training,
    described,
    differences,
    draw,
    grouped,
    over_seeds,
    trainings,
)
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

HARMLESS, HELPFUL = 0, 1
"""Places of the two files."""
PAPER = "HH, 2204.05862, preference-model mixtures"


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """One-sided training, its repair by the mixture, and what λ costs, as far as runs are there.

    Raises: DataError if no run has shares of two files.
    """
    members = [each for each in trainings(runs) if each.first_share is not None]
    if not members or any(len(each.accuracies) != 2 for each in members):
        raise DataError(
            "the mixture is studied on runs with shares of two files and two files of evaluation "
            "data, harmless and helpful in this order"
        )
    # Weights of 1 and 1 are none: such a run would be the same model as the one without, again.
    plain = [each for each in members if not each.settings["loss_weights"]]
    weighted = [each for each in members if each.settings["loss_weights"]]
    return [*_shares(plain, directory), *_weights(weighted, directory)]


def _shares(members: Sequence[Training], directory: Path) -> list[Effect]:
    by_share = dict(sorted(grouped(members, lambda each: each.first_share or 0.0).items()))
    if len(by_share) < 2:
        return []
    figure = draw(
        directory / "mixture.png",
        [
            Line(
                label=f"on {name} pairs", x=[100 * share for share in by_share],
                y=[_on(group, place) for group in by_share.values()],
            )
            for name, place in (("helpful", HELPFUL), ("harmless", HARMLESS))
        ],
        x_label="harmless among the comparisons learned from (%)", y_label="accuracy",
        levels=[("chance", 0.5)],
    )  # fmt: skip
    effects = []
    for name, share, place, other in (
        ("helpfulness", 0.0, HARMLESS, "harmless"), ("harmlessness", 1.0, HELPFUL, "helpful"),
    ):  # fmt: skip
        if share in by_share:
            effects.append(_one_sided(name, other, by_share[share], place, figure))
    # The most even mixture there is.
    middle = min(by_share, key=lambda share: abs(share - 0.5))
    if 0 < middle < 1:
        effects.append(_repaired(middle, by_share[middle], figure))
    return effects


def _on(group: Sequence[Training], place: int) -> Estimate:
    return over_seeds(group, lambda each: each.accuracies[place])


def _one_sided(name: str, other: str, group: Sequence[Training], place: int, figure: str) -> Effect:
    estimate = _on(group, place)
    return Effect(
        name=f"Trained on {name} alone, {other} falls below chance", paper=PAPER,
        claim=f"A preference model of {name} alone is far below chance on {other} comparisons.",
        setting=described(group), data=group[0].source,
        measured=f"accuracy on held-out {other} comparisons", seeds=len(group), figure=figure,
        **judged(
            estimate, below=0.5,
            further=f"On its own kind it has {_on(group, 1 - place).value:.3f}.",
        ),
    )  # fmt: skip


def _repaired(share: float, group: Sequence[Training], figure: str) -> Effect:
    estimate = over_seeds(group, lambda each: min(each.accuracies))
    helpful, harmless = _on(group, HELPFUL), _on(group, HARMLESS)
    return Effect(
        name="The mixture is above chance on both", paper=PAPER,
        claim="Trained on both kinds, one model does well on both.",
        setting=f"{100 * share:.0f} % harmless; {described(group)}", data=group[0].source,
        measured="the lower of the accuracies on helpful and on harmless comparisons",
        seeds=len(group), figure=figure,
        **judged(
            estimate, above=0.5,
            further=f"Helpful {helpful.value:.3f}, harmless {harmless.value:.3f}.",
        ),
    )  # fmt: skip


def _weights(members: Sequence[Training], directory: Path) -> list[Effect]:
    by_weight = dict(sorted(grouped(members, _harmless_weight).items()))
    if len(by_weight) < 2:
        return []
    figure = draw(
        directory / "loss-weight.png",
        [
            Line(
                label=f"on {name} pairs", x=list(by_weight),
                y=[_on(group, place) for group in by_weight.values()],
            )
            for name, place in (("helpful", HELPFUL), ("harmless", HARMLESS))
        ],
        x_label="weight λ of the harmless loss", y_label="accuracy", levels=[("chance", 0.5)],
        logarithmic=True,
    )  # fmt: skip
    least, most = min(by_weight), max(by_weight)
    lost = differences(by_weight[least], by_weight[most], lambda each: each.accuracies[HELPFUL])
    estimate = mean_over_seeds([*lost.values()])
    return [
        Effect(
            name="A heavier harmless loss costs helpfulness", paper=f"{PAPER}, loss weighting",
            claim="From λ = 1 to 10 helpful accuracy falls by 7.4 points at 13M parameters, by 1.5 "
            "at 52B.",
            setting=f"λ {least:g} to {most:g}; {described(members)}", data=members[0].source,
            measured=f"helpful accuracy at λ = {least:g} less that at λ = {most:g}, by seed",
            seeds=len(lost), figure=figure, **judged(estimate, above=0.0),
        )
    ]  # fmt: skip


def _harmless_weight(each: Training) -> float:
    weights = each.settings["loss_weights"]
    return float(weights[HARMLESS]) / float(weights[HELPFUL])
