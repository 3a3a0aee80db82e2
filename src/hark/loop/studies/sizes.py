"""What a study may say of the size of models, of which few were pretrained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hark.evaluation.intervals import Estimate
from hark.loop.studies.trainings import Training, grouped
from hark.report.effects import Judged, judged

LEAST_BASES = 3
"""Pretrained models of each size without which a slope in size has no interval."""


def slope_in_size(estimate: Estimate, members: Sequence[Training], *, further: str = "") -> Judged:
    """Whether a slope over the sizes of these trainings is above 0.

    Without a verdict unless each size was pretrained often enough to know what one is worth: seeds
    that share a base leave the luck of its pretraining out.
    """
    by_size = grouped(members, lambda each: each.parameters).values()
    bases = min(len({each.settings["model"] for each in of_size}) for of_size in by_size)
    found = judged(estimate, above=0.0, further=further)
    found["rule"] += f"; no verdict with fewer than {LEAST_BASES} pretrained models of each size"
    if bases < LEAST_BASES:
        found["estimate"] = dataclasses.replace(
            estimate, low=None, high=None, clusters=1, state="one cluster"
        )
        found["verdict"] = "cannot be seen"
        found["reason"] = (
            f"Of some sizes there are only {bases} pretrained models: what looks like size may be "
            f"the luck of a pretraining. It takes {LEAST_BASES} of each size. {further}"
        ).rstrip()
    return found
