"""Where a run's time goes: the records of its `timing.jsonl`, and what they add up to.

A record covers everything since the one before it. Its phases include `other`, the time that none
of the others claims, so that shares add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hark.errors import RunError
from hark.runs.metrics import read_metrics

FILE = "timing.jsonl"
LEARNING = ("data", "forward_backward", "update")
"""The phases that tokens trained on are divided by."""
ASIDE = ("evaluation", "checkpoint")
"""The phases that are left out where useful arithmetic is divided by time."""


def step_record(
    phases: Mapping[str, float], *, tokens: int, useful_flops: int, peak_memory_bytes: int
) -> dict[str, float]:
    """What is written of one step; a rate over no time is not a number.

    phases: seconds of each, `other` included.
    """
    whole = sum(phases.values())
    return {
        **{f"{phase}_seconds": seconds for phase, seconds in phases.items()},
        **{f"{phase}_share": _rate(seconds, whole) for phase, seconds in phases.items()},
        "step_seconds": whole,
        "tokens_per_second": _rate(tokens, _seconds_in(phases, LEARNING)),
        "useful_flops_per_second": _rate(useful_flops, whole - _seconds_in(phases, ASIDE)),
        "peak_memory_bytes": peak_memory_bytes,
    }


def phases_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each phase in a record, `other` included."""
    return {
        name.removesuffix("_seconds"): seconds
        for name, seconds in record.items()
        if name.endswith("_seconds") and name != "step_seconds"
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpent:
    """Sums and means over the steps of a run."""

    seconds: float
    """Of all steps, with evaluations and checkpoints; without loading and saving models."""
    phases: Mapping[str, float]
    """Seconds of each phase, the longest first; they add up to `seconds`."""
    tokens_per_second: float | None
    """Tokens trained on by the time spent on making batches, passes and updates."""
    useful_flops_per_second: float | None
    """Useful arithmetic by the time spent, evaluations and checkpoints left out."""
    peak_memory_bytes: int | None
    """The most memory the first process had in use."""

    @classmethod
    def read(cls, run: Path) -> Self | None:
        """Of a run directory; None where no step was timed. Raises: RunError for a damaged file."""
        path = run / FILE
        try:
            return cls.of(read_metrics(path))
        except ValueError as error:
            raise RunError(f"'{path}' is damaged: {error}; without it the run is whole") from None

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]]) -> Self | None:
        """Of records; None where none of them says how long its step took."""
        timed = [(record, phases_of(record)) for record in records if record.get("step_seconds")]
        if not timed:
            return None
        seconds: dict[str, float] = {}
        for _, phases in timed:
            for phase, value in phases.items():
                seconds[phase] = seconds.get(phase, 0.0) + value
        whole = sum(seconds.values())
        return cls(
            seconds=whole,
            phases=dict(sorted(seconds.items(), key=lambda item: -item[1])),
            tokens_per_second=_mean(
                (record.get("tokens_per_second"), _seconds_in(phases, LEARNING))
                for record, phases in timed
            ),
            useful_flops_per_second=_mean(
                (
                    record.get("useful_flops_per_second"),
                    sum(phases.values()) - _seconds_in(phases, ASIDE),
                )
                for record, phases in timed
            ),
            peak_memory_bytes=max(
                (
                    record["peak_memory_bytes"]
                    for record, _ in timed
                    if "peak_memory_bytes" in record
                ),
                default=None,
            ),
        )

    @property
    def shares(self) -> dict[str, float]:
        """Of each phase in `seconds`."""
        return {phase: seconds / self.seconds for phase, seconds in self.phases.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a manifest or a command's line of JSON."""
        return {
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "useful_flops_per_second": self.useful_flops_per_second,
            "peak_memory_bytes": self.peak_memory_bytes,
            "phases": [
                {"phase": phase, "seconds": seconds, "share": self.shares[phase]}
                for phase, seconds in self.phases.items()
            ],
        }

    def describe(self) -> str:
        """`34.1 s: forward backward 78 %, update 15 %, other 7 %; 12.1 useful GFLOP/s`."""
        parts = [
            f"{phase_words(phase)} {100 * share:.0f} %"
            for phase, share in self.shares.items()
            if share >= 0.005
        ]
        rate = self.useful_flops_per_second
        useful = "" if rate is None else f"; {flops_words(rate)} of useful arithmetic"
        return f"{seconds_words(self.seconds)}: {', '.join(parts)}{useful}"


def phase_words(phase: str) -> str:
    """`forward and backward`, for a person."""
    return "forward and backward" if phase == "forward_backward" else phase


def seconds_words(seconds: float) -> str:
    """`2.1 ms`, `34.1 s`, `12:30 min` or `3:05:00 h`."""
    if seconds < 0.1:
        return f"{_short(1000 * seconds)} ms"
    if seconds < 100:
        return f"{_short(seconds)} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d} h" if hours else f"{minutes}:{left:02d} min"


def flops_words(rate: float) -> str:
    """`12.1 GFLOP/s` or `430 TFLOP/s`."""
    for unit, size in (("T", 1e12), ("G", 1e9)):
        if rate >= size:
            return f"{_short(rate / size)} {unit}FLOP/s"
    return f"{_short(rate / 1e6)} MFLOP/s"


def bytes_words(count: int) -> str:
    """`1.25 GiB` or `340 MiB`."""
    return f"{_short(count / 2**30)} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _short(value: float) -> str:
    """Three figures, or all before the point."""
    return f"{value:.3g}" if value < 99.95 else f"{value:,.0f}"


def _rate(amount: float, seconds: float) -> float:
    return amount / seconds if seconds > 0 else math.nan


def _seconds_in(phases: Mapping[str, float], names: Iterable[str]) -> float:
    return sum(phases.get(name, 0.0) for name in names)


def _mean(rates: Iterable[tuple[float | None, float]]) -> float | None:
    """The rate over all the time that single rates, where they are defined, were taken over."""
    defined = [(rate, seconds) for rate, seconds in rates if rate is not None and seconds > 0]
    total = sum(seconds for _, seconds in defined)
    return sum(rate * seconds for rate, seconds in defined) / total if total else None
