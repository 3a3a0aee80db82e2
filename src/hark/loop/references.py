"""References between the stages of a recipe, and the order they impose.

`${base}` is the run directory of the stage named `base`, `${world}/data/texts.jsonl` a file in it,
`${inputs.demonstrations}` what the person gave with `--input demonstrations=PATH`, and
`${each.seed}` a value of the stage's own sweep (`hark.loop.sweeps`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from hark.errors import SettingsError

REFERENCE = re.compile(r"\$\{([^}]*)\}")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested mapping over another; lists and plain values are replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


def read_change(text: str, *, option: str, form: str) -> dict[str, Any]:
    """A change of a setting as typed, `a.b=1` with the value in YAML → `{"a": {"b": 1}}`.

    option: what it was given by. form: what a change looks like there. Both are for messages.
    Raises: SettingsError.
    """
    path, equals, value = text.partition("=")
    fields = path.strip().split(".")
    if not equals or not all(fields):
        raise SettingsError(f"{option} '{text}' is not {form}")
    try:
        change: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{option} '{text}': the value is not valid YAML: {reason}") from None
    for field in reversed(fields):
        change = {field: change}
    assert isinstance(change, dict), "a path has at least one field"
    return change


def references_in(value: Any) -> Iterator[str]:
    """Every name in a `${…}` of a nested value."""
    if isinstance(value, str):
        yield from REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from references_in(item)


def substitute(value: Any, known: Mapping[str, Any]) -> Any:
    """Fill in references.

    A list given for a whole item of a list is laid out in its place, and null leaves the item out;
    names that are not `known` stay as they are. Raises: SettingsError if something else than one
    path would have to stand inside a path.
    """
    if isinstance(value, Mapping):
        return {key: substitute(item, known) for key, item in value.items()}
    if isinstance(value, list):
        return [part for item in value for part in _parts(item, known)]
    if not isinstance(value, str):
        return value
    whole = REFERENCE.fullmatch(value)
    if whole and whole[1] in known:
        return known[whole[1]]
    return REFERENCE.sub(lambda found: _text_of(found, known), value)


def in_order(needs: Mapping[str, set[str]]) -> list[str]:
    """Names sorted so that each comes after what it needs; otherwise as they stand.

    Raises: SettingsError if some need each other in a circle.
    """
    ordered: list[str] = []
    while len(ordered) < len(needs):
        ready = [name for name in needs if name not in ordered and needs[name] <= set(ordered)]
        if not ready:
            left = [name for name in needs if name not in ordered]
            raise SettingsError(f"stages {', '.join(left)} need each other in a circle")
        ordered.append(ready[0])
    return ordered


def without(needs: Mapping[str, set[str]], replaced: set[str]) -> list[str]:
    """Names left when some are replaced from outside, and with them what only they needed."""
    left = {name: set(needed) for name, needed in needs.items() if name not in replaced}
    once_needed = set().union(*needs.values())
    while True:
        still_needed = set().union(*left.values())
        idle = [name for name in left if name in once_needed and name not in still_needed]
        if not idle:
            return list(left)
        for name in idle:
            del left[name]


def _parts(item: Any, known: Mapping[str, Any]) -> list[Any]:
    filled = substitute(item, known)
    if not isinstance(item, str):
        return [filled]
    return [] if filled is None else filled if isinstance(filled, list) else [filled]


def _text_of(found: re.Match[str], known: Mapping[str, Any]) -> str:
    value = known.get(found[1], found[0])
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise SettingsError(f"'{found[0]}' stands inside a path and must be one path, not {value}")
    return value
