"""Figures as SVG inside a page, drawn by CSS classes, which the page's style sheet colours.

Each has a title for those who cannot see it; the page gives the numbers in a table as well.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup

from hark.feedback.statistics_progress import History

WIDTH: Final = 720.0
LEFT, RIGHT = 56.0, 20.0
"""Room beside the field of a chart, in units of the drawing."""
TOP, BOTTOM = 14.0, 30.0
TIME_WIDTH: Final = 100.0
"""Room for "31 Jan 14:05" and a gap, as the widest fonts draw it."""
ROW: Final = 30.0
"""Height of one line of a chart of intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One line of a chart of intervals."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    """Beside the mark: the number, or why there is none."""


class Drawing:
    """An SVG element that grows."""

    def __init__(self, width: float, height: float, title: str) -> None:
        view = f"0 0 {width:g} {height:g}"
        self.root = ET.Element("svg", {"viewBox": view, "role": "img", "class": "chart"})
        ET.SubElement(self.root, "title").text = title

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line of a CSS class."""
        self._add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def box(
        self, x: float, y: float, width: float, height: float, kind: str, tip: str = ""
    ) -> None:
        """A rectangle; `tip` is shown when pointed at."""
        self._add("rect", kind, tip, x=x, y=y, width=max(width, 0), height=max(height, 0))

    def dot(self, x: float, y: float, kind: str, tip: str = "") -> None:
        """A point."""
        self._add("circle", kind, tip, cx=x, cy=y, r=5)

    def text(self, x: float, y: float, words: str, kind: str, anchor: str = "start") -> None:
        """Words; `anchor` is what lies at x: start, middle or end."""
        element = self._add("text", kind, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = words

    def markup(self) -> Markup:
        """For a template."""
        return Markup(ET.tostring(self.root, encoding="unicode"))

    def _add(self, name: str, kind: str, tip: str = "", **places: float) -> ET.Element:
        attributes = {key: f"{value:.1f}" for key, value in places.items()}
        element = ET.SubElement(self.root, name, {"class": kind, **attributes})
        if tip:
            ET.SubElement(element, "title").text = tip
        return element


def history_chart(history: History) -> Markup:
    """Labels of each spell as bars."""
    height, counts = 180.0, history.counts
    top = nice_ceiling(max(counts))
    drawing = Drawing(WIDTH, height, f"Labels per {spell(history.seconds)}, {sum(counts)} in all")
    field = height - TOP - BOTTOM
    for tick in sorted({0, top / 2, top} if top % 2 == 0 else {0, top}):
        y = TOP + field * (1 - tick / top)
        drawing.line(LEFT, y, WIDTH - RIGHT, y, "grid")
        drawing.text(LEFT - 8, y + 4, f"{tick:g}", "tick", "end")
    slots = max(len(counts), 12)  # A study of a minute is not one bar as wide as the page.
    width = (WIDTH - LEFT - RIGHT) / slots
    for number, count in enumerate(counts):
        x, tall = LEFT + number * width, field * count / top
        when = clock_time(history.start + number * history.seconds, history.seconds)
        if count:
            drawing.box(x + 1, TOP + field - tall, width - 2, tall, "bar", f"{when}: {count}")
    # Labels stand no nearer to each other than one is wide, however few bars there are.
    every = max(1, math.ceil(TIME_WIDTH / width))
    for number in range(0, len(counts), every):
        x = LEFT + number * width + 1
        if x + TIME_WIDTH <= WIDTH + RIGHT:
            when = clock_time(history.start + number * history.seconds, history.seconds)
            drawing.text(x, height - 10, when, "tick")
    return drawing.markup()


def interval_chart(
    marks: Sequence[Mark],
    *,
    title: str,
    ticks: Sequence[float],
    reference: float | None = None,
    name_width: float = 230.0,
    note_width: float = 150.0,
    say: Callable[[float], str] = "{:g}".format,
) -> Markup:
    """Values with their intervals on one scale, from the first tick to the last.

    reference: where a dashed line is drawn, such as chance.
    """
    height = TOP + ROW * len(marks) + BOTTOM
    drawing = Drawing(WIDTH, height, title)
    start, end = name_width, WIDTH - note_width
    low, high = ticks[0], ticks[-1]

    def at(value: float) -> float:
        inside = min(max(value, low), high)
        return start + (end - start) * (inside - low) / (high - low)

    for tick in ticks:
        drawing.line(at(tick), TOP, at(tick), height - BOTTOM, "grid")
        drawing.text(at(tick), height - 10, say(tick), "tick", "middle")
    if reference is not None:
        drawing.line(at(reference), TOP - 6, at(reference), height - BOTTOM, "reference")
    for number, mark in enumerate(marks):
        y = TOP + ROW * (number + 0.5)
        drawing.text(start - 12, y + 4, shortened(mark.name, name_width / 7.6), "name", "end")
        if mark.low is not None and mark.high is not None:
            drawing.line(at(mark.low), y, at(mark.high), y, "interval")
        if mark.value is not None:
            drawing.dot(at(mark.value), y, "value", f"{mark.name}: {mark.note}")
        drawing.text(end + 14, y + 4, mark.note, "note" if mark.value is not None else "none")
    return drawing.markup()


def progress_bar(filled: int, open_: int, places: int) -> Markup:
    """Places filled and in hand, of all."""
    drawing = Drawing(WIDTH, 18, f"{filled} of {places} places filled, {open_} in hand")
    drawing.box(0, 0, WIDTH, 18, "empty")
    if places:
        drawing.box(0, 0, WIDTH * filled / places, 18, "bar")
        drawing.box(WIDTH * filled / places, 0, WIDTH * open_ / places, 18, "held")
    return drawing.markup()


def nice_ceiling(value: float) -> float:
    """The least of 1, 2, 4, 6, 8, 10, 20, 40, … that is not below `value`."""
    if value <= 1:
        return 1
    size = 10 ** math.floor(math.log10(value))
    return float(next(size * one for one in (1, 2, 4, 6, 8, 10) if size * one >= value))


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that enclose an interval, about as many as wanted."""
    span = max(high - low, 1e-9)
    raw = span / wanted
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * one for one in (1, 2, 2.5, 5, 10) if size * one >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def shortened(text: str, characters: float) -> str:
    """With an ellipsis in place of what does not fit."""
    most = int(characters)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def spell(seconds: float) -> str:
    """A length of time in the largest unit that it fills: "hour", "5 minutes"."""
    for unit, length in (("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = round(seconds / length)
            return unit if number == 1 else f"{number} {unit}s"
    return f"{seconds:.0f} seconds"


def clock_time(at: float, seconds: float) -> str:
    """When a spell of so many seconds begins, as exactly as it needs; UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%d %b" if seconds >= 86400 else "%d %b %H:%M")
