"""How a command ends: its results on stdout, or one sentence about what went wrong on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hark.runs.progress import is_first_process
from hark.runs.timing import TimeSpent

RESERVED = ("status", "run", "time")


def announce(
    results: Mapping[str, Any],
    *,
    run: Path | None,
    as_json: bool,
    time: TimeSpent | None = None,
    status: str = "complete",
) -> None:
    """Print what a command found and where its time went, for a person or as one line of JSON."""
    if as_json:
        clash = [name for name in RESERVED if name in results]
        assert not clash, f"results may not be named {clash}"
        where = {} if run is None else {"run": str(run)}
        print_json({"status": status} | where | dict(results) | time_section(time))
        return
    print_results(results)
    if time is not None:
        Console().print(f"[bold]time[/bold] {time.describe()}", highlight=False, soft_wrap=True)
    if run is not None:
        Console().print(f"[bold]run[/bold] {run}", highlight=False, soft_wrap=True)


def time_section(time: TimeSpent | None) -> dict[str, Any]:
    """`time` of a JSON record; nothing for a run without steps."""
    return {} if time is None else {"time": time.to_json()}


def announce_error(message: str, *, as_json: bool) -> None:
    """`error: …` on stderr and, for a program that reads along, a JSON object on stdout."""
    sys.stdout.flush()
    who = "" if is_first_process() else f"[process {os.environ['RANK']}] "
    print(f"{who}error: {message}", file=sys.stderr)
    if as_json:
        print_json({"status": "failed", "error": message})


def print_json(value: Mapping[str, Any]) -> None:
    """One line; what is not finite becomes null, which is what JSON has for undefined."""
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False), flush=True)


def print_results(results: Mapping[str, Any]) -> None:
    """Names and values, then lists of records as tables; what is nested deeper is in the run."""
    console = Console()
    if "policies" in results and "baseline" in results:
        print_policies(results["policies"], baseline=results["baseline"])
    if "analysis" in results:
        console.print(effects_table(results["effects"]))
    for judged in results.get("judges", ()):
        console.print(ratings_table(judged))
    scalars = {name: value for name, value in results.items() if is_flat(value)}
    if scalars:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, value in scalars.items():
            table.add_row(name.replace("_", " "), Text(describe(value)))
        console.print(table)
    for name, rows in results.items():
        if is_table(rows) and name != "effects":
            console.print(records_table(rows, title=name.replace("_", " ")))


def print_policies(policies: Sequence[Mapping[str, Any]], *, baseline: str) -> None:
    """The table of a comparison, as in the report."""
    # Imported here: the other commands' errors and `--help` should not wait for torch.
    from hark.evaluation.policies import PolicyEvaluation
    from hark.report.table import terminal_table

    rows = [PolicyEvaluation.from_json(policy) for policy in policies]
    Console().print(terminal_table(rows, baseline=baseline))


def effects_table(effects: Sequence[Mapping[str, Any]]) -> Table:
    """What a study found; claims, settings and reasons are in its results and its replication."""
    from hark.report.effects import Effect, number

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("effect", "number (95 % interval)", "verdict"):
        table.add_column(name)
    for effect in map(Effect.from_json, effects):
        table.add_row(Text(effect.name), number(effect.estimate), effect.verdict)
    return table


def ratings_table(judged: Mapping[str, Any]) -> Table:
    """Elo by one judge, with intervals or why there are none; then what else the votes tell."""
    table = Table(title=f"Elo by {judged['judge']}", title_justify="left", title_style="bold")
    table.add_column("model")
    for name in ("Elo", f"{100 * judged['ratings'][0]['elo']['level']:g} % interval", "wins",
                 "ties", "losses"):  # fmt: skip
        table.add_column(name, justify="right")
    for one in judged["ratings"]:
        elo = one["elo"]
        known = elo["low"] is not None
        ends = f"{elo['low']:.0f} to {elo['high']:.0f}" if known else elo["state"]
        ends = "anchor" if one["model"] == judged["anchor"] else ends
        rating = "–" if elo["value"] is None else f"{elo['value']:.0f}"
        counts = (str(one[name]) for name in ("wins", "ties", "losses"))
        table.add_row(Text(one["model"]), rating, ends, *counts)
    said = [f"{judged['votes']:,} votes in {judged['labelers']:,} clusters"]
    for name, title in (("first_advantage", "first place"), ("tie_odds", "tie odds")):
        if judged[name] is not None and judged[name]["value"] is not None:
            said.append(f"{title} {judged[name]['value']:.2f}")
    if "primary" in judged:
        said.append(f"primary comparison: {judged['primary']['finding']}")
    table.caption = Text("; ".join(said))
    table.caption_justify = "left"
    return table


def is_flat(value: Any) -> bool:
    """Whether a value fits on a line: a scalar, or a mapping or list of scalars."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return not any(isinstance(item, Mapping | list | tuple) for item in value)
    return True


def is_table(value: Any) -> bool:
    """Whether a value is a list of records with the same names."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(row, Mapping) and list(row) == list(value[0]) for row in value)
        and all(is_flat(cell) for row in value for cell in row.values())
    )


def records_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    """Records as a table with one column a name."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(rows[0]):
        justify: Literal["left", "right"] = "left" if index == 0 else "right"
        # Folded where the terminal is narrow: rich would cut names off.
        table.add_column(name.replace("_", " "), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(describe(value)) for value in row.values()))
    return table


def describe(value: Any) -> str:
    """A value for a person: three significant figures, intervals in brackets, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return (
            "–"
            if not math.isfinite(value)
            else f"{value:.3g}"
            if abs(value) < 1000
            else f"{value:,.0f}"
        )
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {describe(item)}" for name, item in value.items()) or "–"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(describe(item) for item in value) + "]"
    return str(value)


def plain(value: Any) -> Any:
    """The same value in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
