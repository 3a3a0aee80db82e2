"""A report of any runs, from what their directories hold: curves, results, samples, origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hark.data.records import Message
from hark.errors import RunError
from hark.evaluation.calibration import Calibration
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.samples import Sample
from hark.report.drawing import Figure
from hark.report.figures import (
    Curve,
    calibration_diagram,
    curves,
    reward_against_divergence,
    reward_and_divergence,
    win_rates,
)
from hark.report.page import Facts, Report
from hark.report.run_record import RunRecord

MOST_POINTS = 300
"""Of a curve; longer ones are averaged down, which also quiets the noise of single steps."""

MOST_SAMPLES = 8
"""Replies shown of each run."""


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

STRUCTURED = {"policies", "baseline", "calibration"}
"""Results that become a table or a figure of their own."""


def report_for_runs(paths: Sequence[Path]) -> Report:
    """Read run directories and lay out whatever they hold.

    Of results.json, `policies` (a list of `PolicyEvaluation.to_json()`) with `baseline`, and
    `calibration` (`Calibration.to_json()`) are drawn; other numbers become a list.
    Raises: RunError if a path is no run directory or a file in it is damaged.
    """
    if not paths:
        raise RunError("there is nothing to report: name one or more run directories")
    runs = [RunRecord.read(path) for path in paths]
    names = labels(runs)
    policies, baseline = _policies(runs)
    return Report(
        title=" and ".join(names) if len(runs) < 4 else f"{len(runs)} runs",
        summary=tuple(_sentence(name, run) for name, run in zip(names, runs, strict=True)),
        policies=policies,
        baseline=baseline,
        figures=tuple(_figures(runs, names, policies, baseline)),
        facts=tuple(
            Facts(title=f"{name}: results", rows=rows)
            for name, run in zip(names, runs, strict=True)
            if (rows := tuple(result_rows(run.results)))
        ),
        samples=tuple(
            sample
            for name, run in zip(names, runs, strict=True)
            for sample in newest_samples(run, name)
        ),
        runs=tuple(runs),
    )


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """What to call each run: its name or stage where that is its own, else its directory."""
    short = [run.label for run in runs]
    return [
        label if short.count(label) == 1 else run.path.resolve().name
        for label, run in zip(short, runs, strict=True)
    ]


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


def result_rows(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of results, nested names joined; intervals beside their values."""
    for name, value in results.items():
        if name in STRUCTURED:
            continue
        title = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys():
            yield title, _estimate_text(value)
        elif isinstance(value, Mapping):
            yield from result_rows(value, prefix=f"{title}, ")
        elif value is None or isinstance(value, bool | int | float | str):
            yield title, _plain(value)
        elif isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)):
            yield title, f"{_plain(value[0])} to {_plain(value[1])}"


def newest_samples(run: RunRecord, policy: str) -> list[Sample]:
    """The first few samples of the run's newest sample file; none where there is no such file."""
    files = sorted((run.path / "samples").glob("*.jsonl"))
    if not files:
        return []
    samples: list[Sample] = []
    for number, line in enumerate(files[-1].read_text("utf-8").split("\n"), start=1):
        if not line.strip() or len(samples) == MOST_SAMPLES:
            continue
        try:
            record = json.loads(line)
            samples.append(_sample(record, policy))
        except (ValueError, KeyError, TypeError):
            raise RunError(
                f"{files[-1]}:{number}: not a sample: expected 'prompt' (messages) and 'response'"
            ) from None
    return samples


def _sample(record: Mapping[str, Any], policy: str) -> Sample:
    scores = record.get("scores") or {
        name: record[name] for name in ("score", "kl") if _is_number(record.get(name))
    }
    finish = "length" if record.get("complete") is False else record.get("finish")
    return Sample(
        prompt=tuple(Message(each["role"], each["content"]) for each in record["prompt"]),
        policy=str(record.get("policy", policy)),
        response=str(record["response"]),
        scores={name: float(value) for name, value in scores.items()},
        finish=finish,
    )


def _policies(runs: Sequence[RunRecord]) -> tuple[tuple[PolicyEvaluation, ...], str]:
    rows: list[PolicyEvaluation] = []
    baseline = ""
    for run in runs:
        rows += [PolicyEvaluation.from_json(each) for each in run.results.get("policies", [])]
        baseline = baseline or run.results.get("baseline") or ""
    return tuple(rows), baseline


def _sentence(name: str, run: RunRecord) -> str:
    steps = max((record["step"] for record in run.metrics), default=0)
    told = f" after {steps:,} steps" if steps else ""
    took = f" in {run.duration}" if run.duration else ""
    return f"{name}: {run.manifest.status}{told}{took}."


def _figures(
    runs: Sequence[RunRecord],
    names: Sequence[str],
    policies: Sequence[PolicyEvaluation],
    baseline: str,
) -> Iterator[Figure]:
    if any(row.win_rate is not None for row in policies):
        yield win_rates(policies, baseline=baseline)
    measured = [run.results["calibration"] for run in runs if run.results.get("calibration")]
    if len(measured) == 1:
        yield calibration_diagram(Calibration.from_json(measured[0]))
    stages = dict.fromkeys(run.manifest.stage for run in runs)
    for stage in stages:
        members = [
            (name, run) for name, run in zip(names, runs, strict=True)
            if run.manifest.stage == stage
        ]  # fmt: skip
        yield from _reward_figures(members)
        yield from _metric_figures(stage, members)


def _reward_figures(members: Sequence[tuple[str, RunRecord]]) -> Iterator[Figure]:
    rewards = _curves(members, (("score", ""),))
    divergences = _curves(members, (("kl", ""),))
    if not rewards or len(rewards) != len(divergences):
        return
    yield reward_and_divergence(rewards, divergences)
    yield reward_against_divergence(
        [
            Curve(label=reward.label, x=divergence.y, y=reward.y)
            for reward, divergence in zip(rewards, divergences, strict=True)
        ]
    )


def _metric_figures(stage: str, members: Sequence[tuple[str, RunRecord]]) -> Iterator[Figure]:
    logged = dict.fromkeys(
        name
        for _, run in members
        for record in run.metrics
        for name, value in record.items()
        if _is_number(value)
    )
    in_families = {name for family in FAMILIES for name, _ in family.metrics}
    others = [
        Family(name.replace("_", " ").capitalize(), name.replace("_", " "), ((name, ""),))
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


def _curves(
    members: Sequence[tuple[str, RunRecord]], metrics: Sequence[tuple[str, str]]
) -> list[Curve]:
    lines = []
    for label, run in members:
        for metric, called in metrics:
            steps, values = run.series(metric)
            if steps:
                line = thin(steps, values)
                name = ", ".join(part for part in (label, called) if part)
                lines.append(Curve(label=name, x=line.x, y=line.y))
    return lines


def _averaging(members: Sequence[tuple[str, RunRecord]]) -> str:
    longest = max(len(run.metrics) for _, run in members)
    if longest <= MOST_POINTS:
        return ""
    return f"Long curves are averaged down to {MOST_POINTS} points."


def _estimate_text(value: Mapping[str, Any]) -> str:
    if value["low"] is None or value["high"] is None:
        return f"{_plain(value['value'])} ({value.get('state', 'no interval')})"
    return f"{_plain(value['value'])} ({_plain(value['low'])} to {_plain(value['high'])})"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return f"{value:,}" if isinstance(value, int) else str(value)
