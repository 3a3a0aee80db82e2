import io

from rich.console import Console

from hark.evaluation.intervals import Estimate, clustered_mean, exact
from hark.evaluation.policies import PolicyEvaluation
from hark.report.table import Cell, columns, number_cell, rate_cell, terminal_table


def test_cells_show_the_value_and_its_interval_or_why_there_is_none():
    estimate = Estimate(value=-0.4, low=-0.521, high=-0.3, n=9, clusters=9)
    assert number_cell(estimate, digits=2) == Cell("−0.40", "−0.52 to −0.30", "±0.11")
    rate = Estimate(value=0.634, low=0.57, high=0.69, n=9, clusters=9)
    assert rate_cell(rate) == Cell("63.4 %", "57.0 to 69.0", "57.0–69.0")
    assert number_cell(exact(1.835), digits=2) == Cell("1.83", "exact", "")
    assert number_cell(clustered_mean([]), digits=2).detail == "no observations"
    assert number_cell(clustered_mean([1.0], clusters=[["a"]]), digits=1).detail == "one cluster"
    assert number_cell(None, digits=2) == Cell("–")


def test_columns_that_nobody_was_measured_in_are_left_out(rows):
    headings = [column.heading for column in columns(rows, baseline="SFT")]
    assert headings == ["Win rate vs SFT", "Helpful", "KL", "Text loss"]
    assert columns([PolicyEvaluation(name="x")], baseline="SFT") == []


def test_the_terminal_table_fits_eighty_characters_and_loses_nothing(rows):
    console = Console(file=io.StringIO(), width=80, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(terminal_table(rows, baseline="SFT"))
    text = captured.get()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    [sft] = [line for line in lines if line.strip().startswith("SFT")]
    assert sft.split() == ["SFT", "–", "0.50", "–", "3.500"]
    assert "baseline" in lines[lines.index(sft) + 1]
    assert any(line.strip().startswith("PPO <b>$x_1$") for line in lines)
