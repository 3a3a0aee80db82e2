"""Recipes are read, resolved and checked as a whole before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hark.errors import HarkError, SettingsError
from hark.loop import pipeline, plan
from hark.loop.plan import Plan, Request
from hark.loop.recipe import Recipe, load_recipe
from hark.runs.settings import StageSettings
from hark.settings import Settings


class Optimizer(Settings):
    learning_rate: float = 1e-3
    schedule: str = "cosine"


class Train(StageSettings):
    model: str
    data: tuple[str, ...]
    held_out: str | None = None
    steps: int = 10
    optimizer: Optimizer = Optimizer()


class Make(StageSettings):
    size: int = 1


@dataclass(frozen=True)
class FakeStage:
    settings: type[StageSettings]


@dataclass(frozen=True)
class Outcome:
    run_path: Path
    results: dict[str, Any]
    reused: bool


TINY = """
name: tiny
inputs:
  texts: text to learn from
  held_out: {help: text to measure on, default: null}
  start: {help: where to begin, kind: model, default: gpt-none}
stages:
  base: {stage: train, model: "${inputs.start}", data: ["${inputs.texts}", fixed.jsonl]}
  tuned:
    stage: train
    model: ${base}
    data: ["${base}/data/own.jsonl"]
    held_out: ${inputs.held_out}
    optimizer: {schedule: linear}
miniature:
  inputs: {texts: "${world}/data/texts.jsonl"}
  stages:
    world: {stage: make, size: 3}
    tuned: {steps: 2, optimizer: {learning_rate: 0.5}}
"""


@pytest.fixture(autouse=True)
def _stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "STAGES", {"train": FakeStage(Train), "make": FakeStage(Make)})


@pytest.fixture
def tiny(tmp_path: Path) -> Recipe:
    return read(tmp_path, TINY)


@pytest.fixture
def texts(tmp_path: Path) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "a"}\n')
    return str(path)


def read(directory: Path, text: str) -> Recipe:
    path = directory / "recipe.yaml"
    path.write_text(text)
    return load_recipe(str(path))


def plan_recipe(recipe: Recipe, **request: Any) -> Plan:
    return plan.plan_recipe(recipe, Request(**request))


def settings_of(planned: Plan, name: str) -> Any:
    return next(stage.settings for stage in planned.stages if stage.name == name)


def test_inputs_and_earlier_stages_are_filled_in(tiny: Recipe, texts: str) -> None:
    planned = plan_recipe(tiny, inputs=[f"texts={texts}"])
    assert [stage.name for stage in planned.stages] == ["base", "tuned"]
    assert settings_of(planned, "base").data == (texts, "fixed.jsonl")
    assert settings_of(planned, "base").model == "gpt-none"
    assert planned.stages[1].parents == ("base",)
    resolved = planned.stages[1].resolve({"base": Path("runs/b")})
    assert isinstance(resolved, Train)
    assert resolved.model == "runs/b"
    assert resolved.data == ("runs/b/data/own.jsonl",)
    assert resolved.held_out is None


def test_an_input_given_twice_is_a_list_in_its_place(tiny: Recipe, texts: str) -> None:
    planned = plan_recipe(tiny, inputs=[f"texts={texts}", f"texts={texts}"])
    assert settings_of(planned, "base").data == (texts, texts, "fixed.jsonl")


def test_a_list_cannot_stand_where_one_path_must(tiny: Recipe, texts: str) -> None:
    inputs = [f"texts={texts}", f"held_out={texts}", f"held_out={texts}"]
    with pytest.raises(SettingsError, match="held_out"):
        plan_recipe(tiny, inputs=inputs)


def test_stages_are_named_after_the_recipe_and_share_what_the_command_says(
    tiny: Recipe, texts: str
) -> None:
    planned = plan_recipe(tiny, inputs=[f"texts={texts}"], every_stage={"seed": 7})
    assert settings_of(planned, "base").name == "base"
    assert {stage.settings.seed for stage in planned.stages} == {7}


def test_the_miniature_adds_stages_first_and_overlays_the_rest(tiny: Recipe) -> None:
    planned = plan_recipe(tiny, miniature=True)
    assert [stage.name for stage in planned.stages] == ["world", "base", "tuned"]
    assert settings_of(planned, "base").data[0] == "${world}/data/texts.jsonl"
    assert settings_of(planned, "tuned").steps == 2
    assert settings_of(planned, "tuned").optimizer == Optimizer(
        learning_rate=0.5, schedule="linear"
    )


def test_only_what_was_given_counts_as_given(tiny: Recipe) -> None:
    planned = plan_recipe(tiny, miniature=True)
    assert settings_of(planned, "tuned").optimizer.model_fields_set == {"learning_rate", "schedule"}
    assert "steps" not in settings_of(planned, "base").model_fields_set


def test_an_override_has_a_yaml_value_and_wins(tiny: Recipe) -> None:
    overrides = ["tuned.optimizer.learning_rate=1e-4", "base.data=[x.jsonl]", "base.steps=3"]
    planned = plan_recipe(tiny, miniature=True, overrides=[*overrides, "tuned.steps=9"])
    assert settings_of(planned, "tuned").optimizer.learning_rate == 1e-4
    assert settings_of(planned, "tuned").optimizer.schedule == "linear"
    assert settings_of(planned, "tuned").steps == 9
    assert settings_of(planned, "base").steps == 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tunde.steps=1", "did you mean 'tuned'"),
        ("tuned.stpes=1", "did you mean 'steps'"),
        ("tuned.optimizer.learning_rat=1", "did you mean 'learning_rate'"),
        ("tuned.steps=many", "tuned.*steps"),
        ("tuned=1", "STAGE.FIELD=VALUE"),
        ("tuned.steps", "STAGE.FIELD=VALUE"),
        ("tuned.steps=[1", "not valid YAML"),
    ],
)
def test_an_override_that_says_nothing_is_refused(tiny: Recipe, override: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        plan_recipe(tiny, miniature=True, overrides=[override])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], r"needs 'texts' \(text to learn from\)"),
        (["text=x"], "did you mean 'texts'"),
        (["texts"], "NAME=PATH"),
        (["texts=nowhere.jsonl"], "--input texts: .*nowhere.jsonl"),
    ],
)
def test_wrong_inputs_are_refused(tiny: Recipe, inputs: list[str], said: str) -> None:
    with pytest.raises(HarkError, match=said):
        plan_recipe(tiny, inputs=inputs)


def test_a_model_input_need_not_be_a_path(tiny: Recipe, texts: str) -> None:
    planned = plan_recipe(tiny, inputs=[f"texts={texts}", "start=some/hub-name"])
    assert settings_of(planned, "base").model == "some/hub-name"


def test_a_dry_run_needs_no_inputs(tiny: Recipe) -> None:
    planned = plan_recipe(tiny, dry_run=True)
    assert settings_of(planned, "base").data == ("${inputs.texts}", "fixed.jsonl")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stages": {"a": {"stage": "trian"}}}, "did you mean 'train'"),
        ({"stages": {"a": {"stage": "make", "sise": 1}}}, "stage 'a': .*did you mean 'size'"),
        (
            {"stages": {"a": {"stage": "train", "model": "${b}", "data": []}}},
            "neither a stage nor an input",
        ),
        ({"stages": {"a": {"stage": "train", "model": "${a}", "data": []}}}, "a need each other"),
        ({"inputs": {"idle": "never used"}}, "no stage uses its input 'idle'"),
        ({"stagse": {}}, "did you mean 'stages'"),
        ({"miniature": {"stages": {"nwe": {"steps": 1}}}}, "needs 'stage: KIND'"),
        ({"miniature": {"inputs": {"x": "y"}}}, "no input 'x'"),
    ],
)
def test_a_recipe_is_checked_before_it_runs(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    content = {"name": "r", "stages": {"a": {"stage": "make"}}, "miniature": {}} | change
    with pytest.raises(SettingsError, match=said):
        plan_recipe(read(tmp_path, yaml.safe_dump(content)), miniature=True)


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    content = """
    name: cycle
    stages:
      a: {stage: train, model: "${b}", data: []}
      b: {stage: train, model: "${a}", data: []}
    """
    with pytest.raises(SettingsError, match="a, b need each other"):
        plan_recipe(read(tmp_path, content))


def test_an_unknown_recipe_names_the_closest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'instructgpt'"):
        load_recipe("instructgtp")


def test_stages_run_in_the_order_their_references_ask_for(tmp_path: Path) -> None:
    content = """
    name: shuffled
    stages:
      last: {stage: train, model: "${first}", data: ["${middle}/x"]}
      middle: {stage: train, model: "${first}", data: []}
      first: {stage: make}
      alone: {stage: make}
    """
    planned = plan_recipe(read(tmp_path, content))
    assert [stage.name for stage in planned.stages] == ["first", "middle", "last", "alone"]


def test_a_run_may_take_the_place_of_a_stage_and_of_what_only_it_needed(
    tiny: Recipe, texts: str
) -> None:
    planned = plan_recipe(tiny, miniature=True, replacements=["base=hub/name"])
    assert [stage.name for stage in planned.stages] == ["tuned"]
    assert settings_of(planned, "tuned").model == "hub/name"
    planned = plan_recipe(tiny, miniature=True, replacements=["world=elsewhere"])
    assert [stage.name for stage in planned.stages] == ["base", "tuned"]
    assert settings_of(planned, "base").data[0] == "elsewhere/data/texts.jsonl"
    with pytest.raises(SettingsError, match="did you mean 'base'"):
        plan_recipe(tiny, inputs=[f"texts={texts}"], replacements=["bsae=x"])


def test_an_override_of_one_stage_wins_over_an_option_for_all(tiny: Recipe, texts: str) -> None:
    planned = plan_recipe(
        tiny, inputs=[f"texts={texts}"], overrides=["tuned.seed=7"], every_stage={"seed": 1}
    )
    assert [stage.settings.seed for stage in planned.stages] == [1, 7]
    tuned = planned.stages[1]
    assert (tuned.sources["seed"], tuned.sources["model"]) == ("command line", "recipe")


def test_what_only_replaced_stages_read_need_not_be_given(tiny: Recipe, texts: str) -> None:
    planned = plan_recipe(tiny, replacements=["base=hub/name"])
    assert (planned.unused_inputs, "texts" in planned.inputs) == ((), False)
    planned = plan_recipe(tiny, inputs=[f"texts={texts}"], replacements=["base=hub/name"])
    assert planned.unused_inputs == ("texts",)


def test_an_input_may_have_a_weight(tiny: Recipe, texts: str) -> None:
    planned = plan_recipe(tiny, inputs=[f"texts={texts}=0.5"])
    assert settings_of(planned, "base").data[0] == f"{texts}=0.5"
    with pytest.raises(HarkError, match="'nothing.jsonl'"):
        plan_recipe(tiny, inputs=["texts=nothing.jsonl=0.5"])


def test_stages_run_in_order_and_feed_each_other(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, StageSettings]] = []

    def run_stage(
        kind: str, settings: StageSettings, *, command: list[str], reuse_complete: bool
    ) -> Outcome:
        assert reuse_complete
        assert command == ["hark", "run"]
        seen.append((kind, settings))
        return Outcome(Path(f"runs/{settings.name}"), {"steps": len(seen)}, len(seen) == 1)

    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    finished = pipeline.run_plan(plan_recipe(tiny, miniature=True), command=["hark", "run"])
    assert [kind for kind, _ in seen] == ["make", "train", "train"]
    base, tuned = seen[1][1], seen[2][1]
    assert isinstance(base, Train)
    assert isinstance(tuned, Train)
    assert base.data[0] == "runs/world/data/texts.jsonl"
    assert tuned.model == "runs/base"
    assert [stage.reused for stage in finished] == [True, False, False]
    said = capsys.readouterr().err
    assert "[1/3] world: already complete: runs/world" in said
    assert "[3/3] tuned: done in 0:00: runs/tuned" in said


def test_an_error_names_the_stage_it_came_from(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_stage(kind: str, settings: StageSettings, **_: object) -> Outcome:
        raise HarkError("the disk is full")

    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    with pytest.raises(HarkError, match="stage 'world': the disk is full"):
        pipeline.run_plan(plan_recipe(tiny, miniature=True), command=[])


def test_durations_read_like_a_clock() -> None:
    assert [pipeline.duration(s) for s in (7.4, 750, 3723)] == ["0:07", "12:30", "1:02:03"]
