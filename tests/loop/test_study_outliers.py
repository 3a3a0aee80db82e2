"""What several runs of `hark outliers` say together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hark.errors import RunError
from hark.evaluation.intervals import exact
from hark.evaluation.out_of_distribution import LayerAreas
from hark.loop.studies.outliers import analyse
from hark.loop.studies.seeds import mean_over_seeds
from hark.report.run_record import RunRecord
from hark.runs.manifest import Manifest


def run(
    path: Path, *, plain: float, relative: float, known: float, data: str = "playground/a.jsonl"
) -> RunRecord:
    """A run of two layers, the second chosen."""
    settings = {"model": "sft", "data": [data], "outlier_data": ["playground/b.jsonl"]}
    path = path / Path(data).stem
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"effective": settings}))
    areas = [
        LayerAreas(layer=layer, mahalanobis=exact(plain + shift),
                   simplified_relative=exact(relative + shift),
                   exposed={1: exact(0.5), 10: exact(known + shift), 100: exact(1.0)})
        for layer, shift in ((0, -0.1), (1, 0.0))
    ]  # fmt: skip
    manifest = Manifest(
        stage="outliers", name="", status="complete", command=("hark",), commit=None, dirty=False,
        versions={}, device="cpu", dtype="float32", seed=0, parents=(), inputs={},
        fingerprint="", started="2026-01-01T00:00:00", finished=None, message=None,
    )  # fmt: skip
    layers = [each.to_json() for each in areas]
    return RunRecord(path=path, manifest=manifest, results={"layers": layers, "layer": 1})


def test_effects_are_of_the_chosen_layer_and_follow_their_rules(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, plain=0.9 + jitter, relative=0.92 + 2 * jitter, known=0.97 + jitter)
        for jitter in (-0.004, 0.0, 0.004)
    ]
    stands_out, no_worse, known = analyse(runs, tmp_path)
    assert stands_out.estimate == mean_over_seeds([0.912, 0.92, 0.928])
    assert no_worse.estimate.value == pytest.approx(0.02)
    assert known.name == "10 known outliers beat the distances"
    assert known.estimate.value == pytest.approx(0.05)
    assert {each.verdict for each in (stands_out, no_worse, known)} == {"reproduced"}
    assert (tmp_path / "outliers.png").stat().st_size > 5000
    weak = [
        run(tmp_path, plain=0.7, relative=0.6 + jitter, known=0.5) for jitter in (-0.01, 0.0, 0.01)
    ]
    assert [each.verdict for each in analyse(weak, tmp_path)] == ["not reproduced"] * 3


def test_the_setting_says_whose_activations_and_which_requests(tmp_path: Path) -> None:
    (effect, *_) = analyse([run(tmp_path, plain=0.9, relative=0.9, known=0.9)], tmp_path)
    assert effect.data == "playground"
    assert "activations of one model;" in effect.setting
    people = run(tmp_path, plain=0.9, relative=0.9, known=0.9, data="people.jsonl")
    assert analyse([people], tmp_path)[0].data == "people.jsonl against playground"


def test_runs_that_measured_nothing_or_not_alike_are_refused(tmp_path: Path) -> None:
    measured = run(tmp_path, plain=0.9, relative=0.9, known=0.9)
    nothing = dataclasses.replace(measured, results={"layer": 1})
    layers = [{**layer, "exposed": {}} for layer in measured.results["layers"]]
    unexposed = dataclasses.replace(measured, results={"layers": layers, "layer": 1})
    for other in (nothing, unexposed):
        with pytest.raises(RunError, match="outlier_data, and the same numbers in exposed"):
            analyse([measured, other], tmp_path)


def test_students_interval_over_seeds_by_hand() -> None:
    # Mean 2, standard deviation 1, √3 seeds, t(2; 0.975) = 4.302653.
    found = mean_over_seeds([1.0, 2.0, 3.0])
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5)
    assert found.high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-5)
    assert mean_over_seeds([1.0]).state == "one cluster"
    assert mean_over_seeds([1.0, 1.0]).state == "no variation"
    assert mean_over_seeds([]).state == "no observations"
