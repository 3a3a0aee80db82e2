"""A study reads runs, says what it found by a rule, and a page lists it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from hark.errors import HarkError, RunError, SettingsError
from hark.evaluation.intervals import Estimate
from hark.loop import studying
from hark.loop.stages import STAGES, run_stage
from hark.loop.studies import ANALYSES
from hark.loop.studying import StudySettings, write_replication
from hark.report.drawing import canvas, save
from hark.report.effects import Effect, anchor, judged, number
from hark.report.run_record import RunRecord


def estimate(value: float, low: float | None, high: float | None) -> Estimate:
    state = "one cluster" if low is None else "defined"
    return Estimate(value=value, low=low, high=high, n=9, clusters=3, state=state)


def effect(**changes: object) -> Effect:
    values = {
        "name": "It rises", "paper": "HH, figure 1", "claim": "It rises.", "setting": "Small.",
        "data": "playground", "measured": "the rise, in nats", "rule": "The interval is above 0.",
        "estimate": estimate(0.5, 0.25, 0.75), "seeds": 3, "verdict": "reproduced",
        "reason": "It is above 0.", "figure": "rise.png",
    }  # fmt: skip
    return Effect(**(values | changes))  # type: ignore[arg-type]


def draw(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    with canvas() as drawing:
        drawing.add_subplot().plot([0, 1], [0, len(runs)])
        save(drawing, directory / "rise.png")
    return [effect()]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(ANALYSES, "rise", draw)
    counts = ("pretraining_texts", "heldout_texts", "demonstrations", "preference_prompts")
    small = {**dict.fromkeys(counts, 4), "output": str(tmp_path)}
    settings_of_world = STAGES["playground"].settings.parse(small, where="test")
    world = run_stage("playground", settings_of_world, command=["hark", "playground"]).run_path
    settings = StudySettings(analysis="rise", runs=(world,), output=tmp_path)
    return run_stage("study", settings, command=["hark", "study"]).run_path


@pytest.mark.parametrize(
    ("low", "high", "is_above", "is_below"),
    [
        (0.1, 0.2, "reproduced", "not reproduced"),
        (-0.2, -0.1, "not reproduced", "reproduced"),
        (-0.1, 0.1, "cannot be seen", "cannot be seen"),
        (0.0, 0.1, "cannot be seen", "cannot be seen"),
        (None, None, "cannot be seen", "cannot be seen"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(
    low: float | None, high: float | None, is_above: str, is_below: str
) -> None:
    assert judged(estimate(0.05, low, high), above=0.0)["verdict"] == is_above
    assert judged(estimate(0.05, low, high), below=0.0)["verdict"] == is_below


def test_an_effect_survives_its_run(study: Path) -> None:
    record = RunRecord.read(study)
    assert studying.effects_of(record) == [effect()]
    assert record.results["analysis"] == "rise"


def test_the_page_has_every_effect_its_figure_and_its_origin(study: Path, tmp_path: Path) -> None:
    introduction = tmp_path / "introduction.md"
    introduction.write_text("Made in small.\n")
    into = tmp_path / "docs" / "hh"
    counts = write_replication([study], title="HH", into=into, introduction=introduction)
    assert counts == {"reproduced": 1, "not reproduced": 0, "cannot be seen": 0}
    page = (tmp_path / "docs" / "hh.md").read_text()
    assert page.startswith("# HH\n\nMade in small.\n\n| effect |")
    assert (
        "| [It rises](#it-rises) | playground | 0.500 (0.250 to 0.750) | 3 | reproduced |" in page
    )
    assert "![It rises](hh/rise.png)" in page
    assert (into / "rise.png").read_bytes().startswith(b"\x89PNG")
    assert "`rise` over 1 runs" in page


def test_an_effect_that_two_studies_found_is_there_twice(study: Path, tmp_path: Path) -> None:
    again = tmp_path / "people"
    shutil.copytree(study, again)
    manifest = json.loads((study / "manifest.json").read_text())
    (again / "manifest.json").write_text(json.dumps({**manifest, "name": "people"}))
    (again / "rise.png").write_bytes(b"another drawing")
    write_replication([study, again], title="HH", into=tmp_path / "hh")
    page = (tmp_path / "hh.md").read_text()
    assert "[It rises](#it-rises)" in page
    assert "[It rises (people)](#it-rises-people)" in page
    assert "### It rises (people)" in page
    assert "![It rises (people)](hh/people-rise.png)" in page
    assert (tmp_path / "hh" / "rise.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "hh" / "people-rise.png").read_bytes() == b"another drawing"


def test_only_complete_studies_make_a_page(study: Path, tmp_path: Path) -> None:
    (world,) = RunRecord.read(study).manifest.parents
    with pytest.raises(RunError, match="is a run of 'playground'; give runs of hark study"):
        write_replication([Path(world)], title="HH", into=tmp_path / "hh")
    manifest = json.loads((study / "manifest.json").read_text())
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "manifest.json").write_text(json.dumps({**manifest, "status": "failed"}))
    (unfinished / "config.json").write_bytes((study / "config.json").read_bytes())
    with pytest.raises(RunError, match="the study 'study' is not complete"):
        write_replication([unfinished], title="HH", into=tmp_path / "hh")
    counts = write_replication([unfinished, study], title="HH", into=tmp_path / "hh")
    assert counts["reproduced"] == 1, "one that failed does not stand in the way of a complete one"
    with pytest.raises(RunError, match="nothing to write"):
        write_replication([], title="HH", into=tmp_path / "hh")
    with pytest.raises(HarkError, match="the introduction .* cannot be read"):
        write_replication(
            [study], title="HH", into=tmp_path / "hh", introduction=tmp_path / "missing.md"
        )


@pytest.mark.parametrize("results", [[], {}, {"effects": 3}, {"effects": [{}]}, {"effects": [3]}])
def test_damaged_results_are_said(study: Path, tmp_path: Path, results: object) -> None:
    (study / "results.json").write_text(json.dumps(results))
    with pytest.raises(RunError, match="holds no effects that this hark can read"):
        write_replication([study], title="HH", into=tmp_path / "hh")
    assert not (tmp_path / "hh.md").exists()


def test_an_unknown_analysis_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANALYSES, "mixture", draw)
    with pytest.raises(SettingsError, match="did you mean 'mixture'"):
        StudySettings.parse({"analysis": "mixtur", "runs": [str(tmp_path)]}, where="test")


def test_numbers_and_anchors_in_words() -> None:
    assert number(estimate(0.5, 0.25, 0.75)) == "0.500 (0.250 to 0.750)"
    assert number(estimate(0.5, None, None)) == "0.500 (one cluster)"
    assert anchor("R²(√KL) ≥ R²(KL) on PPO") == "r²kl--r²kl-on-ppo"
