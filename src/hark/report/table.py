"""The table of policies: the same columns on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from hark.evaluation.intervals import NOTHING, Estimate
from hark.evaluation.policies import PolicyEvaluation

NOT_MEASURED = "–"


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one cell."""

    value: str
    detail: str = ""
    """The interval, or why there is none; smaller, below the value."""
    short: str = ""
    """The same in few characters, for a terminal."""


@dataclass(frozen=True, slots=True)
class Column:
    """One measure of all policies."""

    heading: str
    meaning: str
    """One line: unit, direction, what the interval is."""
    cell: Callable[[PolicyEvaluation], Cell]


def columns(rows: Sequence[PolicyEvaluation], *, baseline: str) -> list[Column]:
    """The columns in which at least one policy was measured."""

    def numbers(name: str, digits: int) -> Callable[[PolicyEvaluation], Cell]:
        return lambda row: number_cell(getattr(row, name), digits=digits)

    candidates = {
        "win_rate": Column(
            f"Win rate vs {baseline}",
            f"share of prompts on which the reply is preferred to {baseline}’s; "
            "ties count one half",
            lambda row: _win_rate_cell(row, baseline),
        ),
        "judge_score": Column(
            "Judge", "mean score by the judge; higher is better", numbers("judge_score", 3)
        ),
        "helpfulness": Column(
            "Helpful", "mean gold grade of helpfulness; higher is better", numbers("helpfulness", 2)
        ),
        "harmlessness": Column(
            "Harmless",
            "mean gold grade of harmlessness; higher is better",
            numbers("harmlessness", 2),
        ),
        "preference_score": Column(
            "PM score",
            "mean score by the preference model that training maximised",
            numbers("preference_score", 2),
        ),
        "divergence": Column(
            "KL", "KL from the reference policy, nats a response", numbers("divergence", 2)
        ),
        "language_loss": Column(
            "Text loss",
            "loss on held-out text, nats a token; lower is better",
            numbers("language_loss", 3),
        ),
        "multiple_choice": Column(
            "Choices",
            "share of multiple-choice questions whose right option is the likeliest",
            lambda row: rate_cell(row.multiple_choice or NOTHING),
        ),
        "response_words": Column(
            "Words", "mean length of a reply; judges tend to like long ones",
            numbers("response_words", 1),
        ),
    }  # fmt: skip
    return [
        column
        for name, column in candidates.items()
        if any(getattr(row, name) is not None for row in rows)
    ]


def number_cell(estimate: Estimate | None, *, digits: int) -> Cell:
    """`1.23` over `1.10 to 1.36`."""
    if estimate is None or estimate.value is None:
        return Cell(NOT_MEASURED, "" if estimate is None else estimate.state)
    value = _number(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return Cell(value, estimate.state, "" if estimate.state == "exact" else estimate.state)
    return Cell(
        value,
        f"{_number(estimate.low, digits)} to {_number(estimate.high, digits)}",
        f"±{(estimate.high - estimate.low) / 2:.{digits}f}",
    )


def rate_cell(estimate: Estimate) -> Cell:
    """`63.4 %` over `57 to 69`."""
    if estimate.value is None:
        return Cell(NOT_MEASURED, estimate.state)
    value = f"{100 * estimate.value:.1f} %"
    if estimate.low is None or estimate.high is None:
        return Cell(value, estimate.state, estimate.state)
    low, high = f"{100 * estimate.low:.1f}", f"{100 * estimate.high:.1f}"
    return Cell(value, f"{low} to {high}", f"{low}–{high}")


def terminal_table(rows: Sequence[PolicyEvaluation], *, baseline: str) -> Table:
    """The table for a terminal, as rich draws it: 80 characters suffice.

    Intervals of win rates are given by their ends, the others by half their width.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("Policy", no_wrap=True)
    shown = columns(rows, baseline=baseline)
    for column in shown:
        longest = max(len(word) for word in column.heading.split())
        table.add_column(column.heading, justify="right", min_width=longest)
    for row in rows:
        table.add_row(Text(row.name), *(_terminal_cell(column.cell(row)) for column in shown))
    return table


def _terminal_cell(cell: Cell) -> Text:
    lines = [Text(cell.value, no_wrap=True), Text(cell.short, style="dim", no_wrap=True)]
    return Text("\n", no_wrap=True).join(lines)


def _win_rate_cell(row: PolicyEvaluation, baseline: str) -> Cell:
    if row.win_rate is None:
        detail = "the baseline" if row.name == baseline else ""
        return Cell(NOT_MEASURED, detail, detail.removeprefix("the "))
    return rate_cell(row.win_rate.estimate)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")
