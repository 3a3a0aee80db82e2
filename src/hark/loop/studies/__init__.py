"""Analyses over several runs: each reads run directories and says what it found.

An analysis is a function of the runs of a study and a directory for its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hark.errors import RunError
from hark.loop.studies import (
    amounts,
    calibration,
    distillation,
    divergence,
    elo,
    labelers,
    mixture,
    objectives,
    online,
    outliers,
    planted_elo,
    robustness,
    skill,
    tax,
    transfer,
    turns,
)
from hark.report.effects import Effect
from hark.report.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class Analysis:
    """One thing that runs together may say."""

    find: Callable[[Sequence[RunRecord], Path], list[Effect]]
    """From runs and a directory for figures."""
    stages: tuple[str, ...]
    """Whose runs it reads."""

    def __call__(self, runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
        """Raises: RunError for a run of another stage, or one that is not complete."""
        for run in runs:
            if run.manifest.stage not in self.stages:
                raise RunError(
                    f"'{run.path}' is a run of hark {run.manifest.stage}; this analysis reads runs "
                    f"of hark {' and '.join(self.stages)}: name those"
                )
            if not run.results:
                raise RunError(
                    f"the run '{run.path}' has no results: it is not complete; give the command "
                    "that began it again"
                )
        return self.find(runs, directory)


PREFERENCE = ("preference",)
ANALYSES: dict[str, Analysis] = {
    "amounts": Analysis(amounts.analyse, (*PREFERENCE, "playground-comparisons")),
    "calibration": Analysis(calibration.analyse, PREFERENCE),
    "distillation": Analysis(distillation.analyse, ("distill", "compare")),
    "divergence": Analysis(divergence.analyse, ("ppo", "best-of")),
    "elo": Analysis(elo.analyse, ("tournament",)),
    "labelers": Analysis(labelers.analyse, PREFERENCE),
    "mixture": Analysis(mixture.analyse, PREFERENCE),
    "objectives": Analysis(objectives.analyse, (*PREFERENCE, "evaluate")),
    "online": Analysis(online.analyse, ("online",)),
    "outliers": Analysis(outliers.analyse, ("outliers",)),
    "planted-elo": Analysis(planted_elo.analyse, ("rehearse",)),
    "robustness": Analysis(robustness.analyse, ("ppo",)),
    "skill": Analysis(skill.analyse, ("compare",)),
    "tax": Analysis(tax.analyse, ("compare",)),
    "transfer": Analysis(transfer.analyse, PREFERENCE),
    "turns": Analysis(turns.analyse, PREFERENCE),
}
"""By the name that `hark study` takes."""
