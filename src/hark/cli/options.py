"""Settings as command-line options: one option for each field, its docstring as the help.

Only what is given on the command line or in `--config` reaches the settings class, so that a value
which would be ignored can be told from a default.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import yaml
from cyclopts import Group, Parameter, Token
from pydantic.fields import FieldInfo

from hark.errors import SettingsError
from hark.runs.settings import StageSettings
from hark.settings import Settings, read_settings_file

SCALARS = (bool, int, float, str, Path)

Config = Annotated[
    Path | None,
    Parameter(
        name="--config",
        help="YAML file with settings, or the config.json of an earlier run; "
        "options given here win over it.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    Parameter(
        name="--dry-run",
        help="Print the effective settings and the plan as a YAML file, and stop.",
        negative=(),
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    Parameter(
        name="--json",
        help="End with one line of JSON on stdout: the results, the run directory, the status.",
        negative=(),
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str],
    Parameter(
        name="--set",
        help="Change one setting, as ppo.kl_coefficient=0.1 for a stage of a recipe or "
        "collect.items=200 for a loop; may be repeated.",
        negative=(),
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One field of a settings class, seen from the command line."""

    path: tuple[str, ...]
    """Field names from the outermost settings class inwards."""
    field: FieldInfo
    default: Any
    """What the settings class would fill in; None where the field is required."""
    group: Group

    @property
    def key(self) -> str:
        """A Python name that cannot clash: `optimizer__learning_rate`."""
        return "__".join(self.path)

    @property
    def flag(self) -> str:
        return "--" + ".".join(part.replace("_", "-") for part in self.path)

    @property
    def annotation(self) -> Any:
        """The type and everything else that cyclopts needs to know."""
        accepted, extra = _accepted(self.field.annotation)
        required = self.field.is_required()
        parameter = Parameter(
            name=self.flag,
            help=" ".join((self.field.description or "").split())
            + (" [required]" if required and len(self.path) == 1 else ""),
            group=self.group,
            show_default=False if required else _default_text(self.default) or False,
            allow_leading_hyphen=accepted in {int, float, int | None, float | None},
            **extra,
        )
        return Annotated[accepted | None if required else accepted, parameter]


def options_of(settings: type[Settings], *, title: str) -> list[Option]:
    """Every field of a settings class and of the settings nested in it, grouped for the help."""
    groups = _panels(settings, title)
    fields = sorted(settings.model_fields.items(), key=lambda item: not item[1].is_required())
    options: list[Option] = []
    for name, field in fields:
        options.extend(_options_below((name,), field, _default_of(field), groups[name]))
    return options


def _panels(settings: type[Settings], title: str) -> dict[str, Group]:
    """Name of each field → the panel of the help it is shown in."""
    own = Group(title, sort_key=1)
    run = Group("Where and how to run", sort_key=80)
    shared = StageSettings.model_fields if issubclass(settings, StageSettings) else {}
    groups: dict[str, Group] = {}
    current = own
    for name in settings.model_fields:
        if name in settings.help_panels:
            # Panels of nested settings come after these: see `_options_below`.
            current = Group(settings.help_panels[name], sort_key=1 + len(groups) / 1000)
        groups[name] = run if name in shared else current
    return groups


def nested_settings(annotation: Any) -> type[Settings] | None:
    """The settings class that a field holds, if it holds one (or one or none)."""
    members = [member for member in _members(annotation) if member is not type(None)]
    only = members[0] if len(members) == 1 else None
    return only if isinstance(only, type) and issubclass(only, Settings) else None


def unflatten(given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"optimizer__beta1": 0.9}` → `{"optimizer": {"beta1": 0.9}}`."""
    nested: dict[str, Any] = {}
    for key, value in given.items():
        *outer, last = key.split("__")
        below = nested
        for part in outer:
            below = below.setdefault(part, {})
        below[last] = value
    return nested


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a YAML file; of a run's `config.json`, those that were given.

    Raises: SettingsError if it cannot be read.
    """
    values = read_settings_file(path)
    if set(values) == {"effective", "given"}:
        return dict(values["given"])
    return values


def given_and_default_lines(
    settings: Settings, *, sources: Mapping[str, str], prefix: tuple[str, ...] = ()
) -> Iterator[str]:
    """The effective settings as YAML; defaults are commented out, the others say their source."""
    indent = "  " * len(prefix)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        path = (*prefix, name)
        if isinstance(value, Settings):
            lines = list(given_and_default_lines(value, sources=sources, prefix=path))
            given = any(not line.startswith("#") for line in lines)
            yield f"{'' if given else '# '}{indent}{name}:"
            yield from lines
            continue
        text = f"{indent}{name}: {_yaml(settings.model_dump(mode='json', include={name})[name])}"
        source = _source_of(path, sources)
        yield f"{text}  # {source}" if source else f"# {text}"


def _source_of(path: tuple[str, ...], sources: Mapping[str, str]) -> str | None:
    return sources.get(".".join(path))


def _options_below(
    path: tuple[str, ...], field: FieldInfo, default: Any, group: Group
) -> Iterator[Option]:
    nested = nested_settings(field.annotation)
    if nested is None:
        plain = list(default) if isinstance(default, tuple) else default
        yield Option(path=path, field=field, default=plain, group=group)
        return
    about = " ".join((field.description or nested.__doc__ or "").split())
    if default is None:
        about += " Off unless one of these is given."
    dotted = ".".join(path)
    title = f"{dotted.replace('_', ' ').capitalize()} (--{dotted.replace('_', '-')}.…)"
    inner = Group(title, help=about, sort_key=2)
    for name, below in nested.model_fields.items():
        value = getattr(default, name) if isinstance(default, nested) else _default_of(below)
        yield from _options_below((*path, name), below, value, inner)


def _default_of(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _default_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | dict | set | frozenset):
        return " ".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union; a type alone otherwise."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return typing.get_args(annotation)
    return (annotation,)


def _accepted(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """The type cyclopts is to read, and what else to tell it; anything unusual is read as YAML."""
    members = [member for member in _members(annotation) if member is not type(None)]
    optional = len(members) < len(_members(annotation))
    if len(members) == 1:
        kind, origin = members[0], typing.get_origin(members[0])
        arguments = typing.get_args(kind)
        if kind in SCALARS or origin is Literal:
            return (kind | None if optional else kind), {"negative": None if kind is bool else ()}
        if origin in {list, tuple} and _is_plain_sequence(arguments):
            return list[arguments[0]], {"consume_multiple": True, "negative": ()}  # type: ignore[valid-type]
        if origin is dict and arguments[0] is str and arguments[1] in SCALARS:
            return kind, {"negative": (), "metavar": "KEY VALUE"}
    return Any, {
        "converter": _read_yaml, "negative": (), "metavar": "YAML", "n_tokens": 1,
        "accepts_keys": False,
    }  # fmt: skip


def _is_plain_sequence(arguments: tuple[Any, ...]) -> bool:
    of_one_type = len(arguments) == 1 or (len(arguments) == 2 and arguments[1] is Ellipsis)
    return of_one_type and (arguments[0] in SCALARS or typing.get_origin(arguments[0]) is Literal)


def _read_yaml(_type: Any, tokens: Any) -> Any:
    token: Token = tokens[0]
    try:
        return yaml.safe_load(token.value)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"{token.keyword} '{token.value}' is not valid YAML: {reason}"
        ) from None


def _yaml(value: Any) -> str:
    """One value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
