"""Whether a preference model holds for labelers it has never learned from.

InstructGPT (2203.02155), section 5: labelers in five groups, each left out once; 69.6 ± 0.9 % on
held-out labelers against 72.4 ± 0.4 % on the others. Runs of `hark preference` swept over
`held_out_fold`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from hark.errors import DataError
from hark.evaluation.preference_accuracy import HELD_OUT, LEARNED_FROM
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import Training, grouped, trainings
from hark.report.drawing import MARKERS, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

MOST_LOST = 0.05
"""A loss in accuracy on new labelers up to this counts as holding for them."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Accuracy on the comparisons of held-out labelers less that on the others', by fold.

    Raises: DataError if no run left labelers out who judged held-out comparisons.
    """
    members = [
        each
        for each in trainings(runs)
        if {HELD_OUT, LEARNED_FROM} <= set(each.measured.by_labelers)
    ]
    if not members:
        raise DataError(
            "no run left out labelers who judged its evaluation data: set labeler_folds and "
            "held_out_fold"
        )
    values = {
        name: fmean(each.measured.by_labelers[name].value or 0.0 for each in members)
        for name in (HELD_OUT, LEARNED_FROM)
    }
    by_seed = [[_loss(each) for each in of_seed] for of_seed in grouped(members, _seed).values()]
    # Folds of one seed share their comparisons; only seeds are independent, where there are more.
    over = "seeds" if len(by_seed) > 1 else "folds"
    estimate = mean_over_seeds([fmean(own) for own in by_seed] if over == "seeds" else by_seed[0])
    figure = _draw(members, directory / "labelers.png")
    return [
        Effect(
            name="A preference model holds for labelers it did not learn from",
            paper="InstructGPT, 2203.02155, section 5",
            claim="On held-out labelers accuracy is 69.6 ± 0.9 %, on the others 72.4 ± 0.4 %.",
            setting=f"{len(members)} folds of labelers, each left out once; "
            f"{members[0].comparisons:,} comparisons, {len(by_seed)} seed(s); the interval is "
            f"Student's t over {over}", data=members[0].source,
            measured="accuracy on held-out labelers less that on the others, by fold",
            seeds=len(by_seed), figure=figure,
            **judged(
                estimate, above=-MOST_LOST,
                further=f"Held out {values[HELD_OUT]:.3f}, "
                f"learned from {values[LEARNED_FROM]:.3f}.",
            ),
        )
    ]  # fmt: skip


def _draw(members: Sequence[Training], path: Path) -> str:
    """Accuracy on the two groups of labelers, a line for each group that was left out."""
    with canvas() as drawing:
        axes = drawing.subplots()
        for place, (seed, of_seed) in enumerate(grouped(members, _seed).items()):
            for number, each in enumerate(of_seed):
                found = [each.measured.by_labelers[name] for name in (HELD_OUT, LEARNED_FROM)]
                axes.plot(
                    ["left out", "learned from"], [one.value or 0.0 for one in found],
                    linewidth=0.8,
                    marker=MARKERS[place % len(MARKERS)], markersize=4, color=colour(place),
                    label=None if number else f"seed {seed}",
                )  # fmt: skip
        axes.set(xlabel="labelers", ylabel="accuracy on their comparisons")
        axes.legend()
        save(drawing, path)
    return path.name


def _loss(each: Training) -> float:
    """Accuracy on held-out labelers less that on the others."""
    new, old = (each.measured.by_labelers[name].value for name in (HELD_OUT, LEARNED_FROM))
    return (new or 0.0) - (old or 0.0)


def _seed(each: Training) -> int:
    return each.seed
