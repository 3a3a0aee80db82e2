"""How well outliers are told from ordinary prompts by a model's activations.

Bai et al. (2204.05862): the area under the ROC curve, layer by layer, of
Mahalanobis distance, simplified relative Mahalanobis, and a linear score fitted with few known
outliers (outlier exposure). What is scored is in `hark.models.outlier_detector`.

1. Outlier exposure is a logistic regression in which the few outliers weigh as much together as all
   ordinary prompts (the paper repeats them), with a ridge, as few points have many directions.
2. Areas have intervals, by DeLong's variance on the logit scale; the paper gives standard
   deviations over draws of the outliers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from hark.evaluation.intervals import (
    NOTHING,
    Array,
    Estimate,
    clustered_rate,
    proportion,
    require_finite,
)

if TYPE_CHECKING:
    from hark.models.outlier_detector import Gaussian


def area_under_roc(ordinary: ArrayLike, outliers: ArrayLike, *, level: float = 0.95) -> Estimate:
    """How often an outlier scores above an ordinary prompt, equal scores counting one half.

    ordinary: scores [n]; outliers: [m]. DeLong et al. (1988): the variance is that of each prompt's
    own share of pairs won. Raises: HarkError if a score is not finite.
    """
    inside = require_finite(ordinary, what="scores of ordinary prompts")
    outside = require_finite(outliers, what="scores of outliers")
    n, m = inside.size, outside.size
    if n == 0 or m == 0:
        return NOTHING
    ranks = stats.rankdata(np.concatenate([inside, outside]))
    of_outliers = (ranks[n:] - stats.rankdata(outside)) / n
    of_ordinary = 1 - (ranks[:n] - stats.rankdata(inside)) / m
    area = float(of_outliers.mean())
    plain: dict[str, Any] = {"value": area, "n": n + m, "clusters": min(n, m), "level": level}
    if n < 2 or m < 2:
        return Estimate(low=None, high=None, state="one cluster", **plain)
    variance = of_outliers.var(ddof=1) / m + of_ordinary.var(ddof=1) / n
    if variance == 0:
        # All pairs alike: what as many trials as the smaller group has would leave open.
        wilson = proportion(area * min(n, m), min(n, m), level=level)
        return Estimate(low=wilson.low, high=wilson.high, **plain)
    half = special.ndtri(0.5 + level / 2) * math.sqrt(variance) / (area * (1 - area))
    centre = special.logit(area)
    low, high = special.expit(centre - half), special.expit(centre + half)
    return Estimate(low=float(low), high=float(high), **plain)


def outlier_exposure(
    ordinary: NDArray[np.floating], outliers: NDArray[np.floating], *, ridge: float = 1e-2
) -> Array:
    """Direction w [D] of a logistic regression of outliers against ordinary prompts.

    ordinary: [n,D], outliers: [m,D]. Each dimension is first put on the scale of the ordinary
    prompts; both groups weigh the same. ridge: on the squares of the weights on that scale, beside
    a mean loss.
    """
    centre, scale = ordinary.mean(axis=0), ordinary.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    points = (np.concatenate([ordinary, outliers]).astype(np.float64) - centre) / scale
    signs = np.concatenate([-np.ones(len(ordinary)), np.ones(len(outliers))])
    shares = np.where(signs > 0, 0.5 / len(outliers), 0.5 / len(ordinary))

    def loss(parameters: Array) -> tuple[float, Array]:
        weights, bias = parameters[:-1], parameters[-1]
        margins = signs * (points @ weights + bias)
        pull = -shares * signs * special.expit(-margins)
        gradient = np.append(points.T @ pull + 2 * ridge * weights, pull.sum())
        value = (shares * np.logaddexp(0, -margins)).sum() + ridge * (weights**2).sum()
        return float(value), gradient

    start = np.zeros(points.shape[1] + 1)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B")
    return np.asarray(found.x[:-1] / scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAreas:
    """Areas under the ROC curve at one layer."""

    layer: int
    mahalanobis: Estimate
    simplified_relative: Estimate
    exposed: dict[int, Estimate]
    """By the number of outliers that were known."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return {
            "layer": self.layer,
            "mahalanobis": self.mahalanobis.to_json(),
            "simplified_relative": self.simplified_relative.to_json(),
            "exposed": {str(count): each.to_json() for count, each in self.exposed.items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LayerAreas:
        """The inverse of `to_json`; JSON has turned counts into text."""
        return cls(
            layer=values["layer"],
            mahalanobis=Estimate.from_json(values["mahalanobis"]),
            simplified_relative=Estimate.from_json(values["simplified_relative"]),
            exposed={
                int(count): Estimate.from_json(each) for count, each in values["exposed"].items()
            },
        )


def areas_at_layer(
    layer: int,
    gaussian: Gaussian,
    directions: dict[int, Array],
    ordinary: NDArray[np.floating],
    outliers: NDArray[np.floating],
) -> LayerAreas:
    """Every method at one layer; ordinary [n,D] and outliers [m,D] that nothing was fitted on.

    directions: of `outlier_exposure`, by the number of outliers that were known.
    """
    return LayerAreas(
        layer=layer,
        mahalanobis=area_under_roc(gaussian.mahalanobis(ordinary), gaussian.mahalanobis(outliers)),
        simplified_relative=area_under_roc(
            gaussian.simplified_relative(ordinary), gaussian.simplified_relative(outliers)
        ),
        exposed={
            count: area_under_roc(ordinary @ direction, outliers @ direction)
            for count, direction in directions.items()
        },
    )


def threshold_for(scores: ArrayLike, rate: float) -> float:
    """The least score above which at most a share `rate` of ordinary scores [n] lies."""
    ordered = np.sort(require_finite(scores, what="scores of ordinary prompts"))
    allowed = math.floor(rate * ordered.size)
    return float(ordered[ordered.size - 1 - allowed])


def share_above(scores: ArrayLike, threshold: float) -> Estimate:
    """Share of scores [n] above a threshold, with its interval."""
    return clustered_rate((np.asarray(scores) > threshold).astype(float))
