"""The stage `merge`: tranches of comparisons, weighted and capped, as one training set.

Bai et al. (2204.05862) train on all tranches together (base, rejection
sampling, online), and in the controlled experiment on equal numbers of each.

Departures
1. Part of every tranche is held out by a hash of the first request, so that a dialogue and its
   continuations, and the same request in two tranches or two rounds, are on the same side for ever.
2. A cap takes the comparisons with the lowest hash: what a smaller cap takes, a larger one takes
   too, and new labels displace few old ones.
3. A ranking is one comparison, of all its pairs. The paper has pairs alone: with `single_pairs`
   one is drawn of each ranking, so that equal numbers of comparisons are equal numbers of pairs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from hark.data.formats import read_comparisons, write_comparisons
from hark.data.records import Comparison
from hark.errors import DataError
from hark.loop.inputs import data_files, read_files
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.settings import Settings
from hark.training.examples import Paths


class Tranche(Settings):
    """Comparisons of one source, and how much they count."""

    data: Paths
    """Files of judged comparisons."""
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Multiplies the loss of each of its comparisons."""
    maximum: int | None = Field(default=None, ge=0)
    """Train on only so many of them; 0 leaves the tranche out but for what is held out."""


class MergeSettings(DataStageSettings):
    """Merge tranches of comparisons into one training set."""

    tranches: dict[str, Tranche]
    """Name of each tranche to its files, weight and cap."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the requests whose comparisons are held out of every tranche."""
    single_pairs: bool = False
    """Train on one pair of each ranking, drawn by lot; what is held out stays whole."""

    @field_validator("tranches")
    @classmethod
    def _names_fit(cls, tranches: dict[str, Tranche]) -> dict[str, Tranche]:
        if not tranches:
            raise ValueError("no tranche is named")
        if odd := [name for name in tranches if not re.fullmatch(r"[\w.-]+", name)]:
            raise ValueError(f"'{odd[0]}' names a file: use letters, digits, '-', '.', '_'")
        return tranches


def merge_inputs(settings: MergeSettings) -> list[Path]:
    """The files of all tranches."""
    given = [str(path) for tranche in settings.tranches.values() for path in tranche.data]
    return list(dict.fromkeys(path for each in given for path in data_files(each)))


def run_merge(settings: MergeSettings, run: Run) -> dict[str, Any]:
    """Write `data/comparisons.jsonl` and `data/TRANCHE-heldout.jsonl` for each tranche.

    Comparisons in which all responses are tied teach nothing; they are left out and counted.
    Raises: DataError if nothing is left to train on.
    """
    training: list[Comparison] = []
    told: list[dict[str, Any]] = []
    for name, tranche in settings.tranches.items():
        read = read_files(read_comparisons, tranche.data, settings, run)
        ordered = [one for one in read if any(one.ordered_pairs())]
        held_out, rest = split_by_request(ordered, settings.held_out, seed=settings.seed)
        kept = capped(rest, tranche.maximum, seed=settings.seed)
        if settings.single_pairs:
            kept = [single_pair(one, seed=settings.seed) for one in kept]
        training += [
            dataclasses.replace(one, weight=one.weight * tranche.weight, source=name)
            for one in kept
        ]
        if held_out:
            write_comparisons(run.data_path(f"{name}-heldout.jsonl"), held_out)
        told.append(
            {
                "tranche": name,
                "comparisons": len(read),
                "all_tied": len(read) - len(ordered),
                "held_out": len(held_out),
                "beyond_cap": len(rest) - len(kept),
                "training": len(kept),
                "weight": tranche.weight,
            }
        )
    if not training:
        raise DataError(
            f"tranches {', '.join(settings.tranches)} leave no comparison to train on: raise their "
            "caps, or lower held_out"
        )
    write_comparisons(run.data_path("comparisons.jsonl"), training)
    pairs = sum(1 for one in training for _ in one.ordered_pairs())
    return {"training": len(training), "pairs": pairs, "tranches": told}


def split_by_request(
    comparisons: Sequence[Comparison], share: float, *, seed: int
) -> tuple[list[Comparison], list[Comparison]]:
    """Held out and kept: all that begins with the same request is on the same side."""
    held_out: list[Comparison] = []
    kept: list[Comparison] = []
    for one in comparisons:
        request = next(turn.content for turn in one.prompt if turn.role == "user")
        side = held_out if _draw(seed, "held out", request) < share else kept
        side.append(one)
    return held_out, kept


def capped(
    comparisons: Sequence[Comparison], maximum: int | None, *, seed: int
) -> list[Comparison]:
    """At most `maximum` of them, chosen by lot, in their order."""
    if maximum is None or len(comparisons) <= maximum:
        return list(comparisons)
    draws = [_draw(seed, "cap", one.id, one.prompt, one.responses) for one in comparisons]
    chosen = set(sorted(range(len(draws)), key=lambda place: draws[place])[:maximum])
    return [one for place, one in enumerate(comparisons) if place in chosen]


def single_pair(comparison: Comparison, *, seed: int) -> Comparison:
    """One pair of a ranking that is not a tie, chosen by lot. Requires that there is one."""
    if len(comparison.responses) == 2:
        return comparison
    pairs = list(comparison.ordered_pairs())
    lot = _draw(seed, "pair", comparison.id, comparison.prompt, comparison.responses)
    better, worse = pairs[int(lot * len(pairs))]
    models = comparison.models
    return dataclasses.replace(
        comparison,
        responses=(comparison.responses[better], comparison.responses[worse]),
        ranks=(1, 2),
        models=None if models is None else (models[better], models[worse]),
    )


def _draw(*what: object) -> float:
    """A number in [0, 1) that is a function of its arguments."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56
