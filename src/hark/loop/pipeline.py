"""Run a planned recipe: its stages in order, each in a run directory of its own.

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

from hark.errors import HarkError
from hark.loop.plan import Plan
from hark.loop.stages import run_stage
from hark.runs.progress import is_first_process


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


def run_plan(plan: Plan, *, command: Sequence[str]) -> list[FinishedStage]:
    """Run every stage, saying on stderr which and how long it took.

    Raises: HarkError of the stage that failed, with the stage's name in front.
    """
    finished: list[FinishedStage] = []
    for number, planned in enumerate(plan.stages, start=1):
        runs = {stage.name: stage.run_path for stage in finished}
        label = f"[{number}/{len(plan.stages)}] {planned.name}"
        say(f"{label} ({planned.kind})")
        began = time.monotonic()
        try:
            settings = planned.resolve(runs)
            outcome = run_stage(planned.kind, settings, command=list(command), reuse_complete=True)
        except HarkError as error:
            raise type(error)(f"stage '{planned.name}': {error}") from error
        stage = FinishedStage(
            name=planned.name, kind=planned.kind, run_path=outcome.run_path,
            results=outcome.results, reused=outcome.reused, seconds=time.monotonic() - began,
        )  # fmt: skip
        finished.append(stage)
        how = "already complete" if stage.reused else f"done in {duration(stage.seconds)}"
        say(f"{label}: {how}: {stage.run_path}")
    return finished


def say(line: str) -> None:
    """A line on stderr, once however many processes run the recipe."""
    if is_first_process():
        print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """`0:07`, `12:30` or `1:02:03`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
