"""Recipes: a paper's pipeline as one file that names stages and their settings.

A stage's settings may refer to what came before: `${base}` is the run directory of the stage named
`base`, `${world}/data/texts.jsonl` a file in it, `${inputs.demonstrations}` what the person gave
with `--input demonstrations=PATH`. A reference may only point backwards, so there are no cycles.
The whole recipe is checked, every setting of every stage, before the first stage starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from hark.data.files import expand_paths
from hark.errors import HarkError, SettingsError, did_you_mean
from hark.loop.stages import STAGES
from hark.runs.settings import StageSettings
from hark.settings import Settings, read_settings_file

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that come with hark."""

REFERENCE = re.compile(r"\$\{([^}]*)\}")


class RecipeInput(Settings):
    """Something that the person must bring, or may."""

    help: str
    """What it is, and in which form."""
    kind: Literal["data", "model"] = "data"
    """Data must be a path that exists; a model may also be a Hub name."""
    default: str | list[str] | None = None
    """Used when nothing is given; null stands for "without". Without a default it is required."""

    @property
    def required(self) -> bool:
        return "default" not in self.model_fields_set


class Miniature(Settings):
    """The same recipe in seconds: smaller settings, and inputs made by the playground."""

    inputs: dict[str, str | list[str] | None] = Field(default_factory=dict)
    """Values for the recipe's inputs; may refer to the stages below."""
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings laid over the recipe's stages; stages the recipe does not have run first."""


class Recipe(Settings):
    """A recipe file."""

    name: str
    """Names the recipe in messages and in its report."""
    description: str = ""
    """What it does and which paper it follows."""
    inputs: dict[str, RecipeInput] = Field(default_factory=dict)
    """What the person brings, by the name used in `${inputs.name}`."""
    stages: dict[str, dict[str, Any]]
    """Name in this recipe → `stage:`, its kind, and that kind's settings; run in this order."""
    miniature: Miniature | None = None
    """What to change so that the whole recipe runs in seconds."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a recipe, checked; references to other stages are still to be filled in."""

    name: str
    """Its name in the recipe."""
    kind: str
    """Its key in `STAGES`."""
    values: dict[str, Any]
    """The settings given, as plain values."""
    settings: StageSettings
    """The effective settings, with `${…}` in the place of run directories not yet made."""
    where: str
    """The recipe and stage, for messages."""

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the stages this one reads from."""
        return tuple(dict.fromkeys(references_in(self.values)))

    def resolve(self, runs: Mapping[str, Path]) -> StageSettings:
        """The settings once the run directories of all earlier stages are known."""
        values = _substitute(self.values, {name: str(path) for name, path in runs.items()})
        return STAGES[self.kind].settings.parse(values, where=self.where)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe with its inputs and overrides settled."""

    recipe: Recipe
    stages: tuple[PlannedStage, ...]
    inputs: dict[str, Any]
    """Every input's value; `${inputs.name}` where none was given (dry runs only)."""


def recipe_names() -> list[str]:
    """Names of the recipes that come with hark."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by the name of a built-in one or by the path of a file.

    Raises: SettingsError if there is no such recipe or it is not well formed.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"} and not path.is_file():
        path = RECIPES / f"{name_or_path}.yaml"
        if not path.is_file():
            raise SettingsError(
                f"there is no recipe '{name_or_path}'{did_you_mean(name_or_path, recipe_names())}; "
                f"give the path of a YAML file or one of: {', '.join(recipe_names())}"
            )
    values = read_settings_file(path)
    if isinstance(values.get("inputs"), dict):
        values["inputs"] = {
            name: {"help": item} if isinstance(item, str) else item
            for name, item in values["inputs"].items()
        }
    return Recipe.parse(values, where=f"recipe '{path}'")


def plan_recipe(
    recipe: Recipe,
    *,
    inputs: Sequence[str] = (),
    overrides: Sequence[str] = (),
    every_stage: Mapping[str, Any] | None = None,
    miniature: bool = False,
    dry_run: bool = False,
) -> Plan:
    """Settle inputs and overrides and check every setting and reference of every stage.

    `inputs` are `name=path`, `overrides` are `stage.field=value` with a YAML value; `every_stage`
    holds settings (output, seed, device, dtype) that replace those of all stages. With `dry_run`
    inputs may be missing. Raises: SettingsError.
    """
    _refuse_unused_inputs(recipe)
    small = _miniature_of(recipe) if miniature else Miniature()
    stages = _merged_stages(recipe, small)
    for override in overrides:
        name, change = _parse_override(override, stages)
        stages[name] = merge(stages[name], change)
    values = _input_values(recipe, small, inputs, missing_allowed=dry_run)
    planned: list[PlannedStage] = []
    for name, stage in stages.items():
        earlier = [item.name for item in planned]
        planned.append(_plan_stage(recipe, name, stage, values, earlier, dict(every_stage or {})))
    return Plan(recipe=recipe, stages=tuple(planned), inputs=values)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested mapping over another; lists and plain values are replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def references_in(value: Any) -> Iterable[str]:
    """Every `${…}` in a nested value."""
    if isinstance(value, str):
        yield from REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)


def _miniature_of(recipe: Recipe) -> Miniature:
    if recipe.miniature is None:
        raise SettingsError(
            f"recipe '{recipe.name}' has no 'miniature'; run it without --miniature"
        )
    return recipe.miniature


def _merged_stages(recipe: Recipe, small: Miniature) -> dict[str, dict[str, Any]]:
    extra = {name: item for name, item in small.stages.items() if name not in recipe.stages}
    for name, item in extra.items():
        if "stage" not in item:
            raise SettingsError(
                f"recipe '{recipe.name}': miniature stage '{name}'"
                f"{did_you_mean(name, recipe.stages)} is not one of its stages; a new one needs "
                "'stage: KIND'"
            )
    own = {name: merge(item, small.stages.get(name, {})) for name, item in recipe.stages.items()}
    return {**extra, **own}


def _parse_override(text: str, stages: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    path, equals, value = text.partition("=")
    stage, *fields = path.strip().split(".")
    if not equals or not fields or not all(fields):
        raise SettingsError(f"--set '{text}' is not STAGE.FIELD=VALUE, such as ppo.seed=1")
    if stage not in stages:
        raise SettingsError(
            f"--set '{text}': the recipe has no stage '{stage}'{did_you_mean(stage, stages)}; "
            f"it has: {', '.join(stages)}"
        )
    try:
        change: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"--set '{text}': the value is not valid YAML: {reason}") from None
    for field in reversed(fields):
        change = {field: change}
    return stage, change


def _input_values(
    recipe: Recipe, small: Miniature, given: Sequence[str], *, missing_allowed: bool
) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: item.default for name, item in recipe.inputs.items() if not item.required
    }
    for name in small.inputs:
        _require_input(recipe, name)
    values |= small.inputs | _parse_inputs(recipe, given)
    for name in [name for name in recipe.inputs if name not in values]:
        if not missing_allowed:
            wanted = recipe.inputs[name]
            raise SettingsError(
                f"recipe '{recipe.name}' needs '{name}' ({wanted.help}); "
                f"give --input {name}=PATH, or --miniature to try it on built-in data"
            )
        values[name] = f"${{inputs.{name}}}"
    return values


def _parse_inputs(recipe: Recipe, given: Sequence[str]) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise SettingsError(f"--input '{text}' is not NAME=PATH")
        if _require_input(recipe, name).kind == "data":
            try:
                expand_paths(value)
            except HarkError as error:
                raise type(error)(f"--input {name}: {error}") from None
        found.setdefault(name, []).append(value)
    return {name: items[0] if len(items) == 1 else items for name, items in found.items()}


def _require_input(recipe: Recipe, name: str) -> RecipeInput:
    if name not in recipe.inputs:
        known = ", ".join(recipe.inputs) or "none"
        raise SettingsError(
            f"recipe '{recipe.name}' has no input '{name}'{did_you_mean(name, recipe.inputs)}; "
            f"its inputs: {known}"
        )
    return recipe.inputs[name]


def _plan_stage(
    recipe: Recipe,
    name: str,
    stage: Mapping[str, Any],
    inputs: Mapping[str, Any],
    earlier: Sequence[str],
    every_stage: Mapping[str, Any],
) -> PlannedStage:
    where = f"recipe '{recipe.name}', stage '{name}'"
    kind = str(stage.get("stage"))
    if kind not in STAGES:
        hint = did_you_mean(kind, STAGES)
        raise SettingsError(f"{where}: unknown 'stage: {kind}'{hint}; known: {', '.join(STAGES)}")
    own_name = {} if name == kind else {"name": name}
    values = {**own_name, **stage, **every_stage}
    del values["stage"]
    values = _substitute(values, {f"inputs.{key}": item for key, item in inputs.items()})
    for reference in references_in(values):
        if reference not in earlier and reference.removeprefix("inputs.") not in inputs:
            known = [*earlier, *(f"inputs.{key}" for key in inputs)]
            raise SettingsError(
                f"{where}: '${{{reference}}}' is neither an input nor a stage that comes before it"
                f"{did_you_mean(reference, known)}; known here: {', '.join(known) or 'none'}"
            )
    settings = STAGES[kind].settings.parse(values, where=where)
    return PlannedStage(name=name, kind=kind, values=values, settings=settings, where=where)


def _substitute(value: Any, known: Mapping[str, Any]) -> Any:
    """Fill in references; a list given for a whole item of a list is laid out in its place."""
    if isinstance(value, Mapping):
        return {key: _substitute(item, known) for key, item in value.items()}
    if isinstance(value, list):
        filled = [(_substitute(item, known), item) for item in value]
        return [part for new, old in filled for part in _spread(new, old)]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole and whole[1] in known:
        return known[whole[1]]
    return REFERENCE.sub(lambda found: _text_of(found, known), value)


def _spread(new: Any, old: Any) -> list[Any]:
    if isinstance(old, str) and new is None:
        return []
    return new if isinstance(old, str) and isinstance(new, list) else [new]


def _text_of(found: re.Match[str], known: Mapping[str, Any]) -> str:
    value = known.get(found[1], found[0])
    if not isinstance(value, str):
        raise SettingsError(
            f"'{found[0]}' stands inside a path, where it must be one path: {value}"
        )
    return value


def _refuse_unused_inputs(recipe: Recipe) -> None:
    used = set(references_in(recipe.stages))
    for name in recipe.inputs:
        if f"inputs.{name}" not in used:
            raise SettingsError(f"recipe '{recipe.name}': no stage uses its input '{name}'")
