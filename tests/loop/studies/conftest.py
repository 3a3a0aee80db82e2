"""Runs of `hark preference` as their directories hold them, without the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hark.data.records import ask, chosen_and_rejected
from hark.evaluation.preference_accuracy import preference_accuracy
from hark.report.run_record import RunRecord
from hark.runs.manifest import Manifest


def measured(right: dict[str, float], *, pairs: int = 200, labelers: bool = False) -> Any:
    """Accuracy as of a model that is right so often on each file."""
    comparisons, files, scores = [], [], {}
    for file, share in right.items():
        for n in range(pairs):
            pair = chosen_and_rejected(ask(f"{file} {n}"), "better", "worse")
            comparisons.append(pair)
            files.append(file)
            gap = (1 if n < share * pairs else -1) * (0.1 + n % 7)
            scores[pair.prompt, "better"], scores[pair.prompt, "worse"] = gap + n % 5, float(n % 5)
    return preference_accuracy(
        lambda dialogues: [scores[each[:-1], each[-1].content] for each in dialogues],
        comparisons, files=files, resamples=20,
    ).to_json()  # fmt: skip


@pytest.fixture
def preference_run(tmp_path: Path) -> Callable[..., RunRecord]:
    """Make a run: its accuracy on each evaluation file, its settings, its size."""
    count = iter(range(10_000))

    def make(
        right: dict[str, float], *, parameters: int = 500_000, stage: str = "preference",
        dropped: int = 0, **settings: Any,
    ) -> RunRecord:  # fmt: skip
        path = tmp_path / f"run-{next(count)}"
        path.mkdir()
        effective = {
            "seed": 0, "shares": [], "loss_weights": [], "comparisons": 1000, "model": "sft",
            "data": ["playground/overall.jsonl"], "evaluation_data": list(right),
        } | settings  # fmt: skip
        (path / "config.json").write_text(json.dumps({"effective": effective}))
        results = {
            "parameters": parameters,
            "comparisons": effective["comparisons"] - dropped,
            "records_dropped": dropped,
            "details": measured(right),
        }
        manifest = cast(Any, SimpleNamespace(stage=stage, name="", inputs={}))
        return RunRecord(path=path, manifest=manifest, results=results)

    return make


@pytest.fixture
def imitator(tmp_path: Path) -> Callable[[str], str]:
    """Make a complete run of `hark sft` that started from a model; its directory."""
    count = iter(range(10_000))

    def make(model: str) -> str:
        path = tmp_path / f"imitated-{next(count)}"
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"effective": {"model": model}}))
        Manifest(
            stage="sft", name="", status="complete", command=("hark",), commit=None, dirty=False,
            versions={}, device="cpu", dtype="float32", seed=0, parents=(), inputs={},
            fingerprint="", started="2026-01-01T00:00:00", finished=None, message=None,
        ).write(path)  # fmt: skip
        return str(path)

    return make


@pytest.fixture
def other_run(tmp_path: Path) -> Callable[..., RunRecord]:
    """Make a run of another stage from its settings and results."""
    count = iter(range(10_000))

    def make(stage: str, settings: dict[str, Any], results: dict[str, Any]) -> RunRecord:
        path = tmp_path / f"{stage}-{next(count)}"
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"effective": settings}))
        manifest = cast(Any, SimpleNamespace(stage=stage, name="", inputs={}))
        return RunRecord(path=path, manifest=manifest, results=results)

    return make
