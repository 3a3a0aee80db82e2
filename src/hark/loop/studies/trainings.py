"""Runs of `hark preference` as a study reads them: what was asked for and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.axes import Axes

from hark.errors import DataError
from hark.evaluation.intervals import Estimate
from hark.evaluation.preference_accuracy import PreferenceAccuracy
from hark.loop.studies.seeds import mean_over_seeds
from hark.report.drawing import DASHES, MARKERS, QUIET, canvas, colour, save
from hark.report.run_record import RunRecord

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One trained preference model."""

    settings: dict[str, Any]
    """Every effective setting, by name."""
    seed: int
    parameters: int
    comparisons: int
    """That it learned from."""
    measured: PreferenceAccuracy
    """On its held-out comparisons."""
    accuracies: tuple[float, ...]
    """By file of evaluation data, in the order of the settings."""
    source: str
    """`playground`, or the names of the files it learned from."""
    start: RunRecord | None
    """The run that made the model it started from, if one of ours did."""

    @property
    def accuracy(self) -> float:
        """Over all held-out comparisons."""
        assert self.measured.estimate.value is not None
        return self.measured.estimate.value

    @property
    def first_share(self) -> float | None:
        """The share of the first file of data, where shares were set."""
        shares = self.settings["shares"]
        return float(shares[0]) if shares else None


def trainings(runs: Sequence[RunRecord]) -> list[Training]:
    """The preference models among the runs of a study, in order.

    Raises: DataError if there is none, or one was measured on nothing.
    """
    found = [_training(run) for run in runs if run.manifest.stage == "preference"]
    if not found:
        raise DataError(
            f"none of the {len(runs)} runs is of hark preference; name the study's trainings"
        )
    return found


def _training(run: RunRecord) -> Training:
    settings = run.settings
    if "details" not in run.results:
        raise DataError(f"the run '{run.path}' was measured on nothing; train with evaluation_data")
    measured = PreferenceAccuracy.from_json(run.results["details"])
    return Training(
        settings=settings,
        seed=int(settings["seed"]),
        parameters=int(run.results["parameters"]),
        # A record too long for the model is dropped: with it, seeds have the same amount.
        comparisons=int(run.results["comparisons"]) + int(run.results["records_dropped"]),
        measured=measured,
        accuracies=tuple(
            measured.by_file[path].value or 0.0 for path in settings["evaluation_data"]
        ),
        source=source_of(settings["data"]),
        start=run.made(str(settings["model"])),
    )


def source_of(paths: Sequence[str]) -> str:
    """`playground`, or the names of the files."""
    if all("playground" in path for path in paths):
        return "playground"
    return ", ".join(dict.fromkeys(Path(path).name for path in paths))


def grouped(
    members: Iterable[Training], key: Callable[[Training], Key]
) -> dict[Key, list[Training]]:
    """Trainings that share a value of `key`, in the order in which the values come."""
    groups: dict[Key, list[Training]] = {}
    for member in members:
        groups.setdefault(key(member), []).append(member)
    return groups


def over_seeds(members: Iterable[Training], value: Callable[[Training], float]) -> Estimate:
    """Mean of a number over trainings that differ in their seed alone."""
    return mean_over_seeds([value(member) for member in members])


def differences(
    left: Iterable[Training],
    right: Iterable[Training],
    value: Callable[[Training], float] = lambda training: training.accuracy,
) -> dict[int, float]:
    """Left less right by seed, of those that both have."""
    of_right = {member.seed: value(member) for member in right}
    return {each.seed: value(each) - of_right[each.seed] for each in left if each.seed in of_right}


def described(members: Sequence[Training]) -> str:
    """Sizes, amounts and seeds in words."""
    sizes = sorted({member.parameters for member in members})
    amounts = sorted({member.comparisons for member in members})
    seeds = len({member.seed for member in members})
    return (
        f"{_span(sizes)} parameters, {_span(amounts)} comparisons, {seeds} seeds, whose base "
        "and SFT models are one of each size; intervals are Student's t over seeds"
    )


def _span(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A named curve of estimates."""

    label: str
    x: Sequence[float]
    y: Sequence[Estimate]


def draw(
    path: Path,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    levels: Sequence[tuple[str, float]] = (),
    logarithmic: bool = False,
) -> str:
    """Draw estimates with their intervals over x, and named levels; returns the file's name."""
    with canvas() as drawing:
        axes = drawing.add_subplot()
        plot(axes, lines, levels=levels)
        if logarithmic:
            amounts = sorted({x for line in lines for x in line.x})
            name_places(axes, {x: f"{x:,}" for x in amounts})
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.legend(loc="best")
        save(drawing, path)
    return path.name


def name_places(axes: Axes, names: Mapping[float, str]) -> None:
    """A logarithmic x axis on which these places alone are named."""
    axes.set_xscale("log")
    axes.set_xticks([*names], [*names.values()])
    axes.minorticks_off()


def plot(axes: Axes, lines: Sequence[Line], *, levels: Sequence[tuple[str, float]] = ()) -> None:
    """Estimates with their intervals over x, and named levels."""
    for number, line in enumerate(lines):
        values = [estimate.value or 0.0 for estimate in line.y]
        lows = [value - (each.low if each.low is not None else value)
                for value, each in zip(values, line.y, strict=True)]  # fmt: skip
        highs = [(each.high if each.high is not None else value) - value
                 for value, each in zip(values, line.y, strict=True)]  # fmt: skip
        axes.errorbar(
            line.x, values, yerr=[lows, highs], label=line.label, color=colour(number),
            marker=MARKERS[number % len(MARKERS)], linestyle=DASHES[number % len(DASHES)],
            capsize=3,
        )  # fmt: skip
    for name, level in levels:
        axes.axhline(level, color=QUIET, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.annotate(name, (0.01, level), xycoords=("axes fraction", "data"), va="bottom",
                      color=QUIET)  # fmt: skip
