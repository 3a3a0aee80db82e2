"""One self-contained HTML page: no script, no font, no image is fetched from anywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hark.data.records import Dialogue
from hark.errors import RunError
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.samples import Sample, side_by_side
from hark.report.drawing import Figure
from hark.report.run_record import RunRecord
from hark.report.table import columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A small table of names and values, such as the results of one run."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a page holds, in the order in which it is read; empty parts are left out."""

    title: str
    summary: tuple[str, ...] = ()
    """Sentences that say what was found."""
    policies: tuple[PolicyEvaluation, ...] = ()
    """Rows of the table, in the order to show."""
    baseline: str = ""
    """Name of the policy that win rates are against."""
    figures: tuple[Figure, ...] = ()
    training_figures: tuple[Figure, ...] = ()
    """Curves of the single stages, smaller and further down."""
    time_figures: tuple[Figure, ...] = ()
    """Where the time of training went."""
    time_facts: tuple[Facts, ...] = ()
    """The same in numbers, a table for each run."""
    facts: tuple[Facts, ...] = ()
    samples: tuple[Sample, ...] = ()
    """Replies to show side by side; those with the same prompt share a row."""
    notes: tuple[str, ...] = ()
    """What to keep in mind when reading the numbers."""
    next_steps: tuple[tuple[str, str], ...] = ()
    """What to do next: an explanation and the command that does it (may be empty)."""
    runs: tuple[RunRecord, ...] = ()
    """Where the numbers come from."""


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all.

    Raises: RunError if the disk refuses.
    """
    html = render(report)
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8", errors="replace") as file:
            file.write(html)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise RunError(
            f"cannot write '{path}': {error.strerror}; free some space or choose another --output"
        ) from None


def render(report: Report) -> str:
    """The page as text; every word that a model or a person wrote is escaped."""
    shown = columns(report.policies, baseline=report.baseline)
    return _environment().get_template("page.html").render(
        report=report,
        columns=shown,
        rows=[(row.name, [column.cell(row) for column in shown]) for row in report.policies],
        figures=[(figure, Markup(figure.svg)) for figure in report.figures],
        training_figures=[(figure, Markup(figure.svg)) for figure in report.training_figures],
        time_figures=[(figure, Markup(figure.svg)) for figure in report.time_figures],
        samples=[(_turns(prompt), replies) for prompt, replies in side_by_side(report.samples)],
    )  # fmt: skip


def visible(text: str) -> str:
    """Show control characters by their pictures (␀, ␛), so that no reply breaks the page."""
    return "".join(
        chr(0x2400 + ord(character)) if ord(character) < 32 and character not in "\n\t" else
        character for character in text
    )  # fmt: skip


def pick_samples(samples: Sequence[Sample], prompts: int) -> tuple[Sample, ...]:
    """The samples of `prompts` prompts spread evenly over all, policies kept together."""
    groups = side_by_side(samples)
    step = max(len(groups) / max(prompts, 1), 1.0)
    places = sorted({int(number * step) for number in range(min(prompts, len(groups)))})
    return tuple(sample for place in places for sample in groups[place][1])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hark", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["tied"] = _tied
    environment.filters["score"] = _score
    return environment


def _tied(text: str) -> str:
    """Keep a number and its per cent sign on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _score(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _turns(prompt: Dialogue) -> list[dict[str, Any]]:
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return [{"who": names[message.role], "text": message.content} for message in prompt]
