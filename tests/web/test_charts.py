"""Figures: what is drawn where, and that text stays text."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from hark.feedback.statistics_progress import History
from hark.web.charts import (
    Mark,
    history_chart,
    interval_chart,
    nice_ceiling,
    nice_ticks,
    progress_bar,
    spell,
)


def elements(markup: str, kind: str) -> list[dict[str, str]]:
    return [one.attrib for one in ET.fromstring(markup).iter() if one.get("class") == kind]


def test_bars_are_as_tall_as_their_counts() -> None:
    drawn = history_chart(History(start=0.0, seconds=60.0, counts=(2, 0, 4)))
    short, tall = elements(drawn, "bar")
    assert float(tall["height"]) == pytest.approx(2 * float(short["height"]))
    assert float(short["y"]) + float(short["height"]) == pytest.approx(
        float(tall["y"]) + float(tall["height"])
    )


@pytest.mark.parametrize("bars", [1, 2, 3, 5, 12, 13, 48])
@pytest.mark.parametrize("seconds", [60.0, 86400.0])
def test_times_under_bars_stand_apart_and_inside(bars: int, seconds: float) -> None:
    drawn = history_chart(History(start=1.8e9, seconds=seconds, counts=(1,) * bars))
    under = [float(one["x"]) for one in elements(drawn, "tick") if one["text-anchor"] == "start"]
    assert under
    assert all(later - one >= 90 for one, later in itertools.pairwise(under))
    assert under[-1] + 80 <= 720  # "31 Jan 14:05" is 66 wide at 11.5 px


def test_an_interval_lies_around_its_value_and_a_missing_one_says_why() -> None:
    marks = [Mark(name="m", value=0.5, low=0.25, high=0.75), Mark(name="n", value=None, note="why")]
    drawn = interval_chart(marks, title="t", ticks=[0.0, 1.0], reference=0.0)
    (line,) = elements(drawn, "interval")
    (dot,) = elements(drawn, "value")
    assert float(dot["cx"]) == pytest.approx((float(line["x1"]) + float(line["x2"])) / 2)
    assert len(elements(drawn, "none")) == 1
    assert ">why<" in drawn


def test_names_are_text_whatever_they_hold() -> None:
    mark = Mark(name="<script>alert(1)</script>", value=0.5, note="&")
    drawn = interval_chart([mark], title="t", ticks=[0.0, 1.0], name_width=600)
    assert "<script>" not in drawn
    assert "&lt;script&gt;" in drawn


def test_a_progress_bar_shares_its_width() -> None:
    drawn = progress_bar(25, 50, 100)
    (filled,), (held,) = elements(drawn, "bar"), elements(drawn, "held")
    assert float(held["width"]) == pytest.approx(2 * float(filled["width"]))
    assert float(held["x"]) == pytest.approx(float(filled["width"]))
    assert elements(progress_bar(0, 0, 0), "bar") == []


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (3, 4), (33, 40), (61, 80), (101, 200)])
def test_a_scale_ends_at_a_round_number(value: float, top: float) -> None:
    assert nice_ceiling(value) == top


def test_ticks_enclose_what_they_are_for() -> None:
    assert nice_ticks(961.0, 1391.0) == [900, 1000, 1100, 1200, 1300, 1400]
    assert nice_ticks(1000.0, 1000.0)[0] <= 1000.0


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, "minute"), (900, "15 minutes"), (3600, "hour"), (604800, "week")]
)
def test_spells_are_said_in_words(seconds: float, words: str) -> None:
    assert spell(seconds) == words
