"""Reward against divergence (HH; Ziegler et al.; Stiennon et al., appendix G.3).

Reads runs of `hark ppo` and of `hark best-of`. Those of PPO that adapt β to a target are judged by
their divergence alone; the others by how reward grows with it. Best-of-n is drawn beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hark.evaluation.best_of import BestOf
from hark.evaluation.intervals import Estimate
from hark.evaluation.reward_curve import RewardCurve, reward_curve
from hark.loop.studies.seeds import SHARED_START, mean_over_seeds
from hark.loop.studies.trainings import source_of
from hark.report.drawing import DASHES, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.figures import Curve, Point, draw_reward_lines
from hark.report.run_record import RunRecord

TOLERANCE = 0.2
"""How far from its target, as a share of it, the controller may hold the divergence."""
SETTLED = 1 / 3
"""The last part of a training, in which it should be there."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """The √KL law over seeds, the controller over seeds, the curve of best-of-n."""
    trained = [run for run in runs if run.manifest.stage == "ppo"]
    adaptive = [run for run in trained if kl_target(run) is not None]
    fixed = [run for run in trained if kl_target(run) is None]
    chosen = [run for run in runs if run.manifest.stage == "best-of"]
    effects = []
    if fixed:
        _draw_trainings(fixed, chosen, directory / "reward-against-divergence.png")
        effects += _law(fixed)
    if chosen:
        _draw_best_of(chosen, directory / "best-of-n.png")
        effects += _best_of(chosen)
    if adaptive:
        _draw_controller(adaptive, directory / "controller.png")
        effects.append(_controller(adaptive))
    return effects


def kl_target(run: RunRecord) -> float | None:
    """The divergence that a run of PPO adapts β to, if it does."""
    target: float | None = run.settings["kl_target"]
    return target


def curve_of(run: RunRecord) -> RewardCurve | None:
    """Reward against divergence over the steps of a training."""
    return reward_curve(run.series("kl")[1], run.series("score")[1])


def _law(runs: Sequence[RunRecord]) -> list[Effect]:
    fits = [fit for run in runs if (fit := curve_of(run)) is not None]
    advantage = mean_over_seeds([_value(fit.advantage) for fit in fits])
    slope = mean_over_seeds([_value(fit.slope) for fit in fits])
    explained = mean_over_seeds([_value(fit.r_squared) for fit in fits])
    shared: dict[str, Any] = {
        "paper": "HH, 2204.05862, reward and √KL",
        "data": source_of(runs[0].settings["data"]),
        "seeds": len(fits), "figure": "reward-against-divergence.png",
        "setting": f"{len(runs)} PPO trainings of one size of model, each step a point: mean score "
        "by the preference model and KL from the starting policy of the step's samples; "
        f"{SHARED_START}",
    }  # fmt: skip
    return [
        Effect(
            name="Reward is more nearly linear in √KL than in KL",
            claim="Over most of training reward is about linear in the square root of the "
            "divergence from the starting policy.",
            measured="R² of the line on √KL less R² of the line on KL (R² on √KL: "
            f"{_shown(explained)})",
            **judged(advantage, above=0.0), **shared,
        ),
        Effect(
            name="Reward grows with √KL",
            claim="The line on √KL has a positive slope, nearly parallel for sizes of model.",
            measured="slope: reward by the preference model per square root of a nat",
            **judged(slope, above=0.0), **shared,
        ),
    ]  # fmt: skip


def _best_of(runs: Sequence[RunRecord]) -> list[Effect]:
    curves = [_points(run) for run in runs]
    gains = [_value(curve[-1].judge) - _value(curve[0].judge) for curve in curves]
    later = [
        (_value(curve[-1].judge) - _value(curve[-3].judge))
        - (_value(curve[2].judge) - _value(curve[0].judge))
        for curve in curves
        if len(curve) >= 5
    ]
    most = curves[0][-1].n
    shared: dict[str, Any] = {
        "paper": "HH, 2204.05862, rejection sampling",
        "data": source_of(runs[0].settings["data"]),
        "seeds": len(runs), "figure": "best-of-n.png",
        "setting": f"{len(runs)} preference models choose among replies of the SFT model, mean "
        f"over all subsets of n of {most} draws; graded by the gold grade; {SHARED_START}",
    }  # fmt: skip
    gain, slower = mean_over_seeds(gains), mean_over_seeds(later)
    effects = [
        Effect(
            name="Choosing the best of n raises the gold grade",
            claim="Rejection sampling with larger k is preferred: Elo about 0, 150, 235, 260 for "
            "k = 1, 4, 16, 64.",
            measured=f"gold grade of the best of {most} less that of a single reply",
            **judged(gain, above=0.0), **shared,
        )
    ]  # fmt: skip
    if slower.value is not None:
        effects.append(
            Effect(
                name="Each further factor of n brings less",
                claim="The gain of a factor of four falls from 150 Elo to 25.",
                measured="gain in gold grade of the last factor of four less that of the first",
                **judged(slower, below=0.0, further=_steps(curves[0])),
                **shared,
            )
        )
    return effects


def _steps(curve: Sequence[BestOf]) -> str:
    """How far the first and the last factor of four go from the policy, by the formula alone."""
    roots = [math.sqrt(point.divergence) for point in curve]
    return (
        f"From n = 1 to {curve[2].n} √KL grows by {roots[2] - roots[0]:.2f}, from "
        f"{curve[-3].n} to {curve[-1].n} by {roots[-1] - roots[-3]:.2f}."
    )


def _controller(runs: Sequence[RunRecord]) -> Effect:
    ratios = []
    for run in runs:
        target, (_, kl) = kl_target(run), run.series("kl")
        assert target is not None
        ratios.append(float(np.mean(kl[-max(1, round(len(kl) * SETTLED)) :])) / target)
    held = mean_over_seeds(ratios)
    return Effect(
        name="The adaptive coefficient holds the divergence at its target",
        paper="Ziegler et al., 1909.08593, adaptive KL coefficient",
        claim="β follows the error of the divergence in log space, so that KL stays at a target.",
        setting=f"{len(runs)} PPO trainings towards {kl_target(runs[0])} nats a response; "
        f"{SHARED_START}",
        data=source_of(runs[0].settings["data"]),
        measured="KL over the last third of training, as a multiple of its target",
        seeds=len(runs),
        figure="controller.png",
        **judged(held, above=1 - TOLERANCE, below=1 + TOLERANCE),
    )


def _draw_trainings(runs: Sequence[RunRecord], chosen: Sequence[RunRecord], path: Path) -> None:
    lines = [
        Curve(
            label=run.label, x=run.series("kl")[1],
            y=run.series("score")[1],
        )
        for run in runs
    ]  # fmt: skip
    stars = [
        Point(
            label=f"best of {point.n}", divergence=point.divergence,
            reward=_value(point.preference),
        )
        for point in (_points(chosen[0]) if chosen else [])
        if point.n in (4, 16, 64)
    ]  # fmt: skip
    with canvas(height_inches=5.6) as drawing:
        by_root, by_nats = drawing.subplots(2, 1, sharey=True)
        draw_reward_lines(by_root, lines, stars, root=True)
        draw_reward_lines(by_nats, lines, stars, root=False)
        save(drawing, path)


def _draw_best_of(runs: Sequence[RunRecord], path: Path) -> None:
    with canvas(height_inches=4.2) as drawing:
        above_, below_ = drawing.subplots(2, 1, sharex=True)
        for number, run in enumerate(runs):
            points = _points(run)
            x = [point.divergence for point in points]
            for axes, name in ((above_, "preference"), (below_, "judge")):
                found = [getattr(point, name) for point in points]
                middle = [_value(each) for each in found]
                ends = [(each.low, each.high) for each in found]
                axes.plot(
                    x, middle, marker="o", markersize=3.5, color=colour(number),
                    linestyle=DASHES[number % len(DASHES)], label=f"seed {run.manifest.seed}",
                )  # fmt: skip
                low = [a if a is not None else m for (a, _), m in zip(ends, middle, strict=True)]
                high = [b if b is not None else m for (_, b), m in zip(ends, middle, strict=True)]
                axes.fill_between(x, low, high, color=colour(number), alpha=0.12, linewidth=0)
        above_.set_ylabel("preference model")
        below_.set(xlabel="ln n − (n − 1)/n (nats)", ylabel="gold grade")
        above_.legend()
        save(drawing, path)


def _draw_controller(runs: Sequence[RunRecord], path: Path) -> None:
    with canvas() as drawing:
        axes = drawing.subplots()
        for number, run in enumerate(runs):
            steps, kl = run.series("kl")
            axes.plot(
                steps, kl, color=colour(number), linestyle=DASHES[number % len(DASHES)],
                label=f"seed {run.manifest.seed}",
            )  # fmt: skip
        axes.axhline(kl_target(runs[0]) or 0.0, color="#6b7178", linewidth=0.8)
        axes.set(xlabel="training step", ylabel="KL (nats a response)")
        axes.legend()
        save(drawing, path)


def _points(run: RunRecord) -> list[BestOf]:
    return [BestOf.from_json(values) for values in run.results["curve"]]


def _value(estimate: Estimate) -> float:
    assert estimate.value is not None, "an estimate of something that was observed"
    return estimate.value


def _shown(estimate: Estimate) -> str:
    return "none" if estimate.value is None else f"{estimate.value:.2f}"
