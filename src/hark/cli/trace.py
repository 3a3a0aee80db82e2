"""`hark trace`: from a model or a rating back to labels, and from labels to models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from hark.cli.options import Json
from hark.cli.outcome import print_json

if TYPE_CHECKING:
    from hark.loop.lineage import Node

LABELERS_SHOWN = 3
NEVER_SHOWN = {"events", "status", "fingerprint", "stage", "study"}


def trace(
    item: Annotated[
        str,
        Parameter(
            help="A run directory, checkpoint, model or export; a snapshot of a loop, as "
            "LOOP#SNAPSHOT, for its Elo; with --down also a study's name or the id of a label."
        ),
    ],
    *,
    down: Annotated[
        bool,
        Parameter(
            help="What came of it, rather than what it comes from.",
            negative=(),
            show_default=False,
        ),
    ] = False,
    within: Annotated[
        list[Path],
        Parameter(
            help="With --down: directories in which runs and exports are looked for.",
            consume_multiple=True,
            negative=(),
        ),
    ] = [Path("runs")],  # noqa: B006 (cyclopts shows it; it is never changed)
    json: Json = False,
) -> None:
    """Show the tree; see `hark.cli.main.COMMANDS` for the help."""
    from hark.loop import lineage
    from hark.loop.online.tracing import is_of_loop, trace_rating

    if down:
        found = lineage.descend(item, [path for path in within if path.is_dir()])
    elif is_of_loop(item):
        found = trace_rating(item)
    else:
        found = lineage.trace(Path(item))
    if json:
        print_json({"status": "complete", "tree": found.to_json()})
        return
    print(_line(found))
    for line in _drawn(found):
        print(line)


def _drawn(node: Node, margin: str = "") -> Iterator[str]:
    """The lines below a node's own."""
    for child in node.children:
        last = child is node.children[-1]
        yield f"{margin}{'└── ' if last else '├── '}{_line(child)}"
        yield from _drawn(child, margin + ("    " if last else "│   "))


def _line(node: Node) -> str:
    parts = [
        f"{name.replace('_', ' ')} {_said(name, value)}"
        for name, value in node.facts.items()
        if name not in NEVER_SHOWN and value not in (None, [], {})
    ]
    if node.path is not None:
        parts.append(node.path)
    if node.state:
        parts.append(node.state.upper() if node.state != "shown above" else node.state)
    return ", ".join([node.name, *parts])


def _said(name: str, value: Any) -> str:
    if name == "labelers":
        most = [f"{who} {count}" for who, count in list(value.items())[:LABELERS_SHOWN]]
        more = ", …" if len(value) > LABELERS_SHOWN else ""
        return f"{len(value)} ({', '.join(most)}{more})"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
