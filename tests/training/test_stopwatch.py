"""The clock of a training loop, and the trace it makes on request."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hark.models.language_model import load_language_model
from hark.models.logprobs import token_losses
from hark.models.tokenizer import load_tokenizer
from hark.runs.manifest import Manifest
from hark.runs.metrics import read_metrics
from hark.runs.run import Run, fingerprint
from hark.training.optimizer import OptimizerSettings
from hark.training.stopwatch import Stopwatch, peak_memory_bytes, steps_watched
from hark.training.trainer import (
    LossReport,
    MicroBatch,
    Task,
    TrainingSettings,
    fit,
)

StartRun = Callable[..., Run]


def shares(record: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in record.items() if name.endswith("_share")}


def test_what_no_phase_claims_is_other_and_a_record_starts_afresh() -> None:
    watch = Stopwatch()
    with watch.phase("update"):
        time.sleep(0.02)
    time.sleep(0.01)
    with watch.phase("update"):
        pass
    watch.count(tokens=3, useful_flops=50)
    watch.count(tokens=1, useful_flops=50)
    record = watch.take()
    assert 0.02 <= record["update_seconds"] < record["step_seconds"]
    assert record["other_seconds"] >= 0.01
    assert set(shares(record)) == {"update_share", "other_share"}
    assert sum(shares(record).values()) == pytest.approx(1.0)
    assert record["tokens_per_second"] == pytest.approx(4 / record["update_seconds"])
    assert record["useful_flops_per_second"] == pytest.approx(100 / record["step_seconds"])
    afresh = watch.take()
    assert set(shares(afresh)) == {"other_share"}
    assert afresh["step_seconds"] < 0.02
    assert math.isnan(afresh["tokens_per_second"])
    assert afresh["useful_flops_per_second"] == 0


def test_a_phase_that_fails_is_counted() -> None:
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.phase("score"):
        raise KeyError
    assert "score_share" in watch.take()


def test_peak_memory_is_that_of_the_process() -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs the VmHWM of /proc/self/status to compare with: run on Linux")
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    assert peak_memory_bytes(None) == pytest.approx(1024 * int(peak.split()[1]), rel=0.05)


def train(
    language_model: Path, start_run: StartRun, *, stop_at: int | None = None, **given: Any
) -> Run:
    """Three steps of two rows of 8 tokens; `stop_at` is a step, from 0, that does not begin."""
    settings = TrainingSettings(checkpoint_every=2, **given)
    rows = torch.arange(5, 21).view(2, 8)

    def batch(step: int) -> list[MicroBatch[torch.Tensor]]:
        if step == stop_at:
            raise ConnectionError("power cut")
        return [MicroBatch(batch=rows, weight=14.0, sequences=((1, (7,)),) * 2)]

    with start_run("fit", settings) as run:
        model = load_language_model(run.latest_checkpoint() or language_model)
        task = Task(
            model=model, tokenizer=load_tokenizer(language_model),
            optimizer=OptimizerSettings(learning_rate=1e-2), steps=3, batch=batch,
            loss=lambda rows: LossReport(loss=token_losses(model, rows).sum()),
            useful_flops=lambda sequence: 1000 * sum(sequence[1]),
            evaluate=lambda: {"evaluation_loss": 1.0}, dropout=True,
        )  # fmt: skip
        fit(run, task, settings)
        run.finish({})
    return run


def test_every_step_records_shares_and_useful_arithmetic(
    language_model: Path, start_run: StartRun
) -> None:
    run = train(language_model, start_run)
    records = read_metrics(run.path / "timing.jsonl")
    phases = {"data", "forward_backward", "update", "other"}
    expected = [phases | {"evaluation"}, phases | {"checkpoint"}, phases | {"evaluation"}]
    assert [set(shares(record)) for record in records] == [
        {f"{phase}_share" for phase in each} for each in expected
    ]
    for record in records:
        assert sum(shares(record).values()) == pytest.approx(1.0)
        aside = record.get("evaluation_seconds", 0.0) + record.get("checkpoint_seconds", 0.0)
        # Two rows of seven predicted tokens at 1000 each, forward and twice as much backward.
        useful = record["useful_flops_per_second"] * (record["step_seconds"] - aside)
        assert useful == pytest.approx(3 * 14 * 1000)
    spent = Manifest.read(run.path).time
    assert spent is not None
    assert spent["seconds"] == pytest.approx(sum(record["step_seconds"] for record in records))
    assert sum(row["share"] for row in spent["phases"]) == pytest.approx(1.0)


def test_a_profile_names_the_phases_and_changes_nothing(
    language_model: Path, start_run: StartRun
) -> None:
    plain = train(language_model, start_run, name="plain")
    traced = train(language_model, start_run, name="traced", profile_steps=1)
    for file in ("metrics.jsonl", "checkpoints/step-000002/model.safetensors"):
        assert (plain.path / file).read_bytes() == (traced.path / file).read_bytes()
    assert not plain.profile_path.exists()
    with gzip.open(traced.profile_path / "trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    names = [event.get("name") for event in events if event.get("ph") == "X"]
    # Of the second step alone, which has a checkpoint and no evaluation.
    for phase in ("data", "forward_backward", "update", "checkpoint"):
        assert sum(event.get("cat") == "user_annotation" for event in events
                   if event.get("name") == phase) == 1, phase  # fmt: skip
    assert "evaluation" not in names
    assert "aten::mm" in names
    table = (traced.profile_path / "operators.txt").read_text()
    assert table.startswith("Peak memory")
    assert "aten::mm" in table


def test_a_run_cut_off_while_traced_is_continued_without_a_trace(
    language_model: Path, start_run: StartRun
) -> None:
    whole = train(language_model, start_run, name="whole")
    with pytest.raises(ConnectionError):
        train(language_model, start_run, name="cut", profile_steps=2, stop_at=2)
    cut = train(language_model, start_run, name="cut")
    assert cut.resumed
    metrics = [(run.path / "metrics.jsonl").read_text() for run in (whole, cut)]
    assert metrics[0] == metrics[1]
    assert [record["step"] for record in read_metrics(cut.path / "timing.jsonl")] == [1, 2, 3]
    # What was recorded until then.
    assert (cut.profile_path / "trace.json.gz").is_file()


@pytest.mark.parametrize("steps", [1, 3])
def test_a_profile_of_a_run_without_a_second_step_says_so(
    start_run: StartRun, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    with (
        start_run("fit", TrainingSettings()) as run,
        steps_watched(run, torch.device("cpu"), profile_steps=steps) as watch,
    ):
        with watch.phase("data"):
            pass
        watch.take()
    assert "no trace was written" in capsys.readouterr().err
    assert not run.profile_path.exists()


def test_profiling_is_no_part_of_a_fingerprint() -> None:
    prints = {
        fingerprint("sft", TrainingSettings(**given), {}, ("training",))
        for given in ({}, {"profile_steps": 3}, {"output": "elsewhere"})
    }
    assert len(prints) == 1
    other = fingerprint("sft", TrainingSettings(micro_batch_tokens=7), {}, ("training",))
    assert other not in prints
