"""What the numbers say, in one plain sentence each: the titles of figures and of the summary.

A sentence claims a difference only where the intervals allow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hark.evaluation.calibration import Calibration
from hark.evaluation.intervals import Estimate
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.reward_curve import SquareRootFit


def interval(estimate: Estimate, *, percent: bool = False, digits: int = 3) -> str:
    """` (0.512 to 0.634)`, or nothing where the interval is undefined."""
    if estimate.low is None or estimate.high is None:
        return ""
    if percent:
        return f" ({100 * estimate.low:.0f} to {100 * estimate.high:.0f} %)"
    return f" ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"


def best_win_rate(rows: Sequence[PolicyEvaluation], *, baseline: str) -> str:
    """Which policy is preferred most, and whether that is more than chance."""
    rated = [
        (row.win_rate.estimate.value, row.name, row.win_rate.estimate)
        for row in rows
        if row.win_rate is not None and row.win_rate.estimate.value is not None
    ]
    if not rated:
        return f"No policy was compared with {baseline}"
    value, name, estimate = max(rated)
    if estimate.low is None or estimate.high is None:
        return f"{name} is preferred to {baseline} on {100 * value:.0f} % of prompts"
    if estimate.low > 0.5:
        spread = interval(estimate, percent=True)
        return f"{name} is preferred to {baseline} on {100 * value:.0f} % of prompts{spread}"
    if estimate.high < 0.5:
        return f"No policy is preferred to {baseline}"
    return f"No policy is clearly preferred to {baseline}: the best interval includes 50 %"


def alignment_tax(
    rows: Sequence[PolicyEvaluation], *, reference: str, counterpart: str | None = None
) -> str:
    """How much the costliest policy raised the loss on plain text, beside the counterpart."""
    losses = {
        row.name: row.language_loss.value
        for row in rows
        if row.language_loss is not None and row.language_loss.value is not None
    }
    if reference not in losses or len(losses) < 2:
        return "Loss on held-out text"
    rises = {name: loss - losses[reference] for name, loss in losses.items() if name != reference}
    worst = max(rises, key=lambda name: rises[name])
    if rises[worst] <= 0:
        return f"No policy does worse than {reference} on plain text"
    tax = f"{worst} costs {rises[worst]:.2f} nats a token on plain text over {reference}"
    if counterpart in rises and counterpart != worst:
        return f"{tax}; {counterpart} {_signed(rises[counterpart])}"
    return tax


def square_root_law(fits: Mapping[str, SquareRootFit | None]) -> str:
    """Whether reward grows with √KL."""
    found = {name: fit for name, fit in fits.items() if fit is not None}
    if not found:
        return "Reward against √KL"
    explained = sorted(f"{fit.r_squared:.2f}" for fit in found.values())
    spread = explained[0] if explained[0] == explained[-1] else f"{explained[0]} to {explained[-1]}"
    if any(fit.slope <= 0 for fit in found.values()):
        return "Moving away from the reference did not raise the reward"
    if min(fit.r_squared for fit in found.values()) >= 0.8:
        return f"Reward grows about linearly with √KL (R² {spread})"
    return f"Reward grows with √KL only loosely (R² {spread})"


def reward_rose(rewards: Mapping[str, Sequence[float]]) -> str:
    """How far each reward rose, the mean of the first tenth of training against the last."""
    changes = []
    for name, values in rewards.items():
        tenth = max(1, len(values) // 10)
        if len(values) >= 2:
            rise = sum(values[-tenth:]) / tenth - sum(values[:tenth]) / tenth
            changes.append(f"{name} {_signed(rise)}")
    if not changes:
        return "Reward and KL over training"
    return f"Reward over training: {', '.join(changes)}"


def calibration(measured: Calibration) -> str:
    """Whether predicted preferences come true."""
    error, expected = measured.error.value, measured.error_if_calibrated
    if error is None or expected is None:
        return "There were no pairs to check predictions on"
    numbers = f"calibration error {100 * error:.1f} %"
    if not measured.is_off:
        return f"No sign that predicted preferences are off ({numbers})"
    if measured.temperature is None:
        return f"Predicted preferences are off ({numbers})"
    leaning = "too sure of itself" if measured.temperature > 1 else "not sure enough"
    return f"The preference model is {leaning} ({numbers})"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
