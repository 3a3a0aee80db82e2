"""Which comparisons a preference model learns from: shares and weights of files, and labelers.

Bai et al. (2204.05862): helpful and harmless comparisons in any proportion at a fixed
total, or L = L_helpful + λ·L_harmless; InstructGPT (2203.02155), section 5: leave a group of
labelers out and test on it. Departures:

1. The mean over a batch is divided by its weights, so λ does not also raise the learning rate.
2. A smaller total is part of a larger one with the same seed, so that curves over amounts of data
   differ by what was added.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from hark.data.formats import read_comparisons
from hark.data.mixing import permutation, share_counts
from hark.data.records import Comparison
from hark.data.splits import labeler_groups
from hark.errors import DataError, SettingsError
from hark.runs.progress import is_first_process
from hark.training.examples import Located, RecordReader
from hark.training.preference_settings import PreferenceSettings

DRAW_STREAM = 1_000_000
"""First of the random streams that choose comparisons, beyond those of the epochs' orders."""

Files = list[list[Located[Comparison]]]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingComparisons:
    """What a run learns from."""

    comparisons: list[Located[Comparison]]
    by_file: dict[str, int]
    """How many of each file, by its path."""
    held_out_labelers: frozenset[str]
    """From whom nothing is learned."""


def read_training_comparisons(
    settings: PreferenceSettings, reader: RecordReader
) -> TrainingComparisons:
    """Read the files and take what the settings ask for.

    Raises: SettingsError for a fold without labelers, DataError if a file has too few comparisons.
    """
    files = [reader.read(read_comparisons, [path]) for path in settings.data]
    if (warning := warning_of_repeats(files)) and is_first_process():
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    left_out: frozenset[str] = frozenset()
    if settings.held_out_fold is not None:
        left_out = held_out_labelers(settings, [item.record for file in files for item in file])
        files = [[item for item in file if item.record.labeler not in left_out] for file in files]
    files = _drawn(files, settings)
    if settings.loss_weights:
        files = [
            [_weighted(item, weight) for item in file]
            for file, weight in zip(files, settings.loss_weights, strict=True)
        ]
    return TrainingComparisons(
        comparisons=[item for file in files for item in file],
        by_file={str(path): len(file) for path, file in zip(settings.data, files, strict=True)},
        held_out_labelers=left_out,
    )


def warning_of_repeats(files: Files) -> str | None:
    """A sentence if a judgement, told by its id, stands in the data more than once.

    Two exports of one study do that: the later one holds the earlier labels too.
    """
    first: dict[tuple[object, ...], str] = {}
    repeats: list[tuple[str, str]] = []
    for item in (item for file in files for item in file if item.record.id is not None):
        key = (item.record.id, item.record.prompt, item.record.responses, item.record.labeler)
        if key in first:
            repeats.append((item.where, first[key]))
        else:
            first[key] = item.where
    if not repeats:
        return None
    again, before = repeats[0]
    return (
        f"{len(repeats)} comparisons are in the data more than once and count as often, such as "
        f"{again}, which is {before}; if these are exports of one study, name the newest alone"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What a run is measured on."""

    comparisons: list[Located[Comparison]]
    files: list[str]
    """The path of each one's file."""


def read_held_out(settings: PreferenceSettings, reader: RecordReader) -> HeldOut:
    """The comparisons of evaluation_data, or as many of each file as are asked for."""
    found: list[tuple[Located[Comparison], str]] = []
    for path in settings.evaluation_data:
        read = reader.read(read_comparisons, [path])
        count = min(settings.evaluation_comparisons or len(read), len(read))
        drawn = permutation(len(read), seed=0, stream=DRAW_STREAM)[:count]
        found += [(read[int(place)], str(path)) for place in sorted(drawn)]
    return HeldOut(comparisons=[each for each, _ in found], files=[file for _, file in found])


def held_out_labelers(
    settings: PreferenceSettings, comparisons: Sequence[Comparison]
) -> frozenset[str]:
    """The labelers of the fold to leave out.

    Raises: SettingsError if there are fewer labelers than folds, or comparisons without a labeler.
    """
    folds, fold = settings.labeler_folds, settings.held_out_fold
    assert folds is not None
    names = [comparison.labeler for comparison in comparisons]
    if None in names:
        raise SettingsError(
            f"{names.count(None)} of {len(names)} comparisons do not say who judged them: without "
            "labelers none can be held out; leave labeler_folds away"
        )
    groups = labeler_groups([name for name in names if name is not None], folds)
    return frozenset(name for name, group in groups.items() if group == fold)


def _drawn(files: Files, settings: PreferenceSettings) -> Files:
    """At most `comparisons` of them, by shares or from all together."""
    total = settings.comparisons
    if total is None:
        return files
    if settings.shares:
        counts = share_counts(total, settings.shares, parts=len(files))
        return [
            _first_of_permutation(file, count, settings.seed, number, str(path))
            for number, (file, count, path) in enumerate(
                zip(files, counts, settings.data, strict=True)
            )
        ]
    everything = [(number, item) for number, file in enumerate(files) for item in file]
    chosen = _first_of_permutation(
        everything, total, settings.seed, 0, ", ".join(map(str, settings.data))
    )
    return [[item for number, item in chosen if number == place] for place in range(len(files))]


def _first_of_permutation(
    items: Sequence[Item], count: int, seed: int, stream: int, where: str
) -> list[Item]:
    if count > len(items):
        raise DataError(
            f"{count} comparisons are asked of '{where}', which has {len(items)}: lower "
            "comparisons or its share"
        )
    order = permutation(len(items), seed=seed, stream=DRAW_STREAM + stream)
    return [items[int(place)] for place in order[:count]]


def _weighted(item: Located[Comparison], weight: float) -> Located[Comparison]:
    record = dataclasses.replace(item.record, weight=item.record.weight * weight)
    return dataclasses.replace(item, record=record)
