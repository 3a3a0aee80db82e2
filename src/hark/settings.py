"""The base of every configuration: frozen, typed, and closed to unknown names.

A settings class lives beside the code that reads it. The docstring under a field is its help on the
command line. Derived values are properties, never fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from hark.errors import SettingsError, did_you_mean

QUOTED = re.compile(r"'([^']*)'")
"""The choices in pydantic's messages."""


def as_list(value: object) -> object:
    """One path stands for a list of one; null for none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | Path) else value


Paths = Annotated[tuple[Path, ...], BeforeValidator(as_list)]
"""A path, several, or none."""


class Settings(BaseModel):
    """A frozen group of settings; unknown names are refused with the closest known one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )

    help_panels: ClassVar[dict[str, str]] = {}
    """First field of each panel of the help → the panel's title; one panel without."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, values: Any) -> Any:
        if isinstance(values, dict) and (said := unknown_name(cls, values)) is not None:
            raise ValueError(
                f"unknown setting '{said}'{did_you_mean(said, cls.model_fields)}; "
                f"{cls.__name__} has: {', '.join(sorted(cls.model_fields))}"
            )
        return values

    @classmethod
    def parse(cls, values: dict[str, Any], *, where: str = "") -> Self:
        """Build from plain values.

        `where` names their origin (a file, a recipe stage) in the error.
        Raises: SettingsError with one line for each offending setting.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(describe_validation_error(error, where=where)) from None

    def given(self) -> dict[str, Any]:
        """The values that were given explicitly, as plain JSON types."""
        return self.model_dump(mode="json", exclude_unset=True)


def unknown_name(model: type[BaseModel], values: Mapping[Any, Any]) -> str | None:
    """The first name that the model does not have; None if it has them all."""
    for name in values:
        if name not in model.model_fields:
            # JSON can hold half a surrogate pair, which no message can.
            return str(name).encode("utf-8", "replace").decode()
    return None


def sources_of(values: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, str]:
    """Dotted name of every leaf of `values` → where it was given."""
    found: dict[str, str] = {}
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found |= sources_of(value, source, f"{path}.")
        found[path] = source
    return found


def describe_validation_error(error: ValidationError, *, where: str = "") -> str:
    """Say each problem of a pydantic error in one readable clause."""
    clauses = []
    for problem in error.errors(include_url=False):
        name = ".".join(str(part) for part in problem["loc"])
        reason = reason_of(problem)
        if not name:
            clauses.append(reason)
        elif problem["type"] == "missing":
            clauses.append(f"'{name}' is required")
        elif isinstance(problem["input"], Mapping):  # The reason names what is wrong in it.
            clauses.append(f"'{name}': {reason}")
        else:
            clauses.append(f"'{name}': {reason} (got {problem['input']!r})")
    prefix = f"{where}: " if where else ""
    return prefix + "; ".join(clauses)


def reason_of(problem: Mapping[str, Any]) -> str:
    """One of pydantic's findings in words, with the closest choice where there are some."""
    kind, told = problem["type"], problem.get("ctx", {})
    if kind == "union_tag_not_found":
        return f"{told['discriminator']} is required: it says which kind this is"
    if kind == "union_tag_invalid":
        choices = QUOTED.findall(told["expected_tags"])
        tag = told["tag"]
        return f"unknown kind '{tag}'{did_you_mean(tag, choices)}; expected: {', '.join(choices)}"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if kind == "literal_error" and isinstance(problem["input"], str):
        reason += did_you_mean(problem["input"], QUOTED.findall(told["expected"]))
    return reason


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises: SettingsError if the file is missing, is not YAML, or is not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read settings file '{path}': {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"settings file '{path}' is not valid YAML: {reason}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"settings file '{path}' holds a {type(values).__name__}; expected 'name: value' lines"
        )
    return values
