"""The clock of a training loop: phases, useful arithmetic, memory, and a trace where one is asked.

Time and memory are those of this process, and of several the first one's are kept; tokens and
arithmetic are those of all. On a GPU the clock is read once the work given to it is done.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import profile, record_function, schedule

from hark.models.processes import is_first
from hark.runs.files import atomic_directory
from hark.runs.run import Run
from hark.runs.timing import bytes_words, step_record

OPERATORS_SHOWN = 60


class Stopwatch:
    """What the time since the last record went to."""

    def __init__(
        self, device: torch.device | None = None, *, profiler: profile | None = None
    ) -> None:
        self.steps = 0
        """Steps that have ended."""
        self._device = device
        self._profiler = profiler
        self._seconds: dict[str, float] = {}
        self._tokens = self._useful_flops = 0
        self._began = self._now()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The block is part of the phase `name`; phases do not overlap."""
        annotated = contextlib.nullcontext() if self._profiler is None else record_function(name)
        began = self._now()
        try:
            with annotated:
                yield
        finally:
            passed = self._now() - began
            self._seconds[name] = self._seconds.get(name, 0.0) + passed

    def count(self, *, tokens: int, useful_flops: int) -> None:
        """Add what was trained on, and all useful arithmetic that was done, in all processes."""
        self._tokens += tokens
        self._useful_flops += useful_flops

    def take(self) -> dict[str, float]:
        """The record of a step that ends here; starts afresh."""
        whole = self._now() - self._began
        record = step_record(
            self._seconds | {"other": whole - sum(self._seconds.values())},
            tokens=self._tokens,
            useful_flops=self._useful_flops,
            peak_memory_bytes=peak_memory_bytes(self._device),
        )
        self._seconds.clear()
        self._tokens = self._useful_flops = 0
        self.steps += 1
        if self._profiler is not None:
            self._profiler.step()
        # Writing a trace is nobody's time.
        self._began = self._now()
        return record

    def _now(self) -> float:
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@contextlib.contextmanager
def steps_watched(run: Run, device: torch.device, *, profile_steps: int) -> Iterator[Stopwatch]:
    """A stopwatch for the steps in the block; of `profile_steps` after the first it makes a trace.

    The trace is in the run's `profile/`: `trace.json.gz`, and `operators.txt`, a table.
    """
    if profile_steps == 0 or not is_first():
        yield Stopwatch(device)
        return

    def write(recorded: profile) -> None:
        if watch.steps > 1:
            write_profile(recorded, run.profile_path, device)

    # The first step allocates and compiles what the others find ready.
    plan = schedule(wait=0, warmup=1, active=profile_steps, repeat=1)
    with profile(schedule=plan, on_trace_ready=write, profile_memory=True) as profiler:
        watch = Stopwatch(device, profiler=profiler)
        yield watch
    if watch.steps < 2:
        print(
            "profile_steps: no trace was written, which needs at least two steps still to be taken",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def write_profile(recorded: profile, directory: Path, device: torch.device) -> None:
    """Write the trace and the table of a profile. Raises: RunError if the disk refuses."""
    which = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table = recorded.key_averages().table(sort_by=which, row_limit=OPERATORS_SHOWN)
    with atomic_directory(directory) as aside:
        recorded.export_chrome_trace(str(aside / "trace.json.gz"))
        (aside / "operators.txt").write_text(
            f"Peak memory so far: {bytes_words(peak_memory_bytes(device))}\n{table}\n",
            encoding="utf-8",
        )


def peak_memory_bytes(device: torch.device | None) -> int:
    """The most memory in use so far: on a GPU by tensors, else by this whole process."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
