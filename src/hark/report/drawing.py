"""Drawings as SVG text that takes its colours and fonts from the page.

Matplotlib draws with the fixed colours of `INKS`; afterwards each becomes a variable of the page's
style sheet, so that one drawing serves light, dark and printed pages. The same numbers give the
same bytes.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

INK, QUIET, RULE = "#1d2126", "#6b7178", "#d9d7d0"
SERIES = ("#0a6ebd", "#c8500a", "#008060", "#a64d8a", "#8a6d00", "#5b5bd0")
"""Told apart under the common colour-vision deficiencies (after Okabe and Ito), and by dashes."""
DASHES = ("-", (0, (5, 1.6)), (0, (5, 1.6, 1, 1.6)), (0, (1.2, 1.4)), (0, (8, 2)), (0, (3, 2)))
MARKERS = ("o", "s", "D", "^", "v", "P")

INKS = {INK: "ink", QUIET: "quiet", RULE: "rule"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES)
}

WIDTH_INCHES = 5.2
"""At which ten-point text is still readable when a phone shrinks the drawing to its screen."""

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a policy may have dollars in its name
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing ready for the page."""

    name: str
    """Short and unique on its page: the anchor."""
    title: str
    """What the figure shows, as a finding."""
    caption: str
    """How to read it: what the marks are, what the intervals mean."""
    svg: str


@contextlib.contextmanager
def canvas(height_inches: float = 3.1) -> Iterator[Canvas]:
    """A matplotlib figure in the style of the reports, whatever the person's own settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield Canvas(figsize=(WIDTH_INCHES, height_inches))


def finish(drawing: Canvas, *, name: str, title: str, caption: str) -> Figure:
    """Turn a drawing into SVG; call it while `canvas` is open."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawing.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return Figure(name=name, title=title, caption=caption, svg=_for_page(buffer.getvalue(), title))


def save(drawing: Canvas, path: Path) -> None:
    """Write a drawing as a PNG on white, for pages that are not ours; call it inside `canvas`."""
    drawing.savefig(path, format="png", dpi=160, facecolor="white", metadata={"Software": None})


def colour(number: int) -> str:
    """The ink of the series `number`, from 0; they repeat after six."""
    return SERIES[number % len(SERIES)]


def _for_page(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style .*?</style>", "", svg, flags=re.DOTALL)
    # Matplotlib numbers its groups the same way in every drawing; on one page they would collide.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'\swidth="[\d.]+pt"|\sheight="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"(font-family: )[^;\"]+", r"\1inherit", svg)
    svg = re.sub(r"(font: (?:[\w.]+ )*?[\d.]+px) [^;\"]+", r"\1 var(--sans)", svg)
    for hexadecimal, variable in INKS.items():
        svg = re.sub(hexadecimal, f"var(--{variable})", svg, flags=re.IGNORECASE)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_attribute(title)}"', 1).strip()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
