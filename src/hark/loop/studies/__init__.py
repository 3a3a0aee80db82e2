"""Analyses over several runs: each reads run directories and says what it found.

An analysis is a function of the runs of a study and a directory for its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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
)
from hark.report.effects import Effect
from hark.report.run_record import RunRecord

Analysis = Callable[[Sequence[RunRecord], Path], list[Effect]]

ANALYSES: dict[str, Analysis] = {
    "amounts": amounts.analyse,
    "calibration": calibration.analyse,
    "distillation": distillation.analyse,
    "divergence": divergence.analyse,
    "elo": elo.analyse,
    "labelers": labelers.analyse,
    "mixture": mixture.analyse,
    "objectives": objectives.analyse,
    "online": online.analyse,
    "outliers": outliers.analyse,
    "planted-elo": planted_elo.analyse,
    "robustness": robustness.analyse,
    "skill": skill.analyse,
    "tax": tax.analyse,
    "transfer": transfer.analyse,
}
"""By the name that `hark study` takes."""
