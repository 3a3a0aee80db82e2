"""Every recipe that comes with hark is complete, and runs in miniature from start to end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hark.loop.pipeline import run_plan
from hark.loop.plan import Request, plan_recipe
from hark.loop.recipe import RECIPES, load_recipe, recipe_names
from hark.loop.sweeps import Sweeps
from hark.runs.manifest import Manifest
from hark.runs.metrics import read_metrics

ROOT = Path(__file__).parents[1]
METRICS = ROOT / "docs" / "metrics.md"

TWO_STAGES = """
name: two stages on a world
stages:
  world:
    stage: playground
    pretraining_texts: 60
    heldout_texts: 4
    demonstrations: 4
    heldout_demonstrations: 4
    preference_prompts: 4
    ppo_prompts: 4
    evaluation_prompts: 4
  base:
    stage: pretrain
    data: ["${world}/data/pretraining.jsonl"]
    size: 0.5m
    vocabulary_size: 300
    context_length: 128
    batch_tokens: 256
    steps: 1
    optimizer: {warmup_steps: 0}
  sampled:
    stage: sample
    model: ${base}
    data: ["${world}/data/evaluation-prompts.jsonl"]
    sampling: {max_response_tokens: 4}
"""

EXPECTED = {
    "quickstart",
    "instructgpt",
    "hh",
    "ziegler-sentiment",
    "stiennon-summarise",
}


def names_written(run: Path) -> set[str]:
    """Names in the metrics and the timing of a run."""
    files = (run / "metrics.jsonl", run / "timing.jsonl")
    return {name for path in files for record in read_metrics(path) for name in record}


def names_defined() -> set[str]:
    return {"step", *re.findall(r"`(\w+)`", METRICS.read_text(encoding="utf-8"))}


def test_the_recipes_are_all_there_and_at_the_top_of_the_repository() -> None:
    assert set(recipe_names()) >= EXPECTED
    assert {path.name for path in (ROOT / "recipes").glob("*.yaml")} == {
        path.name for path in RECIPES.glob("*.yaml")
    }


@pytest.mark.parametrize("name", recipe_names())
def test_every_setting_of_a_recipe_holds_and_its_sources_are_named(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    plan = plan_recipe(recipe, Request(dry_run=True))
    swept = Sweeps.of(recipe.stages, recipe=name)
    assert {stage.name for stage in plan.stages} == set(swept.stages)
    source = (RECIPES / f"{name}.yaml").read_text()
    assert source.startswith("#"), "say what it follows and where the numbers come from"
    if name not in {"quickstart", "hh-small"}:
        assert "arXiv" in source


@pytest.mark.parametrize("name", recipe_names())
def test_the_miniature_runs_to_the_end(name: str, tmp_path: Path) -> None:
    request = Request(miniature=True, every_stage={"output": str(tmp_path), "device": "cpu"})
    plan = plan_recipe(load_recipe(name), request)
    finished = run_plan(plan, command=["hark", "run", name, "--miniature"])
    assert [stage.name for stage in finished] == [stage.name for stage in plan.stages]
    assert not any(stage.reused for stage in finished)
    assert {Manifest.read(stage.run_path).status for stage in finished} == {"complete"}
    for stage in finished:
        assert names_written(stage.run_path) <= names_defined(), f"define in {METRICS}"
    assert finished[-1].kind == "report"
    assert Path(finished[-1].results["path"]).stat().st_size > 10_000


def test_a_second_run_takes_from_the_first_what_did_not_change(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(TWO_STAGES)

    def run(*overrides: str) -> dict[str, bool]:
        request = Request(
            overrides=overrides, every_stage={"output": str(tmp_path / "runs"), "device": "cpu"}
        )
        finished = run_plan(plan_recipe(load_recipe(str(path)), request), command=["hark"])
        return {stage.name: stage.reused for stage in finished}

    assert run() == {"world": False, "base": False, "sampled": False}
    assert run() == {"world": True, "base": True, "sampled": True}
    assert run("sampled.seed=1") == {"world": True, "base": True, "sampled": False}
    assert run("base.steps=2") == {"world": True, "base": False, "sampled": False}
