"""A stage of the loop as a command: options in, run directory and results out."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from hark.cli.options import (
    Config,
    DryRun,
    Json,
    given_and_default_lines,
    options_of,
    read_config,
    unflatten,
)
from hark.cli.outcome import announce, print_json
from hark.errors import HarkError
from hark.loop.references import merge
from hark.loop.stages import STAGES, Stage, run_stage
from hark.runs.settings import StageSettings
from hark.runs.timing import TimeSpent
from hark.settings import sources_of

THIS_COMMAND = Group("This command", sort_key=90)


def stage_command(name: str, *, title: str, command: str = "") -> Callable[..., None]:
    """The function behind `hark <name>`, one keyword for each field of its settings."""
    stage = STAGES[name]
    options = options_of(stage.settings, title=title)
    spoken = f"hark {command or name}"

    def function(**given: Any) -> None:
        config: Path | None = given.pop("config", None)
        dry_run, as_json = given.pop("dry_run", False), given.pop("json", False)
        from_file = read_config(config) if config else {}
        from_line = unflatten(given)
        where = spoken + (f" with '{config}'" if config else "")
        settings = stage.settings.parse(merge(from_file, from_line), where=where)
        if dry_run:
            sources = sources_of(from_file, str(config)) | sources_of(from_line, "command line")
            show_plan(stage, settings, sources=sources, as_json=as_json)
            return
        outcome = run_stage(name, settings, command=["hark", *sys.argv[1:]])
        spent = TimeSpent.read(outcome.run_path)
        announce(outcome.results, run=outcome.run_path, as_json=as_json, time=spent)

    parameters = [_keyword(option.key, option.annotation, option.default) for option in options]
    parameters += [
        _keyword("config", _in_group(Config), None),
        _keyword("dry_run", _in_group(DryRun), False),
        _keyword("json", _in_group(Json), False),
    ]
    function.__name__ = name
    function.__doc__ = stage.summary
    function.__annotations__ = {item.name: item.annotation for item in parameters}
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def show_plan(
    stage: Stage, settings: StageSettings, *, sources: Mapping[str, str], as_json: bool
) -> None:
    """Print the effective settings and what would happen, running nothing."""
    reads = reading(stage, settings)
    if as_json:
        print_json(
            {
                "status": "dry run",
                "stage": stage.name,
                "config": settings.model_dump(mode="json"),
                "given": settings.given(),
                "reads": reads,
                "output": str(settings.output),
            }
        )
        return
    print("\n".join(plan_lines(stage, settings, sources=sources, reads=reads)))


def plan_lines(
    stage: Stage, settings: StageSettings, *, sources: Mapping[str, str], reads: Sequence[str]
) -> Iterator[str]:
    """A YAML file that `--config` reads back: settings given, and all else in comments."""
    yield f"# hark {stage.name}: {stage.summary}"
    yield "# Nothing was run. Commented settings are defaults; this file can be given to --config."
    yield from given_and_default_lines(settings, sources=sources)
    yield "#"
    yield "# Plan"
    for what in reads:
        yield f"#   read   {what}"
    name = f"-{settings.name}" if settings.name else ""
    yield f"#   write  {settings.output}/<time>-{stage.name}{name}/"


def reading(stage: Stage, settings: StageSettings) -> list[str]:
    """The files and directories a stage would read; where one is missing, what would be said."""
    try:
        return [str(path) for path in stage.inputs(settings)]
    except HarkError as error:
        return [f"(error: {error})"]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _in_group(annotation: Any) -> Any:
    return Annotated[annotation, Parameter(group=THIS_COMMAND)]
