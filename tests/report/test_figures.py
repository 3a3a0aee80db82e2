import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hark.evaluation.calibration import calibration, gap_calibration
from hark.evaluation.intervals import proportion
from hark.evaluation.policies import PolicyEvaluation
from hark.evaluation.preference_accuracy import BothGood
from hark.report.drawing import INKS, Figure
from hark.report.figures import (
    Curve,
    Point,
    calibration_diagram,
    curves,
    histogram,
    language_losses,
    reward_against_divergence,
    reward_and_divergence,
    win_rates,
)
from hark.report.preference_figures import accuracy_against_gap, accuracy_where_both_are_good

STEPS = list(range(1, 41))
NATS = [0.2 * step for step in STEPS]
REWARDS = [0.5 + math.sqrt(nats) for nats in NATS]


def texts(figure: Figure) -> list[str]:
    root = ET.fromstring(figure.svg)
    return ["".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")]


def test_every_drawing_is_well_formed_and_takes_its_colours_and_fonts_from_the_page(rows):
    line = [Curve(label="PPO", x=STEPS, y=REWARDS)]
    for figure in (
        win_rates(rows, baseline="SFT"),
        language_losses(rows, reference="SFT"),
        reward_and_divergence(line, line),
        reward_against_divergence(line),
        calibration_diagram(calibration([0.6, 0.7, 0.9], [1, 0, 1], bins=2)),
        curves(line, name="loss", title="Loss", y_label="nats"),
        histogram([("SFT", REWARDS)], name="scores", title="Scores", x_label="score"),
    ):
        root = ET.fromstring(figure.svg)
        assert root.get("aria-label") == figure.title
        assert root.get("width") is None
        assert not re.search(r"#[0-9a-fA-F]{6}\b", figure.svg), figure.name
        assert set(re.findall(r"var\(--([\w-]+)\)", figure.svg)) <= {*INKS.values(), "sans"}
        assert "DejaVu" not in figure.svg
        assert not re.search(r"<dc:|<metadata", figure.svg)


def test_the_same_numbers_give_the_same_bytes(rows):
    assert win_rates(rows, baseline="SFT") == win_rates(rows, baseline="SFT")


def test_a_persons_own_plot_settings_change_nothing(rows):
    import matplotlib

    plain = win_rates(rows, baseline="SFT")
    with matplotlib.rc_context({"axes.facecolor": "#123456", "font.size": 30}):
        assert win_rates(rows, baseline="SFT") == plain


def test_drawings_on_one_page_do_not_share_identifiers(rows):
    first = re.findall(r'id="([^"]+)"', win_rates(rows, baseline="SFT").svg)
    second = re.findall(r'id="([^"]+)"', language_losses(rows, reference="SFT").svg)
    assert first
    assert not set(first) & set(second)


def test_win_rates_are_drawn_in_the_order_given_without_the_unmeasured(rows):
    figure = win_rates(rows, baseline="SFT")
    names = [text for text in texts(figure) if text in {row.name for row in rows}]
    assert names == ["PPO <b>$x_1$", "best of 16", "base"]  # drawn from the bottom up
    assert figure.title.startswith("PPO <b>$x_1$ is preferred to SFT on 90 % of prompts")


def test_reward_against_divergence_fits_the_square_root():
    figure = reward_against_divergence(
        [Curve(label="PPO", x=NATS, y=REWARDS)],
        [Point(label="best of 16", divergence=1.835, reward=2.0)],
    )
    assert "PPO, R² = 1.00" in texts(figure)
    assert sum("R² =" in text for text in texts(figure)) == 2, "one line on √KL, one on KL"
    assert {"√KL from the reference (√nats)", "KL from the reference (nats)"} <= set(texts(figure))
    assert "best of 16" in texts(figure)
    assert figure.title == "Reward grows about linearly with √KL (R² 1.00)"
    assert "Stars" in figure.caption


def test_calibration_is_read_off_the_diagram():
    generator = np.random.default_rng(0)
    gaps = generator.normal(scale=2, size=4000)
    labels = generator.random(4000) < 1 / (1 + np.exp(-gaps / 3))
    figure = calibration_diagram(gap_calibration(gaps, labels, resamples=200))
    assert figure.title.startswith("The preference model is too sure of itself")
    assert "a perfectly calibrated model would show" in figure.caption


def test_undefined_intervals_are_drawn_as_dots_alone(rows):
    from hark.evaluation.intervals import exact
    from hark.evaluation.winrate import WinRate

    lone = PolicyEvaluation(
        name="x", win_rate=WinRate(estimate=exact(0.7), wins=7, ties=0, losses=3)
    )
    assert win_rates([lone], baseline="SFT").title == "x is preferred to SFT on 70 % of prompts"
    assert "calibration" in calibration_diagram(calibration([], [])).name


@pytest.mark.parametrize("count", [1, 9])
def test_many_curves_and_single_points_can_be_drawn(count):
    lines = [Curve(label=f"run {n}", x=[0.0], y=[float(n)]) for n in range(count)]
    figure = curves(lines, name="loss", title="Loss", y_label="nats")
    assert ("run 0" in texts(figure)) == (count > 1)


def test_accuracy_by_score_gap_and_where_both_are_good():
    gaps = np.linspace(0.1, 4, 400)
    outcomes = (np.random.default_rng(2).random(400) < 1 / (1 + np.exp(-gaps))).astype(float)
    figure = accuracy_against_gap(gap_calibration(gaps, outcomes))
    assert figure.title.startswith("No sign that predicted preferences are off")
    assert "score gap Δ" in figure.svg

    def slices(last: float) -> list[BothGood]:
        return [
            BothGood(threshold=place, estimate=proportion(share * 400, 400))
            for place, share in enumerate((0.8, 0.75, last))
        ]

    falling = accuracy_where_both_are_good(slices(0.6))
    assert falling.title == "The preference model is less often right where both replies are good"
    assert accuracy_where_both_are_good(slices(0.79)).title.startswith("Accuracy by how good")
