"""Robustness of RL (HH, 2204.05862): what training does to a score it does not see.

Each run is one of `hark ppo` whose first judge is a preference model of other comparisons (the test
PM), and whose second, where there is one, gives gold grades. Scores of different preference models
have no common zero: each is counted from its mean over the starting policy's replies to the same
held-out prompts.

Departures
1. HH parts its comparisons in halves; the parts may be smaller here, and the effect says how many
   comparisons the optimised preference model learned from: the smaller, the sooner it is exploited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hark.errors import RunError
from hark.loop.studies.seeds import SHARED_START, mean_over_seeds
from hark.loop.studies.trainings import source_of
from hark.report.drawing import DASHES, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862, robustness of RL"
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """The evaluations of one training; all arrays have one number each."""

    seed: int
    episodes: Array
    """RL samples taken."""
    divergence: Array
    """Nats a response: the mean of the training steps next to the evaluation."""
    train: Array
    """Score by the preference model that is optimised, from the start."""
    test: Array
    """Score by the one that is not, from the start."""
    gold: Array | None
    """Gold grade, from the start."""

    @property
    def gap(self) -> Array:
        """Train less test."""
        return self.train - self.test

    def quarter(self, values: Array, number: int) -> float:
        """Mean over one quarter of the evaluations, from 0, the start itself left out."""
        return float(np.array_split(values[1:], 4)[number].mean())


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Does the train PM leave the test PM behind, and the gold grade with it?"""
    found = [trajectory(run) for run in runs]
    _draw(found, directory / "robustness.png")
    late = mean_over_seeds([each.quarter(each.gap, 3) for each in found])
    growth = mean_over_seeds(
        [each.quarter(each.gap, 3) - each.quarter(each.gap, 0) for each in found]
    )
    falls = [
        each.quarter(each.gold, 3) - each.quarter(each.gold, 0)
        for each in found
        if each.gold is not None
    ]
    shared: dict[str, Any] = {
        "paper": PAPER, "data": source_of(runs[0].settings["data"]), "seeds": len(found),
        "figure": "robustness.png",
        "setting": f"{len(found)} PPO trainings of {found[0].episodes[-1]:.0f} samples, each "
        "against a preference model of one part of the comparisons and scored by one of another "
        f"part{_parts(runs)}; {SHARED_START}",
    }  # fmt: skip
    effects = [
        Effect(
            name="Late in training the train PM's score exceeds the test PM's",
            claim="Train and test scores go together at first; later the train score is higher.",
            measured="train less test score over the last quarter of the evaluations, each from "
            "its value at the start",
            **judged(late, above=0.0), **shared,
        ),
        Effect(
            name="The gap between train and test PM grows with training",
            claim="The scores part from about 150 000 samples on.",
            measured="the same gap, last quarter less first",
            **judged(growth, above=0.0), **shared,
        ),
    ]  # fmt: skip
    if falls:
        fall = mean_over_seeds(falls)
        effects.append(
            Effect(
                name="Past a point, optimising the preference model lowers the gold grade",
                claim="RL at some point exploits what the preference model has wrong "
                "(over-optimisation).",
                measured="gold grade, last quarter of the evaluations less the first",
                **judged(fall, below=0.0),
                **shared,
            )
        )
    return effects


def _parts(runs: Sequence[RunRecord]) -> str:
    """How many comparisons the optimised preference models learned from, where that is known."""
    models = [run.made(str(run.settings["preference_model"][0])) for run in runs]
    counts = sorted({int(one.results["comparisons"]) for one in models if one is not None})
    if not counts:
        return ""
    return f", {counts[0]:,} to {counts[-1]:,} each" if counts[1:] else f", {counts[0]:,} each"


def trajectory(run: RunRecord) -> Trajectory:
    """Raises: RunError for a run of PPO without a judge, or with too few evaluations."""
    steps, train = run.series("evaluation_score")
    _, test = run.series("judge_score")
    _, gold = run.series("judge_score_2")
    if len(steps) < 5 or len(test) != len(steps):
        raise RunError(
            f"'{run.path}' has {len(steps)} evaluations, {len(test)} of them with a judge; the "
            "study of robustness needs 5 or more: set judge, evaluation_data and evaluation_every"
        )
    kl_steps, kl = (np.asarray(each) for each in run.series("kl"))
    # A step's samples are drawn before its updates: the steps around an evaluation bracket it.
    nearest = [np.argsort(np.abs(kl_steps - (step + 0.5)))[:4] for step in steps]
    return Trajectory(
        seed=run.manifest.seed,
        episodes=np.asarray(steps) * run.settings["batch_episodes"],
        divergence=np.array([max(0.0, float(kl[near].mean())) for near in nearest]),
        train=np.asarray(train) - train[0],
        test=np.asarray(test) - test[0],
        gold=np.asarray(gold) - gold[0] if len(gold) == len(steps) else None,
    )


def _draw(found: Sequence[Trajectory], path: Path) -> None:
    with canvas(height_inches=6.4) as drawing:
        scores, gaps, golds = drawing.subplots(3, 1)
        for number, each in enumerate(found):
            ink, seed = colour(number), f"seed {each.seed}"
            scores.plot(each.episodes, each.train, color=ink, label=f"train PM, {seed}")
            scores.plot(
                each.episodes, each.test, color=ink, linestyle=DASHES[1], label=f"test PM, {seed}"
            )
            gaps.plot(np.sqrt(each.divergence), each.gap, color=ink, marker="o", markersize=3)
            if each.gold is not None:
                golds.plot(np.sqrt(each.divergence), each.gold, color=ink, marker="o", markersize=3)
        scores.set(xlabel="RL samples", ylabel="score from start")
        scores.legend(fontsize=7.5, ncols=2)
        gaps.set(xlabel="√KL (√nats)", ylabel="train − test PM")
        golds.set(xlabel="√KL (√nats)", ylabel="gold from start")
        save(drawing, path)
