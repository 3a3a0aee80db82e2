"""Analyses over several runs: each reads run directories and says what it found.

An analysis is a function of the runs of a study and a directory for its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hark.loop.studies import online, outliers
from hark.report.effects import Effect
from hark.report.run_record import RunRecord

Analysis = Callable[[Sequence[RunRecord], Path], list[Effect]]

ANALYSES: dict[str, Analysis] = {"online": online.analyse, "outliers": outliers.analyse}
"""By the name that `hark study` takes."""
