"""Sweeps: one stage of a recipe for each combination of some values.

A stage with `for_each: {seed: [0, 1], share: [0.0, 0.5]}` stands for four stages, and
`${each.seed}` in its settings for the value of each. Another stage that reads it gets the run
directories that agree with its own values wherever both sweep over a name: one where that settles
it, a list of them where it does not, all of them where it sweeps over nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hark.errors import SettingsError
from hark.loop.references import references_in, substitute

FOR_EACH = "for_each"

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """The stages of a recipe with every sweep laid out."""

    stages: dict[str, dict[str, Any]]
    """Every single stage by its name, references between stages settled."""
    members: dict[str, tuple[str, ...]]
    """Name in the recipe → names of the single stages it stands for; one's own without a sweep."""

    @classmethod
    def of(cls, stages: Mapping[str, Mapping[str, Any]], *, recipe: str) -> Self:
        """Lay out a recipe's stages. Raises: SettingsError for a sweep that is not well formed."""
        points = {
            name: _points(stage.get(FOR_EACH), where=f"recipe '{recipe}', stage '{name}'")
            for name, stage in stages.items()
        }
        members = {
            name: {_member_name(name, point): point for point in its_points}
            for name, its_points in points.items()
        }
        single: dict[str, dict[str, Any]] = {}
        for name, stage in stages.items():
            for member, point in members[name].items():
                if member in single or (member != name and member in stages):
                    raise SettingsError(
                        f"recipe '{recipe}': the sweep of stage '{name}' makes '{member}', a name "
                        "that is taken; rename a stage or change the values"
                    )
                single[member] = _one(stage, point, members)
        return cls(stages=single, members={name: tuple(each) for name, each in members.items()})


def _points(for_each: Any, *, where: str) -> list[dict[str, Scalar]]:
    """Every combination, the last name changing fastest; one empty combination without a sweep."""
    if for_each is None:
        return [{}]
    fits = isinstance(for_each, Mapping) and for_each and all(
        isinstance(values, list) and values and all(isinstance(each, Scalar) for each in values)
        for values in for_each.values()
    )  # fmt: skip
    if not fits:
        raise SettingsError(
            f"{where}: for_each is {for_each}; it must name lists of numbers or words, such as "
            "{seed: [0, 1, 2]}"
        )
    return [
        dict(zip(for_each, values, strict=True)) for values in itertools.product(*for_each.values())
    ]


def _member_name(stage: str, point: Mapping[str, Scalar]) -> str:
    """`stage-seed0-share0.5`; what may not stand in a run directory's name becomes `_`."""
    parts = [re.sub(r"[^\w.]", "_", f"{name}{value}") for name, value in point.items()]
    return "-".join([stage, *parts])


def _one(
    stage: Mapping[str, Any],
    point: Mapping[str, Scalar],
    members: Mapping[str, Mapping[str, Mapping[str, Scalar]]],
) -> dict[str, Any]:
    """The settings of one single stage."""
    values = {key: value for key, value in stage.items() if key != FOR_EACH}
    known: dict[str, Any] = {f"each.{name}": value for name, value in point.items()}
    for name in set(references_in(values)) & set(members):
        agreeing = [
            member
            for member, theirs in members[name].items()
            if all(theirs[key] == point[key] for key in theirs.keys() & point.keys())
        ]
        if agreeing != [name]:
            references = [f"${{{member}}}" for member in agreeing]
            known[name] = references[0] if len(references) == 1 else references
    filled: dict[str, Any] = substitute(values, known)
    return filled
