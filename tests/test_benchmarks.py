"""The parts of the benchmarks that need no peer: arithmetic, statistics, tables."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

import pytest
from benchmarks import flops
from benchmarks.contender import Contender, ContenderError, Repetition
from benchmarks.contest import Result, best_against_best
from benchmarks.environments import all_pins
from benchmarks.rounds import (
    DisagreementError,
    Round,
    Spread,
    alternate,
    relative_difference,
    require_agreement,
)
from benchmarks.table import Report, table

from hark.models.language_model import new_language_model
from hark.models.scalar_head import new_scalar_model

TINY = flops.Shape(matrices=100, layers=2, attention_width=4, width=3, vocabulary=10)


def repetition(rate: float) -> Repetition:
    return Repetition(seconds=2.0, amount=2.0 * rate)


def result(dtype: str, *rates: tuple[float, float]) -> Result:
    rounds = [Round(ours=repetition(ours), theirs=repetition(theirs)) for ours, theirs in rates]
    return Result(
        dtype=dtype, rounds=rounds, useful=lambda one: int(one.amount * 1e9),
        product_rate=Spread(median=40e9, low=30e9, high=50e9), setting="batches of 4",
        tried={"batches of 4": 5.0, "batches of 8": 2.0}, agreement="losses alike",
    )  # fmt: skip


def test_trunk_counts_a_shared_prompt_once() -> None:
    # 3 + 2 + 1 = 6 tokens: 2 · 100 · 6 = 1200. Seen: prompt 1+2+3 = 6, responses 4+5 and 4: 19 in
    # all; 4 · 2 layers · 4 · 19 = 608.
    assert flops.trunk(TINY, (3, (2, 1))) == 1200 + 608


def test_language_model_has_logits_of_responses_only() -> None:
    # Three response tokens: 2 · 3 · 10 · 3 = 180.
    assert flops.language_model(TINY, (3, (2, 1))) == 1808 + 180


def test_generation_does_not_read_the_last_token() -> None:
    # 3 + 1 tokens are read: 800; seen 6 + 4 = 10: 320; two tokens are predicted: 120.
    assert flops.generation(TINY, (3, (2,))) == 800 + 320 + 120


def test_ppo_counts_every_pass() -> None:
    # Sequence (3, (2,)): trunk 2·100·5 + 32·15 = 1480, with logits 1600. Drawn 1240, reference
    # 1600, score and values 1480 each; then two epochs of 3 · (1600 + 1480).
    drawn, lm, trunk = 1240, 1600, 1480
    expected = drawn + lm + 2 * trunk + 2 * 3 * (lm + trunk)
    assert flops.ppo_episodes(TINY, TINY, (3, (2,)), inner_epochs=2) == expected


def test_shape_leaves_embeddings_and_norms_out() -> None:
    model = new_language_model(
        "0.5m", vocabulary_size=300, context_length=32, seed=0, pad_token_id=0, eos_token_id=1
    )
    # Width 96, three layers: four maps of attention and three of the MLP in each.
    layers = 3 * (4 * 96 * 96 + 3 * 96 * 256)
    assert flops.Shape.of(model) == flops.Shape(
        matrices=layers, layers=3, attention_width=96, width=96, vocabulary=300
    )
    # The head of a scalar model is one more matrix, of 96 weights.
    assert flops.Shape.of(new_scalar_model(model)).matrices == layers + 96


def test_spread_is_median_and_range() -> None:
    assert Spread.of([3.0, 1.0, 8.0, 2.0]) == Spread(median=2.5, low=1.0, high=8.0)


def test_alternate_changes_who_goes_first() -> None:
    order: list[str] = []

    def work(name: str, rate: float) -> Repetition:
        order.append(name)
        return repetition(rate)

    rounds = alternate(lambda: work("hark", 6.0), lambda: work("peer", 2.0), repetitions=3)
    assert order == ["hark", "peer", "peer", "hark", "hark", "peer"]
    assert [each.ratio for each in rounds] == [3.0, 3.0, 3.0]


def test_ratio_is_taken_within_each_round() -> None:
    # The machine slows down by half: each round's ratio stays, while the rates vary.
    measured = result("float32", (8.0, 2.0), (4.0, 1.0), (6.0, 2.0))
    assert measured.ratio == Spread(median=4.0, low=3.0, high=4.0)
    assert measured.ours.median == 6.0
    # 1e9 useful FLOPs a unit.
    assert measured.useful_rates() == (6e9, 2e9)


def test_best_against_best_takes_each_sides_faster_precision() -> None:
    results = [
        result("float32", (4.0, 2.0), (4.0, 2.0)),
        result("bfloat16", (9.0, 1.0), (7.0, 1.0)),
    ]
    assert best_against_best(results) == Spread(median=4.0, low=3.5, high=4.5)


def test_agreement_is_relative_to_the_largest_number() -> None:
    assert relative_difference([10.0, 0.0], [10.0, 0.1]) == pytest.approx(0.01)
    assert relative_difference([0.0], [0.0]) == 0.0
    assert relative_difference([float("nan")], [1.0]) == float("inf")
    require_agreement("loss", [1.0], [1.00001], tolerance=1e-4)
    with pytest.raises(DisagreementError, match=r"loss: 1 and 1\.01.*more than 0\.0001"):
        require_agreement("loss", [1.0], [1.01], tolerance=1e-4)
    with pytest.raises(DisagreementError, match="2 numbers and the peer 1"):
        relative_difference([1.0, 2.0], [1.0])


def test_table() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_report_is_a_section_and_is_added_to_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(
        workload="SFT", peer="TRL", unit="tokens", circumstances=["2 cores"],
        results=[
            result("float32", (8.0, 2.0), (6.0, 2.0)),
            result("bfloat16", (9.0, 3.0), (9.0, 3.0)),
        ],
    )  # fmt: skip
    section = report.markdown(datetime.date(2026, 1, 31))
    assert section.startswith("## SFT (2026-01-31)\n")
    assert "| precision | hark, tokens/s | TRL, tokens/s |" in section
    # 7 GFLOP/s of useful work at 7 units a second, of the 40 that products reach.
    assert "| float32 | 7 | 2 | **3.50** (3.00 to 4.00) | 7.0 (18%) | 2.0 (5%) |" in section
    assert "| best against best |  |  | **3.00** (3.00 to 3.00) |  |  |" in section
    assert "batches of 4 5, batches of 8 2; taken: batches of 4; losses alike" in section
    page = tmp_path / "performance.md"
    report.publish(page)
    report.publish(page)
    assert page.read_text().startswith("# Performance\n")
    assert page.read_text().count("## SFT (") == 2
    assert capsys.readouterr().out.count("## SFT (") == 2


def test_own_pins_replace_shared_ones() -> None:
    pins = all_pins(("some-peer==1.0", "transformers==4.57.0"))
    assert pins[-2:] == ["some-peer==1.0", "transformers==4.57.0"]
    names = [pin.partition("==")[0] for pin in pins]
    assert "torch" in names
    assert names.count("transformers") == 1


PROGRAM = """
import json, sys
settings = json.loads(open(sys.argv[1]).read())
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "fail" in request:
        print(json.dumps({"error": "too tired"}), flush=True)
    else:
        print(json.dumps({"seconds": settings["threads"], "amount": request["amount"]}), flush=True)
"""


def test_contender_answers_request_by_request(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    settings = {"work": str(tmp_path)}
    command = [sys.executable, program]
    with Contender("tester", command, settings, threads=2, huge_pages=False) as contender:
        assert contender.repeat(amount=6).rate == 3.0
        assert contender.repeat(amount=8).rate == 4.0
        with pytest.raises(ContenderError, match=r"tester failed \(too tired\)"):
            contender.repeat(fail=True)
    assert json.loads((tmp_path / "tester.json").read_text())["threads"] == 2
