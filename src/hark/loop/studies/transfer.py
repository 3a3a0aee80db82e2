"""Whether pretraining on ranked text saves human comparisons.

Askell et al. (2112.00861). Runs of `hark preference` swept over `comparisons`, seeds and
where they start: a language model, or a preference model pretrained on ranked or on binarised text,
which is known by the file that it learned from (`…binarised…`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hark.errors import DataError
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
from hark.report.effects import Effect, judged, number
from hark.report.run_record import RunRecord

PAPER = "Askell et al., 2112.00861, preference-model pretraining"
NONE, RANKED, BINARISED = "no pretraining", "ranked", "binarised"

Starts = dict[str, dict[int, list[Training]]]
"""By start, then by number of comparisons."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """What pretraining gains at the fewest comparisons, what is left of it at the most.

    Raises: DataError unless some runs start from a language model and some from a preference model.
    """
    starts = _by_start(trainings(runs))
    if NONE not in starts or len(starts) < 2:
        raise DataError(
            "transfer is studied on runs that start from a language model and the same that start "
            f"from pretrained preference models; these start from: {', '.join(starts)}"
        )
    figure = draw(
        directory / "transfer.png",
        [
            Line(
                label=start, x=list(by_amount),
                y=[over_seeds(group, lambda each: each.accuracy) for group in by_amount.values()],
            )
            for start, by_amount in starts.items()
        ],
        x_label="comparisons learned from", y_label="accuracy, held out",
        levels=[("chance", 0.5)], logarithmic=True,
    )  # fmt: skip
    effects = []
    for start in (BINARISED, RANKED):
        if start in starts:
            effects += _gain(starts, start, figure)
    if BINARISED in starts and RANKED in starts:
        effects.append(_binarised_or_ranked(starts, figure))
    return effects


def _by_start(members: Sequence[Training]) -> Starts:
    found = grouped(members, start_of)
    for start in (RANKED, BINARISED):
        pretrained = found.get(start, [])
        if len({(each.comparisons, each.seed) for each in pretrained}) < len(pretrained):
            raise DataError(
                f"several runs that start from '{start}' have the same seed and number of "
                "comparisons; the file of binarised comparisons is known by 'binarised' in its name"
            )
    return {
        start: dict(sorted(grouped(group, lambda each: each.comparisons).items()))
        for start in (NONE, RANKED, BINARISED)
        if (group := found.get(start))
    }


def start_of(training: Training) -> str:
    """What the model that a training started from had learned."""
    run = training.start
    if run is None or run.manifest.stage != "preference":
        return NONE
    names = [Path(path).name for path in run.settings["data"]]
    return BINARISED if any("binarised" in name for name in names) else RANKED


def _gain(starts: Starts, start: str, figure: str) -> list[Effect]:
    least, most = min(starts[start]), max(starts[start])
    gains = {
        amount: differences(starts[start][amount], starts[NONE].get(amount, []))
        for amount in (least, most)
    }
    gain = mean_over_seeds([*gains[least].values()])
    members = [*starts[start][least], *starts[NONE][least]]
    without = over_seeds(starts[NONE][least], lambda each: each.accuracy)
    first = Effect(
        name=f"Pretraining on {start} votes helps at {least:,} comparisons", paper=PAPER,
        claim="As commonly reported, preference-model pretraining gains about 10 points below "
        "10,000 comparisons, for the largest model.",
        setting=described(members), data=members[0].source,
        measured=f"accuracy after pretraining on {start} votes less that without, by seed",
        seeds=gain.n, figure=figure,
        **judged(gain, above=0.0, further=f"Without it {without.value:.3f}."),
    )  # fmt: skip
    if most == least:
        return [first]
    closing = mean_over_seeds(
        [early - gains[most][seed] for seed, early in gains[least].items() if seed in gains[most]]
    )
    second = Effect(
        name=f"What pretraining on {start} votes gains shrinks with more comparisons", paper=PAPER,
        claim="As commonly reported, the gain is largest where comparisons are few.",
        setting=f"{least:,} and {most:,} comparisons; {described(members)}",
        data=members[0].source,
        measured=f"the gain at {least:,} less the gain at {most:,}, by seed",
        seeds=closing.n, figure=figure,
        **judged(
            closing, above=0.0, further=f"At {most:,} comparisons the gain is "
            f"{number(mean_over_seeds([*gains[most].values()]))}.",
        ),
    )  # fmt: skip
    return [first, second]


def _binarised_or_ranked(starts: Starts, figure: str) -> Effect:
    least = min(starts[BINARISED])
    apart = differences(starts[BINARISED][least], starts[RANKED].get(least, []))
    estimate = mean_over_seeds([*apart.values()])
    members = starts[BINARISED][least]
    return Effect(
        name="Binarised pretraining carries over better than ranked", paper=PAPER,
        claim="Pretraining on GOOD and BAD transfers better than on the ranked pairs themselves.",
        setting=described(members), data=members[0].source,
        measured=f"accuracy at {least:,} comparisons after binarised less after ranked, by seed",
        seeds=estimate.n, figure=figure, **judged(estimate, above=0.0),
    )  # fmt: skip
