"""How well outliers are told from ordinary prompts, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hark.evaluation.intervals import Estimate
from hark.evaluation.out_of_distribution import LayerAreas
from hark.report.drawing import DASHES, MARKERS, Figure, canvas, colour, finish


def areas_by_layer(areas: Sequence[LayerAreas]) -> Figure:
    """The area under the ROC curve of every method at every layer."""
    with canvas() as drawing:
        draw_areas(drawing.subplots(), areas)
        return finish(
            drawing, name="outliers", title=_finding(areas),
            caption="Area under the ROC curve on prompts that nothing was fitted to; bars are 95 % "
            "intervals; ½ is chance. Layer 0 is the embeddings.",
        )  # fmt: skip


def draw_areas(axes: Axes, areas: Sequence[LayerAreas]) -> None:
    """One line a method."""
    for number, (name, estimates) in enumerate(_methods(areas).items()):
        drawn = [
            (each.layer, estimate.value, estimate)
            for each, estimate in zip(areas, estimates, strict=True)
            if estimate.value is not None
        ]
        layers = [layer + 0.06 * number for layer, _, _ in drawn]
        axes.plot(
            layers, [value for _, value, _ in drawn], color=colour(number),
            linestyle=DASHES[number % len(DASHES)], marker=MARKERS[number % len(MARKERS)],
            markersize=4, label=name,
        )  # fmt: skip
        for layer, (_, _, estimate) in zip(layers, drawn, strict=True):
            if estimate.low is not None and estimate.high is not None:
                axes.plot([layer, layer], [estimate.low, estimate.high], color=colour(number),
                          linewidth=1.2, alpha=0.6)  # fmt: skip
    axes.set(xlabel="layer", ylabel="area under the ROC curve")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="best")


def areas_of(results: Mapping[str, Any]) -> list[LayerAreas]:
    """The areas in the results of a run of `hark outliers`; none where it had no outliers."""
    return [LayerAreas.from_json(values) for values in results.get("layers", [])]


def _methods(areas: Sequence[LayerAreas]) -> dict[str, list[Estimate]]:
    methods = {
        "Mahalanobis": [each.mahalanobis for each in areas],
        "simplified relative": [each.simplified_relative for each in areas],
    }
    for count in areas[0].exposed:
        known = f"{count} known outlier" + ("s" if count > 1 else "")
        methods[known] = [each.exposed[count] for each in areas]
    return methods


def _finding(areas: Sequence[LayerAreas]) -> str:
    best = max(areas, key=lambda each: each.simplified_relative.value or 0.0)
    value = best.simplified_relative.value
    if value is None:
        return "There were no outliers to tell apart"
    return f"Outliers are told best at layer {best.layer} (area {value:.2f}, simplified relative)"
