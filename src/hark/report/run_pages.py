"""A report of any runs, from what their directories hold: findings, curves, samples, origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hark.data.records import Message
from hark.errors import RunError
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.samples import Sample, read_samples
from hark.report import findings
from hark.report.page import Facts, Report, pick_samples
from hark.report.run_figures import finding_figures, is_number, mixed_policy, training_figures
from hark.report.run_record import RunRecord
from hark.report.run_time import time_facts, time_figures

MOST_SAMPLES = 8
"""Prompts shown of a comparison, replies shown of a training run."""

STRUCTURED = {"policies", "baseline", "calibration", "details", "examples", "layers", "effects"}
"""Results that become a table or a figure, or repeat others at length."""

NOTES = (
    "A win rate is against the baseline’s own fresh replies to the same prompts, so the baseline "
    "itself lands near 50 %.",
    "Preference-model scores are what training maximised; they flatter the policies trained on "
    "them. The judge’s win rate is the number to trust.",
    "Intervals say how far a result would move with other prompts. They say nothing about other "
    "seeds of training: repeat the run with another --seed for that.",
)

NEXT_STEPS = (
    ("Teach a model with demonstrations of your own.",
     "hark sft --model MODEL --data demonstrations.jsonl"),
    ("Train a preference model on comparisons of your own.",
     "hark preference --model runs/…-sft --data comparisons.jsonl"),
    ("Improve the model against it.",
     "hark ppo --model runs/…-sft --preference-model runs/…-preference --data prompts.jsonl"),
    ("Look at a data file before any of this: it says what hark makes of it.",
     "hark data inspect FILE"),
)  # fmt: skip
"""Shown where policies were compared, which is where a loop ends."""


def report_for_runs(paths: Sequence[Path], *, title: str | None = None) -> Report:
    """Read run directories and lay out whatever they hold.

    Of results.json, `policies` (a list of `PolicyEvaluation.to_json()`) with `baseline`, and
    `calibration` (`Calibration.to_json()`, on top or in `details`) are drawn; other numbers become
    a list. `data/samples.jsonl` of a comparison is shown side by side; without one, the newest
    samples of each training run.
    Raises: RunError if a path is no run directory or a file in it is damaged.
    """
    if not paths:
        raise RunError("there is nothing to report: name one or more run directories")
    runs = [RunRecord.read(path) for path in paths]
    names = labels(runs)
    named = list(zip(names, runs, strict=True))
    policies, baseline = _policies(runs)
    return Report(
        title=title or (" and ".join(names) if len(runs) < 4 else f"{len(runs)} runs"),
        summary=tuple(_summary(named, policies, baseline)),
        policies=policies,
        baseline=baseline,
        figures=tuple(finding_figures(named, policies, baseline=baseline)),
        training_figures=tuple(training_figures(named)),
        time_figures=tuple(time_figures(named)),
        time_facts=tuple(time_facts(named)),
        facts=tuple(
            Facts(title=name, rows=rows)
            for name, run in named
            if (rows := tuple(result_rows(run.results)))
        ),
        samples=tuple(_samples(named)),
        notes=NOTES if policies else (),
        next_steps=NEXT_STEPS if policies else (),
        runs=tuple(runs),
    )


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """What to call each run: its name or stage where that is its own, else its directory."""
    short = [run.label for run in runs]
    return [
        label if short.count(label) == 1 else run.path.resolve().name
        for label, run in zip(short, runs, strict=True)
    ]


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
        elif isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
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
        name: record[name] for name in ("score", "kl") if is_number(record.get(name))
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


def _summary(
    named: Sequence[tuple[str, RunRecord]], policies: Sequence[PolicyEvaluation], baseline: str
) -> Iterator[str]:
    """The findings where policies were compared, else how each run ended."""
    if not policies:
        yield from (_sentence(name, run) for name, run in named)
        return
    yield findings.best_win_rate(policies, baseline=baseline) + "."
    if any(row.language_loss is not None for row in policies):
        counterpart = mixed_policy(policies)
        yield findings.alignment_tax(policies, reference=baseline, counterpart=counterpart) + "."


def _samples(named: Sequence[tuple[str, RunRecord]]) -> Iterator[Sample]:
    compared = [run.path / "data" / "samples.jsonl" for _, run in named]
    files = [path for path in compared if path.exists()]
    if files:
        for path in files:
            yield from pick_samples(read_samples(path), MOST_SAMPLES)
        return
    for name, run in named:
        yield from newest_samples(run, name)


def _sentence(name: str, run: RunRecord) -> str:
    steps = max((record["step"] for record in run.metrics), default=0)
    told = f" after {steps:,} steps" if steps else ""
    took = f" in {run.duration}" if run.duration else ""
    return f"{name}: {run.manifest.status}{told}{took}."


def _estimate_text(value: Mapping[str, Any]) -> str:
    if value["low"] is None or value["high"] is None:
        return f"{_plain(value['value'])} ({value.get('state', 'no interval')})"
    return f"{_plain(value['value'])} ({_plain(value['low'])} to {_plain(value['high'])})"


def _plain(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return f"{value:,}" if isinstance(value, int) else str(value)
