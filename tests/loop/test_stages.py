from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import hark
from hark.data.formats import write_prompts
from hark.data.records import Prompt, ask
from hark.loop.inputs import model_files
from hark.loop.stages import STAGES, run_stage
from hark.runs.run import Run
from hark.training.trainer import TrainingSettings


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_code_units_of_the_fingerprint_exist(stage: str) -> None:
    package = Path(hark.__file__).parent
    missing = [unit for unit in STAGES[stage].code if not (package / unit).exists()]
    assert not missing, "a unit that does not exist never changes a fingerprint"


def test_a_complete_stage_is_reused_only_where_asked_and_only_if_nothing_changed(
    tmp_path: Path,
) -> None:
    data = tmp_path / "prompts.jsonl"
    write_prompts(data, [Prompt(prompt=ask(f"Question {number}?")) for number in range(4)])
    settings = STAGES["prepare"].settings.parse({"data": [data], "output": tmp_path / "runs"})
    first = run_stage("prepare", settings, command=[])
    again = run_stage("prepare", settings, command=[], reuse_complete=True)
    assert again.reused
    assert again.run_path == first.run_path
    assert again.results == first.results
    assert run_stage("prepare", settings, command=[]).run_path != first.run_path
    write_prompts(data, [Prompt(prompt=ask("Something else?"))])
    assert not run_stage("prepare", settings, command=[], reuse_complete=True).reused


def test_a_complete_stage_is_run_again_for_the_profile_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Path] = []

    def train(settings: TrainingSettings, run: Run) -> dict[str, float]:
        ran.append(run.path)
        if settings.profile_steps:
            run.profile_path.mkdir()
        return {"loss": 1.0}

    data = tmp_path / "texts.jsonl"
    data.write_text("{}")
    monkeypatch.setitem(STAGES, "pretrain", replace(STAGES["pretrain"], function=train))

    def reused(**given: int) -> bool:
        values = {"data": [str(data)], "output": tmp_path / "runs", **given}
        settings = STAGES["pretrain"].settings.parse(values)
        return run_stage("pretrain", settings, command=[], reuse_complete=True).reused

    assert [reused(), reused(), reused(profile_steps=2)] == [False, True, False]
    assert [reused(profile_steps=2), reused(profile_steps=1), reused()] == [True, True, True]
    assert len(ran) == 2


def test_parents_are_the_runs_that_the_inputs_lie_in(tmp_path: Path) -> None:
    world = STAGES["playground"].settings.parse(
        {
            "output": tmp_path, "pretraining_texts": 5, "heldout_texts": 1, "demonstrations": 5,
            "heldout_demonstrations": 1, "preference_prompts": 5, "ppo_prompts": 5,
            "evaluation_prompts": 2,
        }
    )  # fmt: skip
    made = run_stage("playground", world, command=[]).run_path
    settings = STAGES["prepare"].settings.parse(
        {"data": [made / "data" / "ppo-prompts.jsonl"], "output": tmp_path}
    )
    prepared = run_stage("prepare", settings, command=[]).run_path
    with Run.start(stage="prepare", settings=settings) as other:
        assert other.manifest.parents == ()
    manifest = (prepared / "manifest.json").read_text()
    assert str(made) in manifest


def test_the_source_of_a_python_scorer_is_an_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests_stages_scorer.py").write_text("def score(dialogues): ...\n")
    monkeypatch.chdir(tmp_path)
    assert model_files("tests_stages_scorer:score") == [tmp_path / "tests_stages_scorer.py"]
    assert model_files("organisation/name") == []
