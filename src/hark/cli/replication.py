"""`hark replication`: what studies found, as a Markdown page with figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hark.cli.options import Json
from hark.cli.outcome import announce
from hark.loop.studying import write_replication


def replication(
    *runs: Annotated[Path, Parameter(help="Run directories of hark study, in the page's order.")],
    title: Annotated[str, Parameter(help="Heading of the page.")],
    into: Annotated[
        Path, Parameter(help="The page without its ending .md; figures go into this directory.")
    ],
    introduction: Annotated[
        Path | None, Parameter(help="A Markdown file that the page begins with.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the page and count the verdicts."""
    verdicts = write_replication(list(runs), title=title, into=into, introduction=introduction)
    announce({"page": str(into.with_suffix(".md")), **verdicts}, run=None, as_json=json)
