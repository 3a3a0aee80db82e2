"""Results as Markdown: a heading, what was measured where, and a table."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import Result, best_against_best
from benchmarks.rounds import Spread

TITLE = """# Performance

hark beside its peers: the same work, on the same machine, in one run, taking turns. Each section is
the output of a command of `benchmarks/` (`make bench` runs them all). Rates are medians over the
repetitions. Ratios are taken within each round, and their range is given. Useful FLOP/s count what
the work cannot be done without, padding and repeated prompts left out, and stand beside the rate of
matrix products measured between the rounds.
"""
HEADINGS = (
    "precision", "hark, {unit}/s", "{peer}, {unit}/s", "ratio (range)",
    "hark, useful GFLOP/s", "{peer}, useful GFLOP/s",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished benchmark."""

    workload: str
    peer: str
    unit: str
    circumstances: Sequence[str]
    """Sentences: the machine, the model, the data, the settings."""
    results: Sequence[Result]

    def markdown(self, day: datetime.date) -> str:
        """A section with one row for each precision, and one for best against best."""
        rows = [_row(result) for result in self.results]
        if len(self.results) > 1:
            best = best_against_best(self.results)
            rows.append(("best against best", "", "", _range(best), "", ""))
        names = [name.format(unit=self.unit, peer=self.peer) for name in HEADINGS]
        notes = [*self.circumstances, *(note for each in self.results for note in _notes(each))]
        return "\n".join(
            [
                f"## {self.workload} ({day.isoformat()})",
                "",
                *table(names, rows),
                "",
                *(f"* {note}" for note in notes),
                "",
            ]
        )

    def publish(self, page: Path | None) -> None:
        """Print the section and, where a page is named, add it there."""
        publish(self.markdown(datetime.datetime.now(datetime.UTC).date()), page)


def publish(section: str, page: Path | None) -> None:
    """Print a section and, where a page is named, add it there."""
    print(section)
    if page is not None:
        before = page.read_text() if page.exists() else TITLE
        page.write_text(f"{before.rstrip()}\n\n{section}")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _row(result: Result) -> tuple[str, ...]:
    ours, theirs = result.useful_rates()
    return (
        result.dtype,
        _number(result.ours.median),
        _number(result.theirs.median),
        _range(result.ratio),
        _share(ours, result.product_rate.median),
        _share(theirs, result.product_rate.median),
    )


def _notes(result: Result) -> list[str]:
    tried = ", ".join(f"{name} {_number(rate)}" for name, rate in result.tried.items())
    products = ", ".join(
        f"{value / 1e9:.0f}"
        for value in (
            result.product_rate.median, result.product_rate.low, result.product_rate.high
        )
    )  # fmt: skip
    return [
        f"{result.dtype}: {len(result.rounds)} rounds; matrix products {products} GFLOP/s (median, "
        f"lowest, highest); settings of the peer tried, with their rates in one repetition: "
        f"{tried}; taken: {result.setting}; {result.agreement}",
    ]


def _range(spread: Spread) -> str:
    return f"**{spread.median:.2f}** ({spread.low:.2f} to {spread.high:.2f})"


def _share(rate: float, products: float) -> str:
    return f"{rate / 1e9:.1f} ({rate / products:.0%})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
