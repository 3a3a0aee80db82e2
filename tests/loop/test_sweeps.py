"""A stage with `for_each` is one stage for each combination, and references find their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hark.errors import SettingsError
from hark.loop.plan import Request, plan_recipe
from hark.loop.recipe import load_recipe
from hark.loop.sweeps import Sweeps

LABELS = {"stage": "label", "for_each": {"seed": [0, 1]}, "seed": "${each.seed}"}


def test_every_combination_is_a_stage_with_its_values() -> None:
    stage = {"stage": "preference", "for_each": {"seed": [0, 1], "share": [0.5]},
             "seed": "${each.seed}", "data": ["pairs.jsonl=${each.share}"]}  # fmt: skip
    sweeps = Sweeps.of({"pm": stage}, recipe="r")
    assert sweeps.members == {"pm": ("pm-seed0-share0.5", "pm-seed1-share0.5")}
    assert sweeps.stages["pm-seed1-share0.5"] == {
        "stage": "preference",
        "seed": 1,
        "data": ["pairs.jsonl=0.5"],
    }


def test_a_reference_finds_the_run_with_the_same_values() -> None:
    reader = {"for_each": {"seed": [0, 1], "size": [3]}, "data": ["${labels}/data/c.jsonl"]}
    stages = Sweeps.of({"labels": LABELS, "pm": reader}, recipe="r").stages
    assert stages["pm-seed1-size3"]["data"] == ["${labels-seed1}/data/c.jsonl"]


def test_without_a_sweep_a_reference_means_all_and_more_values_mean_a_list() -> None:
    pm = {"for_each": {"seed": [0, 1], "size": [3, 4]}}
    per_seed = {"for_each": {"seed": [0, 1]}, "runs": ["${pm}"]}
    stages = Sweeps.of({"pm": pm, "all": {"runs": "${pm}"}, "each": per_seed}, recipe="r").stages
    assert stages["all"]["runs"] == [
        f"${{pm-seed{seed}-size{size}}}" for seed in (0, 1) for size in (3, 4)
    ]
    assert stages["each-seed1"]["runs"] == ["${pm-seed1-size3}", "${pm-seed1-size4}"]


def test_stages_without_a_sweep_stay_as_they_are() -> None:
    stages = {"base": {"stage": "pretrain"}, "sft": {"stage": "sft", "model": "${base}"}}
    assert Sweeps.of(stages, recipe="r").stages == stages


@pytest.mark.parametrize("for_each", [3, {}, {"seed": 3}, {"seed": []}, {"seed": [[1]]}, ["seed"]])
def test_a_malformed_sweep_is_refused(for_each: object) -> None:
    with pytest.raises(SettingsError, match=r"stage 'pm': for_each is .* such as \{seed"):
        Sweeps.of({"pm": {"for_each": for_each}}, recipe="r")


def test_two_stages_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="'pm-seed0', a name that is taken"):
        Sweeps.of({"pm": {"for_each": {"seed": [0]}}, "pm-seed0": {}}, recipe="r")


RECIPE = """
name: swept
stages:
  world: {stage: playground, for_each: {seed: [0, 1]}, seed: "${each.seed}", demonstrations: 4}
  base: {stage: pretrain, for_each: {seed: [0, 1]}, data: ["${world}/data/pretraining.jsonl"],
         steps: 1, size: 0.5m}
  page: {stage: report, runs: "${base}"}
"""


def test_a_plan_knows_the_single_stages_and_overrides_reach_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "swept.yaml"
    path.write_text(RECIPE)
    overrides = ("base.steps=3", "base-seed1.steps=4", "world-seed0.demonstrations=5")
    plan = plan_recipe(load_recipe(str(path)), Request(overrides=overrides))
    stages = {stage.name: stage for stage in plan.stages}
    assert set(stages) == {"world-seed0", "world-seed1", "base-seed0", "base-seed1", "page"}
    assert [stages[f"base-seed{n}"].values["steps"] for n in (0, 1)] == [3, 4]
    assert [stages[f"world-seed{n}"].values["demonstrations"] for n in (0, 1)] == [5, 4]
    assert stages["base-seed1"].parents == ("world-seed1",)
    assert stages["page"].parents == ("base-seed0", "base-seed1")
