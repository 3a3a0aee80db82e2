"""`hark profile RUN`: where the time of training runs went."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from hark.cli.options import Json
from hark.cli.outcome import print_json, records_table
from hark.errors import RunError
from hark.runs.manifest import Manifest
from hark.runs.timing import TimeSpent, bytes_words, flops_words, phase_words, seconds_words


def profile(
    run: Annotated[
        Path,
        Parameter(
            help="Directory of a training run, or one that holds several, such as the output of a "
            "recipe."
        ),
    ],
    *,
    json: Json = False,
) -> None:
    """Print a table for each run; see `hark.cli.main.COMMANDS` for the help."""
    found = list(timed_runs(run))
    if not found:
        raise RunError(
            f"'{run}' holds no training run of which a step was timed; give the directory of a "
            "pretrain, sft, preference or ppo run, or one that holds such runs"
        )
    if json:
        runs = [
            {"run": str(path), "stage": manifest.stage, "name": manifest.name} | spent.to_json()
            for path, manifest, spent in found
        ]
        print_json({"status": "complete", "runs": runs})
        return
    for path, _, spent in found:
        show(path, spent)


def timed_runs(directory: Path) -> Iterator[tuple[Path, Manifest, TimeSpent]]:
    """The run at `directory`, or those directly below it, in the order of their names.

    Raises: RunError if nothing is there.
    """
    if not directory.is_dir():
        raise RunError(f"there is no directory '{directory}'")
    paths = [directory]
    if not (directory / "manifest.json").is_file():
        paths = sorted(path.parent for path in directory.glob("*/manifest.json"))
    for path in paths:
        spent = TimeSpent.read(path)
        if spent is not None:
            yield path, Manifest.read(path), spent


def show(path: Path, spent: TimeSpent) -> None:
    """One table, what was reached, and where the trace is."""
    rows = [
        {
            "phase": phase_words(phase),
            "time": seconds_words(seconds),
            "share": f"{100 * spent.shares[phase]:.1f} %",
        }
        for phase, seconds in spent.phases.items()
    ]
    rows.append({"phase": "all", "time": seconds_words(spent.seconds), "share": "100 %"})
    console = Console(highlight=False, soft_wrap=True)
    console.print(records_table(rows, title=str(path)))
    reached = []
    if spent.useful_flops_per_second is not None:
        reached.append(f"{flops_words(spent.useful_flops_per_second)} of useful arithmetic")
    if spent.tokens_per_second is not None:
        reached.append(f"{spent.tokens_per_second:,.0f} tokens trained on a second")
    if spent.peak_memory_bytes is not None:
        reached.append(f"peak memory {bytes_words(spent.peak_memory_bytes)}")
    console.print("; ".join(reached))
    trace = path / "profile" / "trace.json.gz"
    if trace.is_file():
        console.print(f"trace {trace} (open it at https://ui.perfetto.dev)")
    console.print()
