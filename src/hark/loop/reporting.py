"""The stage `report`: one self-contained page of runs."""

from __future__ import annotations

from typing import Any

from hark.report.page import write_report
from hark.report.run_pages import report_for_runs
from hark.runs.run import Run
from hark.runs.settings import StageSettings
from hark.training.examples import Paths


class ReportSettings(StageSettings):
    """Make one self-contained HTML page of runs."""

    runs: Paths
    """Run directories; a `compare` run among them gives the table of policies and the samples."""
    title: str | None = None
    """Heading of the page; without it, the runs' names."""


def run_report(settings: ReportSettings, run: Run) -> dict[str, Any]:
    """Write `report.html` in the run directory."""
    page = report_for_runs(list(settings.runs), title=settings.title)
    path = run.path / "report.html"
    write_report(path, page)
    return {"path": str(path), "runs": [str(each) for each in settings.runs]}
