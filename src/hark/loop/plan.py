"""From a recipe to a plan: inputs and overrides settled, every setting of every stage checked.

Nothing runs before the whole plan holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hark.data.files import expand_paths
from hark.data.mixing import parse_weighted_path
from hark.errors import HarkError, SettingsError, did_you_mean
from hark.loop.recipe import Miniature, Recipe, RecipeInput
from hark.loop.references import in_order, merge, read_change, references_in, substitute, without
from hark.loop.stages import STAGES
from hark.loop.sweeps import Sweeps
from hark.runs.settings import StageSettings
from hark.settings import sources_of


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asks of a recipe, as typed."""

    inputs: Sequence[str] = ()
    """`name=path`; a name given twice stands for both paths."""
    overrides: Sequence[str] = ()
    """`stage.field=value`, the value in YAML."""
    replacements: Sequence[str] = ()
    """`stage=path`: a run directory or model to take instead of running the stage."""
    every_stage: Mapping[str, Any] | None = None
    """Settings (output, seed, device, dtype) that replace those of all stages; an override of one
    stage wins over them."""
    miniature: bool = False
    """Lay the recipe's miniature over it."""
    dry_run: bool = False
    """Inputs may be missing."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One stage of a recipe, checked; references to other stages are still to be filled in."""

    name: str
    """Its name in the recipe."""
    kind: str
    """Its key in `STAGES`."""
    values: dict[str, Any]
    """The settings given, as plain values."""
    sources: dict[str, str]
    """Dotted name of each setting given → where: in the recipe, or on the command line."""
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
        values = substitute(self.values, {name: str(path) for name, path in runs.items()})
        return STAGES[self.kind].settings.parse(values, where=self.where)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe with its inputs and overrides settled; stages in the order they run."""

    recipe: Recipe
    stages: tuple[PlannedStage, ...]
    inputs: dict[str, Any]
    """Every needed input's value; `${inputs.name}` where none was given (dry runs only)."""
    unused_inputs: tuple[str, ...]
    """Inputs that were given, but that no stage left to run reads."""


def plan_recipe(recipe: Recipe, request: Request) -> Plan:
    """Settle what was asked and check every setting and reference of every stage.

    Raises: SettingsError, or DataError for an input that is not there.
    """
    _refuse_unused_inputs(recipe)
    small = _miniature_of(recipe) if request.miniature else Miniature()
    sweeps = Sweeps.of(_merged_stages(recipe, small), recipe=recipe.name)
    stages = sweeps.stages
    overrides: dict[str, dict[str, Any]] = {}
    for override in request.overrides:
        given_name, change = _parse_override(override, {*sweeps.members, *stages})
        for name in sweeps.members.get(given_name, (given_name,)):
            overrides[name] = merge(overrides.get(name, {}), change)
    replaced = _parse_replacements(request.replacements, stages)
    needs = {
        name: {
            found
            for found in _references(merge(stage, overrides.get(name, {})), recipe, small)
            if found in stages
        }
        for name, stage in stages.items()
    }
    kept = without(needs, set(replaced)) if replaced else list(stages)
    needs = {name: needs[name] - set(replaced) for name in kept}
    read = {
        found.removeprefix("inputs.")
        for name in kept
        for found in references_in(merge(stages[name], overrides.get(name, {})))
        if found.startswith("inputs.")
    }
    inputs = _input_values(recipe, small, request, read)
    known = {f"inputs.{name}": value for name, value in inputs.items()} | replaced
    planned = [
        _plan_stage(
            recipe.name,
            name,
            stages[name],
            merge(request.every_stage or {}, overrides.get(name, {})),
            known,
            kept,
        )
        for name in in_order(needs)
    ]
    if not planned:
        raise SettingsError(f"recipe '{recipe.name}': no stage is left to run; give it one to run")
    given = (text.partition("=")[0] for text in request.inputs)
    return Plan(
        recipe=recipe,
        stages=tuple(planned),
        inputs=inputs,
        unused_inputs=tuple(dict.fromkeys(name for name in given if name not in read)),
    )


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


def _references(stage: Mapping[str, Any], recipe: Recipe, small: Miniature) -> set[str]:
    """Names a stage refers to, also through the miniature's inputs."""
    found = set(references_in(stage))
    for name in [name.removeprefix("inputs.") for name in found if name.startswith("inputs.")]:
        if name in recipe.inputs:
            found |= set(references_in(small.inputs.get(name)))
    return found


def _parse_override(text: str, stages: Collection[str]) -> tuple[str, dict[str, Any]]:
    form = "STAGE.FIELD=VALUE, such as ppo.seed=1"
    ((stage, change),) = read_change(text, option="--set", form=form).items()
    if "." not in text.partition("=")[0]:
        raise SettingsError(f"--set '{text}' is not {form}")
    _require_stage(f"--set '{text}'", stage, stages)
    return stage, change


def _parse_replacements(given: Sequence[str], stages: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        stage, equals, path = text.partition("=")
        if not equals or not path:
            raise SettingsError(f"--use '{text}' is not STAGE=PATH, such as base=runs/my-base")
        _require_stage(f"--use '{text}'", stage, stages)
        found[stage] = path
    return found


def _require_stage(where: str, stage: str, stages: Collection[str]) -> None:
    if stage not in stages:
        raise SettingsError(
            f"{where}: the recipe has no stage '{stage}'{did_you_mean(stage, stages)}; "
            f"it has: {', '.join(stages)}"
        )


def _input_values(
    recipe: Recipe, small: Miniature, request: Request, read: Collection[str]
) -> dict[str, Any]:
    """The value of every input that a stage left to run reads, and of those given."""
    values: dict[str, Any] = {
        name: item.default for name, item in recipe.inputs.items() if not item.required
    }
    for name in small.inputs:
        _require_input(recipe, name)
    values |= small.inputs | _parse_inputs(recipe, request.inputs)
    for name, item in recipe.inputs.items():
        if name not in values and name in read:
            if not request.dry_run:
                raise SettingsError(
                    f"recipe '{recipe.name}' needs '{name}' ({item.help}); give --input "
                    f"{name}=PATH, or --miniature to try the recipe on built-in data"
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
                expand_paths(parse_weighted_path(value).path)
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
    recipe: str,
    name: str,
    stage: Mapping[str, Any],
    from_line: Mapping[str, Any],
    known: Mapping[str, Any],
    stages: Sequence[str],
) -> PlannedStage:
    where = f"recipe '{recipe}', stage '{name}'"
    values = merge(stage, from_line)
    sources = sources_of(stage, "recipe") | sources_of(from_line, "command line")
    kind = str(values.pop("stage", None))
    if kind not in STAGES:
        hint = did_you_mean(kind, STAGES)
        raise SettingsError(f"{where}: unknown 'stage: {kind}'{hint}; known: {', '.join(STAGES)}")
    if name != kind:
        values = {"name": name} | values
    # Twice, because the miniature's inputs refer to stages, which --use may have replaced.
    values = substitute(substitute(values, known), known)
    for found in references_in(values):
        if found not in stages and found not in known:
            choices = [*stages, *known]
            raise SettingsError(
                f"{where}: '${{{found}}}' is neither a stage nor an input of this recipe"
                f"{did_you_mean(found, choices)}; known: {', '.join(choices)}"
            )
    settings = STAGES[kind].settings.parse(values, where=where)
    return PlannedStage(
        name=name, kind=kind, values=values, sources=sources, settings=settings, where=where
    )


def _refuse_unused_inputs(recipe: Recipe) -> None:
    used = set(references_in(recipe.stages))
    for name in recipe.inputs:
        if f"inputs.{name}" not in used:
            raise SettingsError(f"recipe '{recipe.name}': no stage uses its input '{name}'")
