"""A form for a group of settings: its fields from the class, its values from what is sent.

The docstring under a field is its help here as on the command line. An empty input is the setting's
default, or None where that is a value.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from fastapi import Request
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.datastructures import FormData

from hark.errors import SettingsError

Kind = Literal["text", "long", "number", "choice", "check", "pairs", "lines", "group"]
LONG: Final = frozenset({"instructions", "support"})
PANELS: Final = {
    "name": "The task",
    "round": "How much, and by whom",
    "pay_per_hour": "Pay",
    "categories": "Care for labelers",
    "screening": "Screening test",
    "snapshots": "Models that answer",
}
"""First setting of each part of a study's form → the part's title."""


async def form_of(request: Request) -> FormData:
    """All that a form holds, whatever its fields."""
    return await request.form()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """An input of a form."""

    name: str
    """In the form; of a nested setting with a dot."""
    label: str
    help: str
    kind: Kind
    value: Any
    required: bool
    optional: bool
    """Whether empty is None; of a group, whether it can be left out."""
    choices: tuple[str, ...] = ()
    step: str = ""
    minimum: float | None = None
    maximum: float | None = None
    fields: tuple[Field, ...] = ()
    """Of a group."""


def fields_of(
    settings: type[BaseModel], values: Mapping[str, Any], *, prefix: str = ""
) -> list[Field]:
    """The inputs for a class of settings; values: plain JSON, by name."""
    return [
        _field(name, info, values[name] if name in values else _default(info), prefix)
        for name, info in settings.model_fields.items()
    ]


def _field(name: str, info: FieldInfo, value: Any, prefix: str) -> Field:
    annotation, optional, metadata = _unwrapped(info.annotation)
    kind = _kind(name, annotation)
    limits = {type(one): one for one in [*info.metadata, *metadata]}
    low, above, high = limits.get(Ge), limits.get(Gt), limits.get(Le)
    nested: tuple[Field, ...] = ()
    if kind == "group":
        held = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        nested = tuple(fields_of(annotation, held or {}, prefix=f"{prefix}{name}."))
        value = held is not None
    return Field(
        name=f"{prefix}{name}",
        label=name.replace("_", " ").capitalize(),
        help=(info.description or "").replace("\n", " "),
        kind=kind,
        value=_written(kind, value),
        required=info.is_required(),
        optional=optional,
        choices=get_args(annotation) if kind == "choice" else (),
        step={int: "1", float: "any"}.get(annotation, ""),
        minimum=low.ge if low else above.gt if above else None,
        maximum=high.le if high else None,
        fields=nested,
    )


def _default(info: FieldInfo) -> Any:
    return None if info.is_required() else info.get_default(call_default_factory=True)


def _unwrapped(annotation: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """The type without None and Annotated, whether None was there, and what was annotated."""
    optional = False
    metadata: tuple[Any, ...] = ()
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [one for one in get_args(annotation) if one is not type(None)]
        optional = True
    if get_origin(annotation) is Annotated:
        annotation, *found = get_args(annotation)
        for one in found:
            metadata += tuple(one.metadata) if isinstance(one, FieldInfo) else (one,)
    return annotation, optional, metadata


def _kind(name: str, annotation: Any) -> Kind:
    origin = get_origin(annotation)
    if origin is Literal:
        return "choice"
    if origin is dict:
        return "pairs"
    if origin is tuple:
        return "lines"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "group"
    if annotation is bool:
        return "check"
    if annotation in (int, float):
        return "number"
    assert annotation is str, f"no input for '{name}' of type {annotation}"
    return "long" if name in LONG else "text"


def _written(kind: Kind, value: Any) -> Any:
    if value is None:
        return ""
    if kind == "pairs":
        return "\n".join(f"{name}: {text}" for name, text in value.items())
    if kind == "lines":
        return "\n".join(value)
    if kind == "number":
        return str(value) if isinstance(value, int) else f"{value:.15g}"
    return value


def read_form(fields: list[Field] | tuple[Field, ...], form: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values for the settings' class, which checks them. Raises: SettingsError."""
    values: dict[str, Any] = {}
    for field in fields:
        name = field.name.rpartition(".")[2]
        text = str(form.get(field.name, "")).replace("\r\n", "\n")
        if field.kind == "group":
            given = not field.optional or field.name in form
            values[name] = read_form(field.fields, form) if given else None
        elif field.kind == "check":
            values[name] = field.name in form
        elif field.kind == "pairs":
            values[name] = _pairs(text, field.label)
        elif field.kind == "lines":
            values[name] = tuple(line.strip() for line in text.splitlines() if line.strip())
        elif text.strip():
            values[name] = text
        elif field.optional:
            values[name] = None
    return values


def _pairs(text: str, label: str) -> dict[str, str]:
    pairs = {}
    for line in filter(str.strip, text.splitlines()):
        name, colon, value = line.partition(":")
        if not colon or not value.strip():
            raise SettingsError(f"{label}: write each line as 'name: text', not '{line.strip()}'")
        pairs[name.strip()] = value.strip()
    return pairs
