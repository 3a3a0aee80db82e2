"""`hark run RECIPE`: a pipeline of stages from a YAML file, continued where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

from hark.cli.options import DryRun, Json, Overrides
from hark.cli.outcome import announce, print_json, records_table, time_section
from hark.cli.stage import plan_lines
from hark.loop.pipeline import FinishedStage, duration, run_plan
from hark.loop.plan import Plan, Request, plan_recipe
from hark.loop.recipe import load_recipe
from hark.loop.stages import STAGES
from hark.runs.settings import Dtype
from hark.runs.timing import TimeSpent

Miniature = Annotated[
    bool,
    Parameter(
        name="--miniature",
        help="The same stages in seconds, on built-in data: a trial run.",
        negative=(),
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    Parameter(name="--output", help="The directory below which run directories are made."),
]
Seed = Annotated[int | None, Parameter(name="--seed", help="Seed of every stage.")]
Device = Annotated[
    str | None, Parameter(name="--device", help="Where to compute: auto, cpu, cuda.")
]
Precision = Annotated[Dtype | None, Parameter(name="--dtype", help="Precision of the arithmetic.")]
Inputs = Annotated[
    list[str],
    Parameter(
        name="--input",
        help="A file or model the recipe asks for, as NAME=PATH; may be repeated, also for one "
        "name. --dry-run lists the names.",
        negative=(),
        show_default=False,
    ),
]
Use = Annotated[
    list[str],
    Parameter(
        name="--use",
        help="A run directory or model to take in a stage's place, as STAGE=PATH, such as "
        "base=EleutherAI/pythia-70m; stages that only that one needed are not run either.",
        negative=(),
        show_default=False,
    ),
]
Jobs = Annotated[
    int,
    Parameter(
        name="--jobs",
        help="How many stages may run at once, each in a process with its share of the cores: "
        "faster where many small models are trained.",
        validator=Number(gte=1),
    ),
]


def run(
    recipe: Annotated[str, Parameter(help="Name of a built-in recipe, or path of a YAML file.")],
    *,
    input_: Inputs = [],  # noqa: B006 (cyclopts shows it; it is never changed)
    set_: Overrides = [],  # noqa: B006
    use: Use = [],  # noqa: B006
    output: Output = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Precision = None,
    jobs: Jobs = 1,
    miniature: Miniature = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Plan, then run or show; see `hark.cli.main.COMMANDS` for the help."""
    shared = {"output": output, "seed": seed, "device": device, "dtype": dtype}
    request = Request(
        inputs=input_,
        overrides=set_,
        replacements=use,
        every_stage={name: value for name, value in shared.items() if value is not None},
        miniature=miniature,
        dry_run=dry_run,
    )
    plan = plan_recipe(load_recipe(recipe), request)
    for name in plan.unused_inputs:
        print(f"--input {name} is not read: no stage left to run needs it", file=sys.stderr)
    if dry_run:
        show_plan(plan, as_json=json)
        return
    finished = run_plan(plan, command=["hark", *sys.argv[1:]], jobs=jobs)
    announce_pipeline(plan, finished, as_json=json)


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print every stage with its effective settings, running nothing."""
    if as_json:
        stages = {
            stage.name: {
                "stage": stage.kind,
                "config": stage.settings.model_dump(mode="json"),
                "given": stage.settings.given(),
                "parents": list(stage.parents),
            }
            for stage in plan.stages
        }
        print_json(
            {
                "status": "dry run",
                "recipe": plan.recipe.name,
                "inputs": plan.inputs,
                "stages": stages,
            }
        )
        return
    print(f"# Recipe {plan.recipe.name}: {' '.join(plan.recipe.description.split())}")
    for name, item in plan.recipe.inputs.items():
        need = "" if item.required else " (optional)"
        print(f"# --input {name}=PATH{need}: {item.help}")
    for number, stage in enumerate(plan.stages, start=1):
        print(f"\n# [{number}/{len(plan.stages)}] {stage.name}")
        reads = [f"run directory of {parent}" for parent in stage.parents]
        kind = STAGES[stage.kind]
        print("\n".join(plan_lines(kind, stage.settings, sources=stage.sources, reads=reads)))


def announce_pipeline(plan: Plan, finished: Sequence[FinishedStage], *, as_json: bool) -> None:
    """The results of the last stage, and where every stage's run directory is."""
    last = finished[-1]
    if as_json:
        stages = {
            stage.name: {
                "stage": stage.kind,
                "run": str(stage.run_path),
                "reused": stage.reused,
                "seconds": round(stage.seconds, 1),
                "results": stage.results,
                **time_section(TimeSpent.read(stage.run_path)),
            }
            for stage in finished
        }
        record: dict[str, Any] = {"recipe": plan.recipe.name, "stages": stages}
        announce(record | {"results": summary_of(finished)}, run=last.run_path, as_json=True)
        return
    rows = [
        {
            "stage": stage.name,
            "time": "reused" if stage.reused else duration(stage.seconds),
            "run": str(stage.run_path),
        }
        for stage in finished
    ]
    Console().print(records_table(rows, title=f"recipe {plan.recipe.name}"))
    announce(summary_of(finished), run=last.run_path, as_json=False)
    for stage in finished:
        if stage.kind == "report":
            print(f"open {Path(stage.results['path']).resolve().as_uri()}")


def summary_of(finished: Sequence[FinishedStage]) -> dict[str, Any]:
    """The results of the last stage that measures; of the last stage where none does."""
    measuring = [stage for stage in finished if stage.kind in {"evaluate", "compare"}]
    return (measuring or list(finished))[-1].results
