"""Imitation, binary discrimination and ranked preference modelling beside each other, over sizes.

Askell et al. (2112.00861). Runs of `hark preference` on pairs of a ranked task and of a binary one,
or of a ranked one alone, and of `hark evaluate` that measure, on the same held-out pairs, language
models trained on the better replies alone. A task is the binary one if its file's name begins with
`binary`. Several sizes may be among the runs: what was trained from one model belongs together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import linear_regression

from hark.errors import DataError
from hark.evaluation.intervals import Estimate
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.sizes import slope_in_size
from hark.loop.studies.trainings import Line, Training, described, name_places, plot, trainings
from hark.report.drawing import canvas, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

PAPER = "Askell et al., 2112.00861, alignment objectives"
MUCH = 0.1
"""A lead in accuracy that counts as much better, on the ranked task."""
ALIKE = 0.05
"""A difference within this counts as none, on the binary task."""
MEASURES = {
    "accuracy": "sum", "accuracy_per_token": "mean",
    "accuracy_mutual_information": "mutual information",
}  # fmt: skip
"""Results of an evaluation by likelihood → what they are called."""
TASKS = ("ranked", "binary")


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One task by both ways of learning it, at one size."""

    modelled: list[Training]
    imitated: dict[int, dict[str, float]]
    """By seed: accuracy by each measure of likelihood."""

    @property
    def best_imitated(self) -> dict[int, float]:
        """By seed: accuracy of imitation by its best measure."""
        return {seed: max(found.values()) for seed, found in self.imitated.items()}

    def compared(self) -> list[Training]:
        """The preference models that have an imitation of their seed."""
        return [each for each in self.modelled if each.seed in self.imitated]

    def gaps(self) -> dict[int, float]:
        """Preference model less the best measure of imitation, by seed."""
        imitated = self.best_imitated
        return {each.seed: each.accuracy - imitated[each.seed] for each in self.compared()}


Size = dict[str, Task]
"""The tasks at one size, by name."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """The lead of preference models over imitation on the ranked and on the binary task.

    The first effects are of the size whose runs are named first, the others of how sizes differ.
    Raises: DataError if a task lacks one of the two at some size, or an evaluation belongs to none.
    """
    runs_of = _by_size(runs)
    present = TASKS if any(map(_is_binary, runs)) else TASKS[:1]
    by_size = {
        parameters: {name: _task(of_size, binary=name == "binary") for name in present}
        for parameters, of_size in runs_of.items()
    }
    figure = _figure(dict(sorted(by_size.items())), directory)
    effects = _at_one_size(next(iter(by_size.values())), figure)
    if len(by_size) == 1:
        return effects
    return effects + _over_sizes(dict(sorted(by_size.items())), effects[0])


def _by_size(runs: Sequence[RunRecord]) -> dict[int, list[RunRecord]]:
    """Runs of preference models and of imitation by the preference models' parameters.

    An evaluation does not say how large its model is; but imitation of the same size started from
    the same model.
    """
    trainings(runs)  # refuses runs without any
    sizes = {_start(run): int(run.results["parameters"]) for run in runs if _is_preference(run)}
    found: dict[int, list[RunRecord]] = {size: [] for size in sizes.values()}
    for run in runs:
        if _is_preference(run):
            found[sizes[_start(run)]].append(run)
        elif _measures_imitation(run):
            imitator = run.made(str(run.settings["model"]))
            start = None if imitator is None else _start(imitator)
            if start not in sizes:
                raise DataError(
                    f"the evaluation '{run.path}' is of a model that was not trained from where "
                    "any preference model of the study was; train both from the same model"
                )
            found[sizes[start]].append(run)
    return found


def _start(run: RunRecord) -> str:
    """Which model a training started from: the hash of its contents, or its name on the Hub."""
    model = str(run.settings["model"])
    hashes = (hash_ for name, hash_ in run.manifest.inputs.items()
              if Path(name).is_relative_to(model))  # fmt: skip
    return next(hashes, model)


def _is_preference(run: RunRecord) -> bool:
    return run.manifest.stage == "preference"


def _measures_imitation(run: RunRecord) -> bool:
    return run.manifest.stage == "evaluate" and "accuracy_mutual_information" in run.results


def _is_binary(run: RunRecord) -> bool:
    return Path(run.settings["data"][0]).name.startswith("binary")


def _task(runs: Sequence[RunRecord], *, binary: bool) -> Task:
    of_task = [run for run in runs if _is_binary(run) == binary]
    modelled = trainings(of_task) if any(map(_is_preference, of_task)) else []
    imitated = {
        int(run.settings["seed"]): {
            said: float(run.results[name]) for name, said in MEASURES.items()
        }
        for run in of_task
        if _measures_imitation(run)
    }
    if not modelled or not {each.seed for each in modelled} & imitated.keys():
        raise DataError(
            f"the {'binary' if binary else 'ranked'} task needs runs of hark preference and of "
            "hark evaluate (a language model on the same held-out comparisons) with the same seeds"
            ", at every size"
        )
    return Task(modelled, imitated)


def _at_one_size(tasks: Size, figure: str) -> list[Effect]:
    on_ranked = tasks["ranked"].gaps()
    ranked = mean_over_seeds([*on_ranked.values()])
    told = "; ".join(f"{name}: {_told(task)}" for name, task in tasks.items()) + "."
    settings = {name: described(task.compared()) for name, task in tasks.items()}
    common = Effect(
        name="On a ranked task preference modelling beats imitation", paper=PAPER,
        claim="Ranked preference modelling is far better than imitation, up to 25 points.",
        setting=settings["ranked"], data=tasks["ranked"].modelled[0].source,
        measured="accuracy of the preference model less that of imitation by its best measure",
        seeds=ranked.n, figure=figure, **judged(ranked, above=MUCH, further=told),
    )  # fmt: skip
    if "binary" not in tasks:
        return [common]
    on_binary = tasks["binary"].gaps()
    binary = mean_over_seeds([*on_binary.values()])
    apart = mean_over_seeds(
        [lead - on_binary[seed] for seed, lead in on_ranked.items() if seed in on_binary]
    )
    return [
        common,
        dataclasses.replace(
            common,
            name="On a binary task the two are alike",
            claim="Binary discrimination and imitation do about equally well.",
            setting=settings["binary"],
            seeds=binary.n,
            **judged(binary, above=-ALIKE, below=ALIKE, further=told),
        ),
        dataclasses.replace(
            common,
            name="The lead is larger on the ranked task",
            claim="What preference modelling gains over imitation is larger on ranked tasks.",
            setting="; ".join(f"{name}: {setting}" for name, setting in settings.items()),
            measured="lead on the ranked task less lead on the binary task, by seed",
            seeds=apart.n,
            **judged(apart, above=0.0, further=told),
        ),
    ]


def _over_sizes(by_size: dict[int, Size], common: Effect) -> list[Effect]:
    """That the lead is there at every size and grows on ranked tasks, and is nowhere on binary."""
    logs = [math.log2(parameters) for parameters in by_size]
    ranked = [each for tasks in by_size.values() for each in tasks["ranked"].compared()]
    least = _over_seeds(by_size, "ranked", min)
    slope = _over_seeds(by_size, "ranked", lambda gaps: linear_regression(logs, gaps).slope)
    on_ranked = _leads(by_size, "ranked")
    effects = [
        dataclasses.replace(
            common,
            name="On a ranked task preference modelling leads at every size",
            setting=described(ranked),
            measured="least lead over the sizes, preference model less best imitation, by seed",
            seeds=least.n,
            **judged(least, above=MUCH, further=on_ranked),
        ),
        dataclasses.replace(
            common,
            name="On a ranked task the lead grows with the size of the model",
            claim="The lead of ranked preference modelling over imitation grows with size.",
            setting=described(ranked),
            measured="lead for each doubling of the parameters, least squares for each seed",
            seeds=slope.n,
            **slope_in_size(slope, ranked, further=on_ranked),
        ),
    ]
    if any("binary" not in tasks for tasks in by_size.values()):
        return effects
    binary = [each for tasks in by_size.values() for each in tasks["binary"].compared()]
    furthest = _over_seeds(by_size, "binary", lambda gaps: max(gaps, key=abs))
    alike = dataclasses.replace(
        common,
        name="On a binary task the two are alike at every size",
        claim="Binary discrimination and imitation do about equally well.",
        setting=described(binary),
        measured="of the leads at all sizes the one furthest from 0, by seed",
        seeds=furthest.n,
        **judged(furthest, above=-ALIKE, below=ALIKE, further=_leads(by_size, "binary")),
    )
    return [*effects, alike]


def _over_seeds(
    by_size: dict[int, Size], task: str, value: Callable[[list[float]], float]
) -> Estimate:
    """A number of each seed's leads, from the smallest size to the largest; of seeds with all."""
    gaps = [tasks[task].gaps() for tasks in by_size.values()]
    seeds = set.intersection(*({*of_size} for of_size in gaps))
    return mean_over_seeds([value([of_size[seed] for of_size in gaps]) for seed in sorted(seeds)])


def _told(task: Task) -> str:
    by_measure = {
        f"imitation, {said}": mean_over_seeds([found[said] for found in task.imitated.values()])
        for said in MEASURES.values()
    }
    both = by_measure | {"preference model": _modelled(task)}
    return ", ".join(f"{name} {each.value:.3f}" for name, each in both.items())


def _leads(by_size: dict[int, Size], task: str) -> str:
    leads = {size: mean_over_seeds([*tasks[task].gaps().values()])
             for size, tasks in by_size.items()}  # fmt: skip
    told = ", ".join(f"{size:,} parameters {each.value:+.3f}" for size, each in leads.items())
    return f"Lead on the {task} task: {told}."


def _modelled(task: Task) -> Estimate:
    return mean_over_seeds([each.accuracy for each in task.modelled])


def _figure(by_size: dict[int, Size], directory: Path) -> str:
    """Accuracy against size, the tasks side by side, a line for each way of learning."""
    sizes = [*by_size]
    with canvas() as drawing:
        names = [*by_size[sizes[0]]]
        panels = drawing.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for name, axes in zip(names, panels, strict=True):
            tasks = [of_size[name] for of_size in by_size.values()]
            imitated = [mean_over_seeds([*task.best_imitated.values()]) for task in tasks]
            plot(
                axes,
                [
                    Line(label="preference model", x=sizes, y=[*map(_modelled, tasks)]),
                    Line(label="imitation, best measure", x=sizes, y=imitated),
                ],
                levels=[("chance", 0.5)],
            )
            name_places(axes, {size: f"{size / 1e6:.2g}" for size in sizes})
            axes.set(title=f"{name} task", xlabel="million parameters")
        panels[0].set_ylabel("accuracy, held out")
        panels[0].legend(loc="best")
        save(drawing, directory / "objectives.png")
    return "objectives.png"
