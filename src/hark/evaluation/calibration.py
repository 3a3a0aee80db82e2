"""Whether predicted probabilities of preference come true.

Bai et al. (2022, "Training a Helpful and Harmless Assistant", figure 9): a
preference model predicts that the reply scored Δ higher is preferred with probability σ(Δ); pairs
are binned by Δ and the observed share is held against the curve 1 / (1 + e^−Δ).

1. Bins hold equal numbers of pairs (the paper: equal widths), so that no point rests on a handful.
2. The expected calibration error is positive even for a perfect model, since the bins are noisy.
   `error_if_calibrated` says what a perfectly calibrated model would show on a sample this size,
   and the interval is the basic bootstrap (reflected percentiles), which allows for that bias.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from hark.errors import HarkError
from hark.evaluation.intervals import (
    NOTHING,
    Array,
    Estimate,
    cluster_codes,
    clustered_mean,
    clustered_rate,
    percentile_interval,
    require_finite,
    resampled_sums,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One point of a reliability diagram."""

    low: float
    """Smallest predicted probability in the bin."""
    high: float
    """Largest predicted probability in the bin."""
    predicted: float
    """Mean predicted probability."""
    observed: Estimate
    """Share that came true, with its clustered interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How predicted probabilities compare with what happened."""

    bins: tuple[Bin, ...]
    error: Estimate
    """Expected calibration error: mean over predictions of |observed − predicted| in their bin."""
    error_if_calibrated: float | None
    """What that error would be on average if every prediction were exactly right; None if n = 0."""
    brier: Estimate
    """Mean squared difference of prediction and outcome; ¼ is what always saying ½ gives."""
    temperature: float | None = None
    """Divisor T of the score gaps that makes σ(Δ/T) most likely: above 1 the model is too sure.
    None where the predictions are not of score gaps, or where no finite T is best."""

    @property
    def is_off(self) -> bool:
        """Whether all of the error's interval lies above what a calibrated model would show."""
        low, expected = self.error.low, self.error_if_calibrated
        return low is not None and expected is not None and low > expected

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Calibration:
        """The inverse of `to_json`."""
        bins = tuple(
            Bin(**{**each, "observed": Estimate.from_json(each["observed"])})
            for each in values["bins"]
        )
        estimates = {name: Estimate.from_json(values[name]) for name in ("error", "brier")}
        return cls(**{**values, **estimates, "bins": bins})


def calibration(
    predicted: ArrayLike,
    outcomes: ArrayLike,
    *,
    bins: int = 10,
    clusters: Sequence[Sequence[Hashable]] = (),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Calibration:
    """Calibration of probabilities.

    predicted: [n] within 0 and 1; outcomes: [n], 1 came true, 0 did not, between them in part.
    Raises: HarkError if a prediction is not finite or not within 0 and 1.
    """
    chances, truths = _probabilities(predicted), require_finite(outcomes, what="outcomes")
    if chances.size != truths.size:
        raise ValueError(f"{chances.size} predictions for {truths.size} outcomes")
    settings: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    if chances.size == 0:
        return Calibration(bins=(), error=NOTHING, error_if_calibrated=None, brier=NOTHING)
    bin_of = equal_count_bins(chances, bins)
    return Calibration(
        bins=tuple(
            _bin(chances, truths, np.flatnonzero(bin_of == number), clusters, settings)
            for number in range(int(bin_of.max()) + 1)
        ),
        error=_calibration_error(chances, truths, bin_of, clusters, **settings),
        error_if_calibrated=error_if_calibrated(chances, bin_of, seed=seed),
        brier=clustered_mean((chances - truths) ** 2, clusters=clusters, **settings),
    )


def gap_calibration(
    gaps: ArrayLike,
    outcomes: ArrayLike,
    *,
    bins: int = 10,
    clusters: Sequence[Sequence[Hashable]] = (),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Calibration:
    """Calibration of a preference model from score gaps.

    gaps: Δ [n], the score of one reply less that of the other; outcomes: [n], the probability that
    the first is better (1 or 0 for a vote, ½ for a tie). Each pair is turned so that Δ ≥ 0: the
    prediction is that the favoured reply wins, with probability σ(Δ) ≥ ½.
    """
    differences = require_finite(gaps, what="score gaps")
    truths = require_finite(outcomes, what="outcomes")
    turned = np.where(differences < 0, 1 - truths, truths)
    # A model without a favourite predicts ½, and either way of turning the pair is as right.
    favoured = np.where(differences == 0, 0.5, turned)
    measured = calibration(
        special.expit(np.abs(differences)),
        favoured,
        bins=bins,
        clusters=clusters,
        level=level,
        resamples=resamples,
        seed=seed,
    )
    return Calibration(
        bins=measured.bins,
        error=measured.error,
        error_if_calibrated=measured.error_if_calibrated,
        brier=clustered_mean(
            (special.expit(np.abs(differences)) - turned) ** 2,
            clusters=clusters,
            level=level,
            resamples=resamples,
            seed=seed,
        ),
        temperature=best_temperature(np.abs(differences), favoured),
    )


def equal_count_bins(predicted: Array, bins: int) -> NDArray[np.intp]:
    """Bin number of each prediction, [n]; equal predictions share a bin, so there may be fewer."""
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, predicted, side="left"), return_inverse=True)[1]


def expected_error(predicted: Array, outcomes: Array, bin_of: NDArray[np.intp]) -> float:
    """Expected calibration error: Σ_b |Σ_{i in b} (outcome_i − predicted_i)| / n."""
    return float(np.abs(np.bincount(bin_of, weights=outcomes - predicted)).sum() / predicted.size)


def error_if_calibrated(
    predicted: Array, bin_of: NDArray[np.intp], *, draws: int = 200, seed: int = 0
) -> float:
    """Mean expected calibration error when outcomes are drawn from the predictions themselves."""
    generator = np.random.default_rng((seed, 2))
    bins = np.eye(int(bin_of.max()) + 1)[bin_of]
    errors = [
        np.abs(((generator.random(predicted.size) < predicted) - predicted) @ bins).sum()
        for _ in range(draws)
    ]
    return float(np.mean(errors) / predicted.size)


def best_temperature(gaps: Array, outcomes: Array) -> float | None:
    """The T that makes the outcomes likeliest under σ(Δ/T); None where that is 0 or infinite.

    The slope of the log-likelihood in s = 1/T, Σ Δ (outcome − σ(s Δ)), falls with s.
    """

    def slope(s: float) -> float:
        return float((gaps * (outcomes - special.expit(s * gaps))).sum())

    steepest = 1e4 / max(float(np.abs(gaps).max(initial=0.0)), 1e-12)
    if slope(0.0) <= 0 or slope(steepest) >= 0:
        return None
    return float(1.0 / optimize.brentq(slope, 0.0, steepest, xtol=1e-12))


def _probabilities(predicted: ArrayLike) -> Array:
    chances = require_finite(predicted, what="predicted probabilities")
    outside = np.flatnonzero((chances < 0) | (chances > 1))
    if outside.size:
        raise HarkError(
            f"{outside.size} of {chances.size} predicted probabilities are outside 0 to 1, the "
            f"first at index {outside[0]} ({chances[outside[0]]}): give σ(score gap), not the gap"
        )
    return chances


def _bin(
    predicted: Array,
    outcomes: Array,
    members: NDArray[np.intp],
    clusters: Sequence[Sequence[Hashable]],
    settings: dict[str, Any],
) -> Bin:
    inside = [[way[i] for i in members] for way in clusters]
    return Bin(
        low=float(predicted[members].min()),
        high=float(predicted[members].max()),
        predicted=float(predicted[members].mean()),
        observed=clustered_rate(outcomes[members], clusters=inside, **settings),
    )


def _calibration_error(
    predicted: Array,
    outcomes: Array,
    bin_of: NDArray[np.intp],
    clusters: Sequence[Sequence[Hashable]],
    *,
    level: float,
    resamples: int,
    seed: int,
) -> Estimate:
    value = expected_error(predicted, outcomes, bin_of)
    groups = cluster_codes(clusters, n=predicted.size)
    fewest = min(int(codes.max()) + 1 for codes in groups)
    plain: dict[str, Any] = {
        "value": value,
        "n": predicted.size,
        "clusters": fewest,
        "level": level,
    }
    if fewest < 2:
        return Estimate(low=None, high=None, state="one cluster", **plain)
    excess = np.eye(int(bin_of.max()) + 1)[bin_of] * (outcomes - predicted)[:, None]
    columns = np.concatenate([excess, np.ones((predicted.size, 1))], axis=1)
    sums = np.concatenate(list(resampled_sums(columns, groups, resamples=resamples, seed=seed)))
    sums = sums[sums[:, -1] > 0]
    errors = np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]
    low, high = percentile_interval(errors, clusters=fewest, level=level)
    return Estimate(low=max(0.0, 2 * value - high), high=max(value, 2 * value - low), **plain)
