"""The figures of an evaluation; each title says what was found, each caption how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from hark.evaluation.calibration import Calibration
from hark.evaluation.intervals import Estimate
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.reward_curve import fit_square_root
from hark.report import findings
from hark.report.drawing import DASHES, INK, MARKERS, QUIET, Figure, canvas, colour, finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A named sequence of points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A named point of its own in a plot of reward against divergence."""

    label: str
    divergence: float
    """Nats a response."""
    reward: float


def curves(
    lines: Sequence[Curve],
    *,
    name: str,
    title: str,
    y_label: str,
    x_label: str = "training step",
    caption: str = "",
) -> Figure:
    """Named curves over one axis."""
    with canvas() as drawing:
        axes = drawing.subplots()
        _draw_curves(axes, lines)
        axes.set(xlabel=x_label, ylabel=y_label)
        _legend(axes, lines)
        return finish(drawing, name=name, title=title, caption=caption)


def reward_and_divergence(
    reward: Sequence[Curve], divergence: Sequence[Curve], *, x_label: str = "training step"
) -> Figure:
    """Reward above, KL from the reference below, over training; one colour for each policy."""
    with canvas(height_inches=4.2) as drawing:
        above, below = drawing.subplots(2, 1, sharex=True)
        _draw_curves(above, reward)
        _draw_curves(below, divergence)
        above.set_ylabel("reward (score)")
        below.set(xlabel=x_label, ylabel="KL (nats a response)")
        below.set_ylim(bottom=min(0.0, below.get_ylim()[0]))
        _legend(above, reward)
        return finish(
            drawing,
            name="reward-and-divergence",
            title=findings.reward_rose({line.label: line.y for line in reward}),
            caption="Above, the preference model’s score, averaged over each step’s samples. "
            "Below, how far the policy has moved from the one it started as, "
            "KL(policy ‖ reference).",
        )


def reward_against_divergence(
    trajectories: Sequence[Curve], points: Sequence[Point] = ()
) -> Figure:
    """Reward against √KL and against KL, with the least-squares lines of each trajectory.

    trajectories: x is the divergence in nats (not its root), y the reward; points: policies without
    a trajectory, such as best-of-n at ln n − (n − 1)/n.
    """
    fits = {line.label: fit_square_root(line.x, line.y) for line in trajectories}
    with canvas(height_inches=5.6) as drawing:
        by_root, by_nats = drawing.subplots(2, 1, sharey=True)
        draw_reward_lines(by_root, trajectories, points, root=True)
        draw_reward_lines(by_nats, trajectories, points, root=False)
        return finish(
            drawing,
            name="reward-against-divergence",
            title=findings.square_root_law(fits),
            caption="Each dot is one training step; the lines are least squares, above on √KL, "
            "below on KL. Bai et al. (2022) found reward to grow about linearly with √KL: R² is "
            "then the higher one above." + _star_caption(points),
        )


def draw_reward_lines(
    axes: Axes, trajectories: Sequence[Curve], points: Sequence[Point] = (), *, root: bool
) -> None:
    """Reward on √KL (`root`) or on KL: the dots of each trajectory and its line with R²."""

    def place(divergence: float) -> float:
        return max(divergence, 0.0) ** 0.5 if root else divergence

    for number, line in enumerate(trajectories):
        fit = fit_square_root(line.x, line.y)
        at = np.array([place(float(x)) for x in line.x])
        explained = None
        if fit is not None:
            explained = fit.r_squared if root else fit.r_squared_of_divergence
        axes.scatter(
            at, line.y, s=14, color=colour(number), marker=MARKERS[number % len(MARKERS)],
            alpha=0.75, linewidths=0,
            label=line.label if explained is None else f"{line.label}, R² = {explained:.2f}",
        )  # fmt: skip
        if explained is not None:
            ends = np.array([at.min(), at.max()])
            slope, intercept = np.polyfit(at, np.asarray(line.y, dtype=float), 1)
            axes.plot(
                ends, intercept + slope * ends, color=colour(number),
                linestyle=DASHES[number % len(DASHES)], zorder=3,
            )  # fmt: skip
    for point in points:
        at_point = (place(point.divergence), point.reward)
        axes.plot(*at_point, marker="*", markersize=11, color=INK, linestyle="none")
        axes.annotate(point.label, at_point, xytext=(0, 7), textcoords="offset points", ha="center")
    unit = "√KL from the reference (√nats)" if root else "KL from the reference (nats)"
    axes.set(xlabel=unit, ylabel="reward (score)")
    axes.set_xlim(left=0)
    if trajectories:
        axes.legend(loc="best")


def win_rates(rows: Sequence[PolicyEvaluation], *, baseline: str) -> Figure:
    """A dot and whisker for each policy, in the order given, against the line of one half."""
    shown = [(row.name, row.win_rate.estimate) for row in rows if row.win_rate is not None]
    with canvas(height_inches=_rows_height(len(shown))) as drawing:
        axes = drawing.subplots()
        _draw_estimates(axes, shown, scale=100)
        axes.axvline(50, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xlim(0, 100)
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
        axes.set_xlabel(f"preferred to {baseline} (ties count one half)")
        return finish(
            drawing,
            name="win-rates",
            title=findings.best_win_rate(rows, baseline=baseline),
            caption=f"Dots are the share of prompts on which the reply is preferred to {baseline}’s"
            f"; whiskers are {_level(estimate for _, estimate in shown)} intervals, clustered. "
            "The dashed line is a coin toss.",
        )


def language_losses(
    rows: Sequence[PolicyEvaluation], *, reference: str, counterpart: str | None = None
) -> Figure:
    """Loss on held-out text for each policy; the dashed line is the policy `reference`.

    counterpart: the policy that the title compares the largest loss with (such as PPO-ptx).
    """
    shown = [(row.name, row.language_loss) for row in rows if row.language_loss is not None]
    with canvas(height_inches=_rows_height(len(shown))) as drawing:
        axes = drawing.subplots()
        _draw_estimates(axes, shown, scale=1)
        level = next((estimate.value for name, estimate in shown if name == reference), None)
        if level is not None:
            axes.axvline(level, color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.margins(x=0.08)
        axes.set_xlabel("loss on held-out text (nats a token; lower is better)")
        return finish(
            drawing,
            name="language-loss",
            title=findings.alignment_tax(rows, reference=reference, counterpart=counterpart),
            caption="What alignment costs on plain text, the alignment tax. Whiskers are "
            f"{_level(estimate for _, estimate in shown)} intervals, clustered by document; the "
            "documents are the same for all, so differences are surer than the whiskers suggest. "
            f"The dashed line is {reference}.",
        )


def calibration_diagram(measured: Calibration) -> Figure:
    """Predicted against observed preference, with how many pairs each point rests on."""
    predicted = [each.predicted for each in measured.bins]
    with canvas(height_inches=4.0) as drawing:
        above, below = drawing.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
        low = min([0.5, *predicted, *(each.observed.value or 0.0 for each in measured.bins)])
        above.plot([low, 1], [low, 1], color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
        for each in measured.bins:
            _whisker(above, each.predicted, each.observed, vertical=True)
        above.plot(predicted, [each.observed.value for each in measured.bins], color=colour(0))
        above.set_ylabel("came true")
        widths = [max(each.high - each.low, 0.005) for each in measured.bins]
        below.bar(
            [each.low for each in measured.bins],
            [each.observed.n / (100 * width) for each, width in zip(
                measured.bins, widths, strict=True)],
            width=widths, align="edge", color=colour(0), alpha=0.35, linewidth=0,
        )  # fmt: skip
        below.set(xlabel="predicted probability of the favoured reply", ylabel="pairs per %")
        below.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
        above.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        below.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        return finish(
            drawing,
            name="calibration",
            title=findings.calibration(measured),
            caption="Held-out pairs in groups of about equal number by how sure the preference "
            "model is, σ(score gap). On the dashed line, what it calls 80 % comes true 80 % of the "
            "time." + _calibration_numbers(measured),
        )


def histogram(
    samples: Sequence[tuple[str, Sequence[float]]],
    *,
    name: str,
    title: str,
    x_label: str,
    caption: str = "",
    bins: int = 24,
) -> Figure:
    """Outlined histograms over shared bins, one for each named set of values."""
    pooled = np.concatenate([np.asarray(values, dtype=float) for _, values in samples])
    edges = np.histogram_bin_edges(pooled, bins=bins).tolist()
    with canvas() as drawing:
        axes = drawing.subplots()
        for number, (label, values) in enumerate(samples):
            axes.hist(
                values, bins=edges, histtype="step", color=colour(number), label=label,
                linewidth=1.8, linestyle=DASHES[number % len(DASHES)],
                weights=np.full(len(values), 1 / max(len(values), 1)),
            )  # fmt: skip
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))
        axes.set(xlabel=x_label, ylabel="share")
        if len(samples) > 1:
            axes.legend(loc="best")
        return finish(drawing, name=name, title=title, caption=caption)


def _draw_curves(axes: Axes, lines: Sequence[Curve]) -> None:
    for number, line in enumerate(lines):
        style: dict[str, Any] = {"linestyle": DASHES[number % len(DASHES)]}
        if len(line.x) == 1:
            style = {"marker": MARKERS[number % len(MARKERS)]}
        axes.plot(line.x, line.y, color=colour(number), label=line.label, **style)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))


def _legend(axes: Axes, lines: Sequence[Curve]) -> None:
    if len(lines) > 1:
        axes.legend(loc="best", handlelength=2.6)


def _draw_estimates(axes: Axes, named: Sequence[tuple[str, Estimate]], *, scale: float) -> None:
    """One row for each estimate, the first on top."""
    for place, (_, estimate) in enumerate(named):
        _whisker(axes, len(named) - 1 - place, estimate, vertical=False, scale=scale)
    axes.set_yticks(range(len(named)), [name for name, _ in reversed(named)])
    axes.set_ylim(-0.6, len(named) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _whisker(
    axes: Axes, place: float, estimate: Estimate, *, vertical: bool, scale: float = 1.0
) -> None:
    if estimate.value is None:
        return
    value = estimate.value * scale
    if estimate.low is not None and estimate.high is not None:
        ends, places = [estimate.low * scale, estimate.high * scale], [place, place]
        across = (places, ends) if vertical else (ends, places)
        axes.plot(*across, color=colour(0), linewidth=2.2, alpha=0.55, solid_capstyle="round")
    dot = (place, value) if vertical else (value, place)
    axes.plot(*dot, marker="o", markersize=6.5, color=colour(0), linestyle="none", zorder=3)


def _rows_height(count: int) -> float:
    return 0.9 + 0.36 * max(count, 1)


def _level(estimates: Any) -> str:
    levels = sorted({f"{estimate.level * 100:g} %" for estimate in estimates})
    return " and ".join(levels) or "95 %"


def _star_caption(points: Sequence[Point]) -> str:
    if not points:
        return ""
    return " Stars are policies that were not trained, such as best-of-n at KL = ln n − (n − 1)/n."


def _calibration_numbers(measured: Calibration) -> str:
    parts = []
    if measured.error.value is not None and measured.error_if_calibrated is not None:
        interval = findings.interval(measured.error, percent=True)
        parts.append(
            f" Expected calibration error {100 * measured.error.value:.1f} %{interval}; a "
            "perfectly calibrated model would show "
            f"{100 * measured.error_if_calibrated:.1f} % on so many."
        )
    if measured.brier.value is not None:
        parts.append(f" Brier score {measured.brier.value:.3f} (always saying one half: 0.250).")
    return "".join(parts)
