"""Where the time of training went: a bar for each phase, and a table for each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.ticker import MaxNLocator, PercentFormatter

from hark.report.drawing import QUIET, Figure, canvas, colour, finish
from hark.report.page import Facts
from hark.report.run_record import RunRecord
from hark.runs.timing import TimeSpent, bytes_words, flops_words, phase_words, seconds_words

Named = Sequence[tuple[str, RunRecord]]
"""Runs with what each is called."""


def time_figures(runs: Named) -> Iterator[Figure]:
    """A figure for each stage that has steps; its runs are the colours."""
    for stage in dict.fromkeys(run.manifest.stage for _, run in runs):
        spent = {
            name: run.time
            for name, run in runs
            if run.manifest.stage == stage and run.time is not None
        }
        if spent:
            yield phase_shares(stage, spent)


def time_facts(runs: Named) -> Iterator[Facts]:
    """Seconds and share of each phase of each run, and the rates it reached."""
    for name, run in runs:
        if run.time is not None:
            yield Facts(title=f"Time of {name}", rows=tuple(_rows(run.time)))


def phase_shares(stage: str, spent: Mapping[str, TimeSpent]) -> Figure:
    """A group of bars for each phase, one for each run; the longest phase on top."""
    phases = list(dict.fromkeys(phase for each in spent.values() for phase in each.phases))
    thickness = 0.8 / len(spent)
    with canvas(height_inches=0.9 + (0.22 + 0.1 * len(spent)) * len(phases)) as drawing:
        axes = drawing.subplots()
        for number, (name, each) in enumerate(spent.items()):
            offset = (number - (len(spent) - 1) / 2) * thickness
            shares = [100 * each.shares.get(phase, 0.0) for phase in phases]
            bars = axes.barh(
                [place + offset for place in range(len(phases))], shares, height=0.9 * thickness,
                color=colour(number), linewidth=0, label=name,
            )  # fmt: skip
            axes.bar_label(
                bars, [f"{share:.1f}" if share else "" for share in shares], padding=3, color=QUIET
            )
        axes.set_yticks(range(len(phases)), [phase_words(phase) for phase in phases])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
        axes.set_xlabel("share of the time of all steps")
        if len(spent) > 1:
            axes.legend(loc="lower right")
        return finish(
            drawing, name=f"{stage}-time", title=f"{_finding(spent)} ({stage})",
            caption="; ".join(_told(name, each) for name, each in spent.items()) + ".",
        )  # fmt: skip


def _finding(spent: Mapping[str, TimeSpent]) -> str:
    """Which phase takes most, where it is the same in all runs."""
    longest = {next(iter(each.phases)) for each in spent.values()}
    if len(longest) > 1:
        return "Where time goes"
    [phase] = longest
    shares = sorted({f"{100 * each.shares[phase]:.0f}" for each in spent.values()}, key=float)
    told = shares[0] if len(shares) == 1 else f"{shares[0]} to {shares[-1]}"
    words = phase_words(phase)
    verb = "take" if " and " in words else "takes"
    return f"{words[:1].upper()}{words[1:]} {verb} {told} % of the time"


def _told(name: str, spent: TimeSpent) -> str:
    rate = spent.useful_flops_per_second
    useful = "" if rate is None else f", {flops_words(rate)} of useful arithmetic"
    return f"{name}: {seconds_words(spent.seconds)}{useful}"


def _rows(spent: TimeSpent) -> Iterator[tuple[str, str]]:
    for phase, seconds in spent.phases.items():
        share = 100 * spent.shares[phase]
        yield phase_words(phase), f"{seconds_words(seconds)} ({share:.1f} %)"
    yield "all steps", seconds_words(spent.seconds)
    if spent.useful_flops_per_second is not None:
        yield "useful arithmetic", flops_words(spent.useful_flops_per_second)
    if spent.tokens_per_second is not None:
        yield "tokens trained on", f"{spent.tokens_per_second:,.0f} a second"
    if spent.peak_memory_bytes is not None:
        yield "peak memory", bytes_words(spent.peak_memory_bytes)
