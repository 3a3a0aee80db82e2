"""Figures of runs, from their metrics and results: whatever is there is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hark.evaluation.calibration import Calibration
from hark.evaluation.policies import PolicyEvaluation
from hark.report.drawing import Figure
from hark.report.figures import (
    Curve,
    Point,
    calibration_diagram,
    curves,
    language_losses,
    reward_against_divergence,
    reward_and_divergence,
    win_rates,
)
from hark.report.outlier_figures import areas_by_layer, areas_of
from hark.report.run_record import RunRecord

MOST_POINTS = 300
"""Of a curve; longer ones are averaged down, which also quiets the noise of single steps."""


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that share a figure: each name with what it is called beside the others."""

    title: str
    y_label: str
    metrics: tuple[tuple[str, str], ...]


FAMILIES = (
    Family("Loss", "loss (nats)", (("loss", ""), ("evaluation_loss", "held out"))),
    Family("Accuracy", "accuracy", (("accuracy", ""), ("evaluation_accuracy", "held out"))),
    Family("Length of replies", "tokens a reply", (("response_tokens", ""),)),
    Family("Entropy of the policy", "nats a token", (("entropy", ""),)),
    Family(
        "Signs of collapse",
        "share",
        (("repetition", "repeated"), ("incomplete_share", "cut off at the limit")),
    ),
)
DRAWN_ELSEWHERE = {"step", "score", "kl"}
BOOKKEEPING = {"tokens", "learning_rate", "epoch", "episodes"}
"""Logged for the record; a curve of them tells nobody anything."""

Named = Sequence[tuple[str, RunRecord]]
"""Runs with what each is called."""


def finding_figures(
    runs: Named, policies: Sequence[PolicyEvaluation], *, baseline: str
) -> Iterator[Figure]:
    """What the runs found: win rates, reward and divergence, calibration, the alignment tax."""
    if any(row.win_rate is not None for row in policies):
        yield win_rates(policies, baseline=baseline)
    yield from _reward_figures(runs, policies)
    measured = [found for _, run in runs if (found := _calibration(run)) is not None]
    if measured:
        yield calibration_diagram(measured[-1])
    for _, run in runs:
        if run.manifest.stage == "outliers" and (areas := areas_of(run.results)):
            yield areas_by_layer(areas)
    if sum(row.language_loss is not None for row in policies) > 1:
        yield language_losses(policies, reference=baseline, counterpart=mixed_policy(policies))


def mixed_policy(policies: Sequence[PolicyEvaluation]) -> str | None:
    """The policy trained with pretraining mixed in, which goes by the name of PPO-ptx."""
    return next((row.name for row in policies if "ptx" in row.name.lower()), None)


def training_figures(runs: Named) -> Iterator[Figure]:
    """Every metric over training, runs of one stage in one figure."""
    for stage in dict.fromkeys(run.manifest.stage for _, run in runs):
        yield from _metric_figures(
            stage, [each for each in runs if each[1].manifest.stage == stage]
        )


def thin(x: Sequence[float], y: Sequence[float], *, most: int = MOST_POINTS) -> Curve:
    """A curve without a name of at most `most` points, each the mean of as many in a row."""
    if len(x) <= most:
        return Curve(label="", x=x, y=y)
    groups = np.array_split(np.arange(len(x)), most)
    return Curve(
        label="",
        x=[float(np.mean(np.asarray(x)[group])) for group in groups],
        y=[float(np.mean(np.asarray(y)[group])) for group in groups],
    )


def _calibration(run: RunRecord) -> Calibration | None:
    """Of an evaluation's results, on top or among its details."""
    found = run.results.get("calibration") or run.results.get("details", {}).get("calibration")
    return Calibration.from_json(found) if found and found["bins"] else None


def _reward_figures(runs: Named, policies: Sequence[PolicyEvaluation]) -> Iterator[Figure]:
    rewards = _curves(runs, (("score", ""),))
    divergences = _curves(runs, (("kl", ""),))
    if not rewards or len(rewards) != len(divergences):
        return
    yield reward_and_divergence(rewards, divergences)
    yield reward_against_divergence(
        [
            Curve(label=reward.label, x=divergence.y, y=reward.y)
            for reward, divergence in zip(rewards, divergences, strict=True)
        ],
        [
            Point(
                label=row.name, divergence=row.divergence.value, reward=row.preference_score.value
            )
            for row in policies
            if row.divergence is not None
            and row.divergence.state == "exact"
            and row.divergence.value
            and row.preference_score is not None
            and row.preference_score.value is not None
        ],
    )


def _metric_figures(stage: str, members: Named) -> Iterator[Figure]:
    logged = dict.fromkeys(
        name
        for _, run in members
        for record in run.metrics
        for name, value in record.items()
        if is_number(value)
    )
    in_families = {name for family in FAMILIES for name, _ in family.metrics}
    others = [
        Family(_words(name)[:1].upper() + _words(name)[1:], _words(name), ((name, ""),))
        for name in logged
        if name not in in_families | DRAWN_ELSEWHERE | BOOKKEEPING
    ]
    for family in (*FAMILIES, *others):
        lines = _curves(members, family.metrics)
        if lines:
            yield curves(
                lines,
                name=f"{stage}-{family.metrics[0][0]}",
                title=f"{family.title} ({stage})",
                y_label=family.y_label,
                caption=_averaging(members),
            )


def _words(metric: str) -> str:
    return " ".join("KL" if word == "kl" else word for word in metric.split("_"))


def _curves(members: Named, metrics: Sequence[tuple[str, str]]) -> list[Curve]:
    lines = []
    for label, run in members:
        for metric, called in metrics:
            steps, values = run.series(metric)
            if steps:
                line = thin(steps, values)
                name = ", ".join(part for part in (label, called) if part)
                lines.append(Curve(label=name, x=line.x, y=line.y))
    return lines


def _averaging(members: Named) -> str:
    longest = max(len(run.metrics) for _, run in members)
    if longest <= MOST_POINTS:
        return ""
    return f"Long curves are averaged down to {MOST_POINTS} points."


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number (true and false are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool)
