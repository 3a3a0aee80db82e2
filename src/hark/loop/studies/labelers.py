"""Whether a preference model holds for labelers it has never learned from.

InstructGPT (2203.02155), section 5: labelers in five groups, each left out once; 69.6 ± 0.9 % on
held-out labelers against 72.4 ± 0.4 % on the others. Runs of `hark preference` swept over
`held_out_fold`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hark.errors import DataError
from hark.evaluation.preference_accuracy import HELD_OUT, LEARNED_FROM
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import described, trainings
from hark.report.effects import Effect, above, number
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
        name: [each.measured.by_labelers[name].value or 0.0 for each in members]
        for name in (HELD_OUT, LEARNED_FROM)
    }
    estimate = mean_over_seeds(
        [new - old for new, old in zip(values[HELD_OUT], values[LEARNED_FROM], strict=True)]
    )
    return [
        Effect(
            name="A preference model holds for labelers it did not learn from",
            paper="InstructGPT, 2203.02155, section 5",
            claim="On held-out labelers accuracy is 69.6 ± 0.9 %, on the others 72.4 ± 0.4 %.",
            setting=f"{len(members)} folds; {described(members)}", data=members[0].source,
            measured="accuracy on held-out labelers less that on the others, by fold",
            rule=f"reproduced if the whole interval is above −{MOST_LOST}", estimate=estimate,
            seeds=len(members), verdict=above(estimate, -MOST_LOST),
            reason=f"Held out {number(mean_over_seeds(values[HELD_OUT]))}, learned from "
            f"{number(mean_over_seeds(values[LEARNED_FROM]))}.",
        )
    ]  # fmt: skip
