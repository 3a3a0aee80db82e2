"""Recipes: a paper's pipeline as one file that names stages and their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hark.errors import SettingsError, did_you_mean
from hark.settings import Settings, read_settings_file

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that come with hark."""


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
    """Settings laid over those of the recipe's stages, and stages that the recipe does not have."""


class Recipe(Settings):
    """A recipe file."""

    name: str
    """Names the recipe in messages and in its report."""
    description: str = ""
    """What it does and which paper it follows."""
    inputs: dict[str, RecipeInput] = Field(default_factory=dict)
    """What the person brings, by the name used in `${inputs.name}`."""
    stages: dict[str, dict[str, Any]]
    """Name in this recipe → `stage:`, its kind, and that kind's settings; with `for_each:`, a sweep
    (`hark.loop.sweeps`)."""
    miniature: Miniature | None = None
    """What to change so that the whole recipe runs in seconds."""


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
