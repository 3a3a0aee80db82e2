"""`torchrun … parallel_driver.py PLAN`: run stages as one of several processes.

PLAN is a JSON list of `{"stage", "settings"}`. With `"stop_at": n` every process is interrupted
before step n (counted from 0), with `"die_at": n` the last one is killed there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hark.loop.stages import STAGES, run_stage
from hark.models.processes import is_first

STEPS_BEGIN_WITH = ("hark.training.trainer.seed_of_step", "hark.training.ppo.prompts_of_step")
"""Functions called once at the beginning of each step, with the step as their last argument."""


class PowerCutError(Exception):
    """Ends a run in the middle."""


@contextlib.contextmanager
def trouble(stop_at: int | None, die_at: int | None) -> Iterator[None]:
    """Within the block, stop or die at the beginning of the given step."""
    real = {}
    for path in STEPS_BEGIN_WITH:
        module_name, _, name = path.rpartition(".")
        module = importlib.import_module(module_name)
        real[module, name] = function = getattr(module, name)

        def watched(*arguments: Any, function: Any = function) -> Any:
            if arguments[-1] == stop_at:
                raise PowerCutError
            if arguments[-1] == die_at and not is_first():
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        setattr(module, name, watched)
    try:
        yield
    finally:
        for (module, name), function in real.items():
            setattr(module, name, function)


def run_plan(plan: list[dict[str, Any]]) -> list[Path | None]:
    """Run each stage of a plan; the run directories, None for one that was stopped."""
    paths: list[Path | None] = []
    for item in plan:
        settings = STAGES[item["stage"]].settings.parse(item["settings"])
        try:
            with trouble(item.get("stop_at"), item.get("die_at")):
                paths.append(run_stage(item["stage"], settings, command=["test"]).run_path)
        except PowerCutError:
            paths.append(None)
    return paths


if __name__ == "__main__":
    run_plan(json.loads(Path(sys.argv[1]).read_text()))
