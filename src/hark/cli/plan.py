"""`hark plan RECIPE`: memory, time and money of a recipe on given devices, before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from hark.cli.options import Json, Overrides
from hark.cli.outcome import announce, print_json
from hark.cli.run import Inputs, Miniature, Precision, Use
from hark.errors import SettingsError
from hark.loop.forecast.calibration import calibrate as calibrated
from hark.loop.forecast.hardware import (
    TRUSTED_ERROR,
    Basis,
    Figure,
    load_hardware,
    write_hardware,
)
from hark.loop.forecast.lengths import Said, by_stage, numbers_by_stage
from hark.loop.forecast.memory import HEADROOM
from hark.loop.forecast.prediction import (
    DRAFTERS,
    Forecast,
    Phase,
    Question,
    StageForecast,
    forecast,
)
from hark.loop.forecast.shapes import describe_count
from hark.loop.plan import Request, plan_recipe
from hark.loop.recipe import load_recipe
from hark.runs.settings import Dtype

Numbers = list[str]
PER_STAGE = "N for all stages, or STAGE=N; may be repeated."


def _numbers(name: str, help_: str) -> Any:
    return Parameter(name=name, help=f"{help_} {PER_STAGE}", negative=(), show_default=False)


def plan(
    recipe: Annotated[
        str | None, Parameter(help="Name of a built-in recipe, or path of a YAML file.")
    ] = None,
    *,
    gpus: Annotated[int, Parameter(name="--gpus", help="How many devices.")] = 1,
    gpu: Annotated[
        str, Parameter(name="--gpu", help="Which: h100, h200, a100-80gb, … or of --hardware.")
    ] = "h100",
    parameters: Annotated[
        Numbers,
        _numbers("--parameters", "Size of models that are not on this machine, such as 70b:"),
    ] = [],  # noqa: B006 (cyclopts shows it; it is never changed)
    examples: Annotated[Numbers, _numbers("--examples", "Records, where no file is given:")] = [],  # noqa: B006
    prompt_tokens: Annotated[Numbers, _numbers("--prompt-tokens", "Mean of prompts:")] = [],  # noqa: B006
    response_tokens: Annotated[Numbers, _numbers("--response-tokens", "Mean of responses:")] = [],  # noqa: B006
    responses: Annotated[Numbers, _numbers("--responses", "Responses of a comparison:")] = [],  # noqa: B006
    price: Annotated[
        float | None, Parameter(name="--price", help="Dollars for one device and hour.")
    ] = None,
    hardware: Annotated[
        Path | None, Parameter(name="--hardware", help="Your own file of devices.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        Parameter(
            name="--calibrate",
            help="Measure this machine's CPU first and write what it reaches to this file, for "
            "--hardware; without a recipe that is all.",
        ),
    ] = None,
    input_: Inputs = [],  # noqa: B006
    set_: Overrides = [],  # noqa: B006
    use: Use = [],  # noqa: B006
    dtype: Precision = None,
    miniature: Miniature = False,
    json: Json = False,
) -> None:
    """Plan, forecast and show; see `hark.cli.main.COMMANDS` for the help."""
    if calibrate is not None:
        name, dtype = _calibrate(calibrate, dtype)
        gpu, hardware = name, calibrate
    if recipe is None:
        if calibrate is None:
            raise SettingsError("give a recipe to forecast, or --calibrate FILE to measure")
        announce({"device": gpu, "hardware": str(calibrate)}, run=None, as_json=json)
        return
    settled = plan_recipe(
        load_recipe(recipe),
        Request(
            inputs=input_, overrides=set_, replacements=use, miniature=miniature, dry_run=True,
            every_stage={} if dtype is None else {"dtype": dtype},
        ),
    )  # fmt: skip
    if gpus < 1:
        raise SettingsError(f"--gpus {gpus}: at least one device is needed")
    device = load_hardware(hardware).device(gpu)
    names = [stage.name for stage in settled.stages]
    question = Question(
        device=device, devices=gpus, parameters=by_stage("--parameters", parameters, names),
        price_per_hour=device.price_per_hour if price is None else price,
        said=Said(
            examples=numbers_by_stage("--examples", examples, names),
            prompt_tokens=numbers_by_stage("--prompt-tokens", prompt_tokens, names),
            response_tokens=numbers_by_stage("--response-tokens", response_tokens, names),
            responses=numbers_by_stage("--responses", responses, names),
        ),
    )  # fmt: skip
    for stage in settled.unused_inputs:
        print(f"--input {stage} is not read: no stage needs it", file=sys.stderr)
    found = forecast(settled, question)
    if json:
        print_json({"status": "forecast", "recipe": settled.recipe.name, "gpu": gpu,
                    "gpus": gpus, **as_record(found, question)})  # fmt: skip
    else:
        show(found, question, name=gpu, recipe=settled.recipe.name)


def _calibrate(path: Path, dtype: Dtype | None) -> tuple[str, Dtype]:
    print("measuring this machine; run nothing else meanwhile", file=sys.stderr)
    precision: Dtype = dtype or "float32"
    device = calibrated(precision)
    error = device.rates.fit_error or 0.0
    print(f"the rates fit what was measured within {error:.0%}", file=sys.stderr)
    if error > TRUSTED_ERROR:
        print("warning: too far off; was the machine busy? Measure again", file=sys.stderr)
    name = f"cpu-{device.description.split()[0]}"
    write_hardware(path, name, device)
    return name, precision


def as_record(found: Forecast, question: Question) -> dict[str, Any]:
    """The whole forecast; every figure with its basis."""
    return {
        "stages": {stage.name: _stage_record(stage) for stage in found.stages},
        "left_out": list(found.left_out),
        "hours": found.hours,
        "cost_dollars": found.cost,
        "price_per_hour": question.price_per_hour,
        "rates": question.device.rates.basis,
        "rates_source": question.device.rates.source,
    }


def _stage_record(stage: StageForecast) -> dict[str, Any]:
    return {
        "stage": stage.kind,
        "model": stage.model,
        "parameters": _plain(stage.parameters),
        "data": stage.data,
        "steps": stage.steps,
        "memory_bytes": _plain(stage.peak_bytes),
        "fits": stage.fits,
        "memory": [
            {"term": term.name, "when": term.when, "bytes": term.bytes, "basis": basis.word}
            for term, basis in stage.memory
        ],
        "step_seconds": stage.step_seconds,
        "phases": {phase.name: _phase_record(phase) for phase in stage.phases},
        "hours": _plain(stage.hours),
        "cost_dollars": _plain(stage.cost),
        "largest_parameters": _plain(stage.largest) if stage.largest else None,
        "notes": list(stage.notes),
    }


def _phase_record(phase: Phase) -> dict[str, Any]:
    return {
        "seconds": phase.seconds.value,
        "basis": phase.seconds.basis.word,
        "communication_bytes": phase.communication_bytes,
        "communication_seconds": phase.communication_seconds,
    }


def _plain(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "basis": figure.basis.word}


def show(found: Forecast, question: Question, *, name: str, recipe: str) -> None:
    """Three tables: the stages, their memory by term, their steps by phase."""
    device, console = question.device, Console()
    console.print(
        f"[bold]{recipe}[/bold] on {question.devices} × {name} ({device.description}), "
        f"{question.price_per_hour:g} $ an hour each",
        highlight=False,
    )
    console.print(_stages(found, question))
    console.print(_memory(found.stages))
    console.print(_phases(found.stages))
    for line in _remarks(found, question):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _stages(found: Forecast, question: Question) -> Table:
    table = _table("stages", "stage", "model", "memory a device", "largest that fits", "steps",
                   "hours", "dollars")  # fmt: skip
    for stage in found.stages:
        memory = f"{_gigabytes(stage.peak_bytes)}{'' if stage.fits else ' does not fit'}"
        largest = "none" if stage.largest is None else describe_count(stage.largest.value)
        model = f"{describe_count(stage.parameters.value)} {_mark(stage.parameters.basis)}"
        table.add_row(
            stage.name, model, memory, largest + " e", f"{stage.steps:,}",
            f"{_number(stage.hours.value)} {_mark(stage.hours.basis)}",
            f"{_number(stage.cost.value)} {_mark(stage.cost.basis)}",
        )  # fmt: skip
    of = f"of {question.device.memory_gigabytes:.4g} GB"
    table.add_row("total", "", of, "", "", _number(found.hours), _number(found.cost))
    return table


def _memory(stages: Sequence[StageForecast]) -> Table:
    table = _table("memory of a device", "stage", "when", "term", "bytes")
    for stage in stages:
        for term, basis in stage.memory:
            table.add_row(stage.name, term.when, term.name, _gigabytes(Figure(term.bytes, basis)))
    return table


def _phases(stages: Sequence[StageForecast]) -> Table:
    table = _table("a step", "stage", "phase", "seconds", "communication (hidden in training)",
                   "moved a device")  # fmt: skip
    for stage in stages:
        for phase in stage.phases:
            moved = Figure(phase.communication_bytes, Basis.EXTRAPOLATED)
            table.add_row(
                stage.name, phase.name,
                f"{_number(phase.seconds.value)} {_mark(phase.seconds.basis)}",
                _number(phase.communication_seconds) if moved.value else "–",
                _gigabytes(moved) if moved.value else "–",
            )  # fmt: skip
    return table


def _remarks(found: Forecast, question: Question) -> Iterator[str]:
    rates = question.device.rates
    yield (
        "m measured: counted, or arithmetic with counts · c calibrated: by rates measured on such "
        "a device · e extrapolated: data sheets, assumed rates, guessed sizes"
    )
    yield f"rates: {rates.basis} ({rates.source}); peaks: {question.device.source}"
    for stage in found.stages:
        notes = "".join(f"; {note}" for note in stage.notes)
        yield f"{stage.name}: {stage.model}; data {stage.data}{notes}"
    yield (
        "not counted: evaluation during training, checkpoints, start-up, waiting; "
        f"{HEADROOM:.0%} of the memory is kept free"
    )
    if found.left_out:
        kinds = ", ".join(DRAFTERS)
        yield f"not forecast: {', '.join(found.left_out)} (only {kinds} are)"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _gigabytes(figure: Figure) -> str:
    size = figure.value
    for unit, letter in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{_number(size / unit)} {letter} {_mark(figure.basis)}"
    return f"{size:.0f} B {_mark(figure.basis)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _mark(basis: Basis) -> str:
    return basis.word[0]
