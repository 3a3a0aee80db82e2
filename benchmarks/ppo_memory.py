"""The memory of PPO, term by term: what is forecast beside what a run takes.

    python -m benchmarks.ppo_memory [--model SFT_RUN --data PROMPTS ...]

The terms of `hark plan` beside two PPO runs of a few steps, for each precision. In one, torch's
profiler records every allocation of a tensor. In the other the kernel says the most memory that the
process had in each phase (Linux), less what it had before any model was loaded; before a phase,
what the allocator only keeps in store is given back.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import datetime
import gc
import itertools
import multiprocessing
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import sides
from benchmarks.inputs import Inputs, scalar_model
from benchmarks.machine import Machine
from benchmarks.options import pages, parser, set_up
from benchmarks.table import publish, table
from hark.data.formats import write_prompts
from hark.data.records import Prompt
from hark.loop.forecast.hardware import load_hardware
from hark.loop.forecast.lengths import Said
from hark.loop.forecast.memory import MemoryTerm
from hark.loop.forecast.prediction import Question, forecast
from hark.loop.plan import Plan, Request, plan_recipe
from hark.loop.recipe import load_recipe
from hark.loop.stages import run_stage
from hark.runs.metrics import read_metrics
from hark.training.stopwatch import Stopwatch

PHASES = {
    "generate": "generating",
    "score": "scoring",
    "reference": "scoring",
    "value": "scoring",
    "update": "training",
}
"""Phase of a step → when its terms are there, in the words of `forecast.memory`."""
MIB = 2**20
MARK = "phase "


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings={}, tried=())
    options.add_argument("--episodes", type=int, default=64, help="of a step, trained on together")
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--tokens", type=int, default=128, help="of a response, at most")
    asked = options.parse_args()
    set_up(asked)
    work = sides.work_directory(asked, "ppo-memory")
    inputs = Inputs.of(asked)
    prompts = inputs.prompts(asked.steps * asked.episodes, room=asked.tokens)
    write_prompts(work / "prompts.jsonl", [Prompt(prompt=dialogue) for dialogue, _ in prompts])
    judge = scalar_model(inputs, work / "preference-model")
    parameters = inputs.model.num_parameters()
    model = str(inputs.directory)
    del inputs
    sections = [f"## PPO's memory ({datetime.datetime.now(datetime.UTC).date().isoformat()})", ""]
    for dtype in asked.dtypes:
        plan = _plan(asked, work, model, str(judge), dtype)
        sections += [*_compared(plan, asked.threads, dtype), ""]
    sections += [
        f"* {Machine.here()}; {asked.threads} threads, huge pages {pages(asked)}; "
        f"torch {torch.__version__}",
        f"* policy of {parameters / 1e6:.1f} M parameters, critic and preference model of the same "
        f"shape; {asked.episodes} episodes a step in one minibatch, prompts of "
        f"{statistics.mean(len(tokens) for _, tokens in prompts):.0f} tokens on average",
        "",
    ]
    publish("\n".join(sections), asked.append)


def _plan(asked: Any, work: Path, model: str, judge: str, dtype: str) -> Plan:
    stage = {
        "stage": "ppo", "model": model, "preference_model": [judge], "device": "cpu",
        "data": str(work / "prompts.jsonl"), "output": str(work / "runs"), "dtype": dtype,
        "seed": asked.seed, "total_episodes": asked.steps * asked.episodes,
        "batch_episodes": asked.episodes, "minibatch_episodes": asked.episodes,
        "max_response_tokens": asked.tokens, "incomplete_responses": "keep",
    }  # fmt: skip
    recipe = work / f"{dtype}.yaml"
    recipe.write_text(yaml.safe_dump({"name": "memory", "stages": {"ppo": stage}}))
    return plan_recipe(load_recipe(str(recipe)), Request())


def _compared(plan: Plan, threads: int, dtype: str) -> list[str]:
    """A table of the terms, and one of the phases."""
    before, process, drawn = _fresh(_process_peaks, plan, threads)
    tensors = _fresh(_tensor_peaks, plan, threads)
    question = Question(
        device=load_hardware().device(f"cpu-{threads}"), devices=1, price_per_hour=0.0,
        said=Said(response_tokens={"ppo": round(drawn)}, prompt_tokens={}, examples={}),
    )  # fmt: skip
    terms = [term for term, _ in forecast(plan, question).stages[0].memory]
    rows = [(term.when, term.name, f"{term.bytes / MIB:,.0f}") for term in terms]
    phases = [
        (name, *(f"{size / MIB:,.0f}" for size in (
            expected(terms, when), tensors[name], process[name] - before
        )))
        for name, when in PHASES.items()
    ]  # fmt: skip
    return [
        f"{dtype}; the process has {before / MIB:,.0f} MiB before any model; responses of "
        f"{drawn:.0f} tokens on average:",
        "",
        *table(("there", "term", "forecast, MiB"), rows),
        "",
        *table(("phase", "forecast, MiB", "tensors at most, MiB", "process at most, MiB"), phases),
    ]


def _fresh(measure: Callable[[Plan, int], Any], plan: Plan, threads: int) -> Any:
    """`measure` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (plan, threads))


def _process_peaks(plan: Plan, threads: int) -> tuple[int, dict[str, int], float]:
    """Bytes of the process before anything, at most in each phase; and mean response tokens."""
    torch.set_num_threads(threads)
    (stage,) = plan.stages
    before = memory_now()
    peaks: dict[str, int] = {}

    def began() -> None:
        give_back()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now

    def ended(name: str) -> None:
        peaks[name] = max(peaks.get(name, 0), _status("VmHWM"))

    with phases_watched(began, ended):
        outcome = run_stage(stage.kind, stage.settings, command=["benchmarks"])
    records = read_metrics(outcome.run_path / "metrics.jsonl")
    drawn = [record["response_tokens"] for record in records if "response_tokens" in record]
    return before, peaks, statistics.mean(drawn)


def _tensor_peaks(plan: Plan, threads: int) -> dict[str, int]:
    """Bytes of tensors, at most in each phase, from the profiler's record of all allocations."""
    torch.set_num_threads(threads)
    (stage,) = plan.stages
    names: list[str] = []
    # Not the run of before: that one is complete.
    settings = stage.settings.model_copy(update={"seed": stage.settings.seed + 1})
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        marks: list[Any] = []

        def began() -> None:
            marks.append(record_function(f"{MARK}{len(names)}").__enter__())

        def ended(name: str) -> None:
            marks.pop().__exit__(None, None, None)
            names.append(name)

        with phases_watched(began, ended):
            run_stage(stage.kind, settings, command=["benchmarks"])
    return _most_in_each(recorded, names)


def _most_in_each(recorded: profile, names: Sequence[str]) -> dict[str, int]:
    events = recorded.profiler.kineto_results.events()
    spans = [
        (event.start_ns(), event.start_ns() + event.duration_ns(),
         names[int(event.name().removeprefix(MARK))])
        for event in events if event.name().startswith(MARK)
    ]  # fmt: skip
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    times = [when for when, _ in changes]
    held = list(itertools.accumulate(change for _, change in changes))
    peaks: dict[str, int] = {}
    for begin, end, name in spans:
        inside = held[bisect.bisect_left(times, begin) : bisect.bisect_right(times, end)]
        peaks[name] = max([peaks.get(name, 0), *inside])
    return peaks


def expected(terms: list[MemoryTerm], when: str) -> float:
    """Bytes of a phase: what is always there, and its own."""
    return sum(term.bytes for term in terms if term.when in ("always", when))


@contextlib.contextmanager
def phases_watched(began: Callable[[], None], ended: Callable[[str], None]) -> Iterator[None]:
    """While the block goes on, hear when phases of a stopwatch begin and which have ended."""
    timed = Stopwatch.phase

    @contextlib.contextmanager
    def phase(watch: Stopwatch, name: str) -> Iterator[None]:
        began()
        with timed(watch, name):
            yield
        ended(name)

    with patch.object(Stopwatch, "phase", phase):
        yield


def give_back() -> None:
    """What was freed goes back to the kernel."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def memory_now() -> int:
    """Bytes of this process that are in memory."""
    return _status("VmRSS")


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, f"the kernel does not say {field}"
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
