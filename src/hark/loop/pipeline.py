"""Run a planned recipe: its stages in order or side by side, each in a run directory of its own.

A stage already complete with the same code, settings and inputs is not run again, and one that was
interrupted is continued; so the same command carries on after any failure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hark.errors import HarkError, SettingsError
from hark.loop.plan import Plan, PlannedStage
from hark.loop.side_by_side import Task, Workers
from hark.loop.stages import StageOutcome, run_stage
from hark.runs.progress import is_first_process, process_count


@dataclass(frozen=True, kw_only=True)
class FinishedStage:
    """One stage of a recipe, done."""

    name: str
    """Its name in the recipe."""
    kind: str
    """Its key in `STAGES`."""
    run_path: Path
    results: dict[str, Any]
    reused: bool
    """Whether an earlier complete run was taken instead of running."""
    seconds: float
    """Wall-clock time in this invocation."""


def run_plan(plan: Plan, *, command: Sequence[str], jobs: int = 1) -> list[FinishedStage]:
    """Run every stage, saying on stderr which and how long it took.

    jobs: how many stages may run at once, in processes of their own where it is more than one.
    After a failure nothing more begins, and what runs beside it is finished.
    Raises: HarkError of the stage that failed, with the stage's name in front.
    """
    if jobs == 1:
        return _one_by_one(plan, command)
    if process_count() > 1:
        raise SettingsError(
            f"jobs is {jobs}, but torchrun has every process work on the same stage; "
            "leave out --jobs or torchrun"
        )
    return _side_by_side(plan, command, jobs)


def _one_by_one(plan: Plan, command: Sequence[str]) -> list[FinishedStage]:
    finished: list[FinishedStage] = []
    for planned, label in _labelled(plan):
        runs = {stage.name: stage.run_path for stage in finished}
        say(f"{label} ({planned.kind})")
        began = time.monotonic()
        try:
            settings = planned.resolve(runs)
            outcome = run_stage(planned.kind, settings, command=list(command), reuse_complete=True)
        except HarkError as error:
            raise _of_stage(planned, error) from error
        finished.append(_finish(planned, label, outcome, time.monotonic() - began))
    return finished


def _side_by_side(plan: Plan, command: Sequence[str], jobs: int) -> list[FinishedStage]:
    finished: dict[str, FinishedStage] = {}
    waiting = _labelled(plan)
    under_way: dict[str, PlannedStage] = {}
    names = {planned.name for planned in plan.stages}
    failure: Exception | None = None
    with Workers(min(jobs, len(waiting))) as workers:
        while workers.busy or (waiting and failure is None):
            ready = [
                (planned, label)
                for planned, label in waiting
                if finished.keys() >= names.intersection(planned.parents)
            ]
            for planned, label in ready[: workers.idle if failure is None else 0]:
                waiting.remove((planned, label))
                under_way[label] = planned
                say(f"{label} ({planned.kind})")
                runs = {name: one.run_path for name, one in finished.items()}
                try:
                    settings = planned.resolve(runs)
                except HarkError as error:
                    raise _of_stage(planned, error) from error
                workers.begin(
                    Task(label=label, kind=planned.kind, settings=settings, command=tuple(command))
                )
            ended = workers.wait()
            planned = under_way.pop(ended.task.label)
            if isinstance(ended.outcome, Exception):
                failure = failure or _of_stage(planned, ended.outcome)
                say(f"{ended.task.label}: failed; no other stage begins")
                continue
            finished[planned.name] = _finish(
                planned, ended.task.label, ended.outcome, ended.seconds
            )
    if failure is not None:
        raise failure
    return [finished[planned.name] for planned in plan.stages]


def _labelled(plan: Plan) -> list[tuple[PlannedStage, str]]:
    """Every stage in its order, with its number and name."""
    return [
        (planned, f"[{number}/{len(plan.stages)}] {planned.name}")
        for number, planned in enumerate(plan.stages, start=1)
    ]


def _of_stage(planned: PlannedStage, error: Exception) -> Exception:
    """The same error, with the stage's name in front if it is one that a person can mend."""
    if isinstance(error, HarkError):
        return type(error)(f"stage '{planned.name}': {error}")
    return error


def _finish(
    planned: PlannedStage, label: str, outcome: StageOutcome, seconds: float
) -> FinishedStage:
    how = "already complete" if outcome.reused else f"done in {duration(seconds)}"
    say(f"{label}: {how}: {outcome.run_path}")
    return FinishedStage(
        name=planned.name, kind=planned.kind, run_path=outcome.run_path,
        results=outcome.results, reused=outcome.reused, seconds=seconds,
    )  # fmt: skip


def say(line: str) -> None:
    """A line on stderr, once however many processes run the recipe."""
    if is_first_process():
        print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """`0:07`, `12:30` or `1:02:03`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
