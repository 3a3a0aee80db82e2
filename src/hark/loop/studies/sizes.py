"""What a study may say of the size of models, of which few were pretrained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hark.evaluation.intervals import Estimate
from hark.loop.studies.trainings import Training, grouped
from hark.report.effects import Verdict, above, because

LEAST_BASES = 3
"""Pretrained models of each size without which a slope in size has no interval."""
RULE = (
    "reproduced if the whole interval over seeds is above 0; no verdict with fewer than "
    f"{LEAST_BASES} pretrained models of each size"
)


def slope_in_size(estimate: Estimate, members: Sequence[Training]) -> tuple[Estimate, Verdict, str]:
    """A slope over the sizes of these trainings with its verdict by `RULE` and the reason.

    Without an interval unless each size was pretrained often enough to know what one is worth:
    seeds that share a base leave the luck of its pretraining out.
    """
    by_size = grouped(members, lambda each: each.parameters).values()
    bases = min(len({each.settings["model"] for each in of_size}) for of_size in by_size)
    if bases >= LEAST_BASES:
        verdict = above(estimate, 0.0)
        return estimate, verdict, because(estimate, verdict, "above 0")
    point = dataclasses.replace(estimate, low=None, high=None, clusters=1, state="one cluster")
    return (
        point,
        "cannot be seen",
        f"Of some sizes there are only {bases} pretrained models: what looks like size may be "
        f"the luck of a pretraining. It takes {LEAST_BASES} of each size.",
    )
