"""The settings every stage has."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from hark.settings import Settings

Dtype = Literal["float32", "bfloat16"]


class StageSettings(Settings):
    """What every stage that makes a run directory can be told."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"output"})
    """Settings that no result depends on, and so no part of the fingerprint."""

    name: str = ""
    """A word of yours that ends the run directory's name."""

    output: Path = Path("runs")
    """The directory below which run directories are made."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of everything random in this stage."""

    device: str = "auto"
    """Where to compute: auto, cpu, cuda or cuda:1."""

    dtype: Dtype = "float32"
    """Precision of the arithmetic; weights being trained stay in float32."""


class DataStageSettings(StageSettings):
    """What every stage that reads files of records can be told as well."""

    on_bad_line: Literal["stop", "skip"] = "stop"
    """A malformed line of a data file: stop, or skip it and write it to a side file."""
