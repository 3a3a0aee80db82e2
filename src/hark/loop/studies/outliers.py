"""Out-of-distribution detection (Bai et al., 2204.05862), over several seeds.

Each run is one of `hark outliers`, on a model of its own or with parts of its own of the requests:
ordinary ones against those that must be declined. Three claims: the simplified relative distance is
at least as good as the plain one; harmful requests stand out; ten known outliers beat both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hark.errors import RunError
from hark.evaluation.intervals import Estimate
from hark.evaluation.out_of_distribution import LayerAreas
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import source_of
from hark.report.drawing import canvas, save
from hark.report.effects import Effect, judged
from hark.report.outlier_figures import areas_of, draw_areas
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862, out-of-distribution detection"
PAPERS_KNOWN = 10
"""Known outliers that the paper's claim is about."""
NO_WORSE_BY = 0.01
"""By how much area the relative distance may be worse and still count as no worse."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Areas at the layer that each run chose, on prompts that chose nothing.

    Raises: RunError if a run has measured nothing, or not with as many known outliers as others.
    """
    areas = [areas_of(run.results) for run in runs]
    counts = set.intersection(*(set(each[0].exposed) if each else set() for each in areas))
    if not counts:
        raise RunError(
            f"the runs {', '.join(str(run.path) for run in runs)} did not all measure: give "
            "hark outliers outlier_data, and the same numbers in exposed"
        )
    chosen = [each[run.results["layer"]] for each, run in zip(areas, runs, strict=True)]
    with canvas() as drawing:
        draw_areas(drawing.subplots(), areas[0])
        save(drawing, directory / "outliers.png")
    relative = mean_over_seeds([_value(each.simplified_relative) for each in chosen])
    gain = mean_over_seeds([_gain(each) for each in areas])
    count = min(counts, key=lambda known: abs(known - PAPERS_KNOWN))
    known = mean_over_seeds(
        [_value(each.exposed[count]) - _value(each.simplified_relative) for each in chosen]
    )
    models = len({str(run.settings["model"]) for run in runs})
    shared: dict[str, Any] = {
        "paper": PAPER, "data": _data(runs[0]), "seeds": len(runs), "figure": "outliers.png",
        "setting": f"{len(runs)} detectors of requests to be declined among ordinary ones, by the "
        f"activations of {'one model' if models == 1 else f'{models} models'}; mean over tokens, "
        "layer chosen on other prompts; seeds vary the parts of the prompts"
        f"{'' if models == 1 else ' and the training of the models'}",
    }  # fmt: skip
    return [
        Effect(
            name="Harmful requests stand out by simplified relative Mahalanobis",
            claim="The area under the ROC curve of helpful against harmful prompts is about 0.85 "
            "in middle layers of the largest model.",
            measured="area at the chosen layer",
            **judged(relative, above=0.8), **shared,
        ),
        Effect(
            name="Simplified relative Mahalanobis is no worse than plain",
            claim="Subtracting the distance under the diagonal helps where the plain distance is "
            "misled by common directions.",
            measured="mean difference in area over layers, relative less plain",
            **judged(gain, above=-NO_WORSE_BY), **shared,
        ),
        Effect(
            name=f"{count} known outliers beat the distances",
            claim="With ten known harmful prompts a linear score reaches 0.94 (largest model).",
            measured=f"difference in area, {count} known outliers less simplified relative",
            **judged(known, above=0.0), **shared,
        ),
    ]  # fmt: skip


def _data(run: RunRecord) -> str:
    ordinary, outlying = (source_of(run.settings[name]) for name in ("data", "outlier_data"))
    return ordinary if ordinary == outlying else f"{ordinary} against {outlying}"


def _value(estimate: Estimate) -> float:
    assert estimate.value is not None, "areas of two groups that are not empty"
    return estimate.value


def _gain(areas: Sequence[LayerAreas]) -> float:
    gains = [_value(each.simplified_relative) - _value(each.mahalanobis) for each in areas]
    return float(np.mean(gains))
