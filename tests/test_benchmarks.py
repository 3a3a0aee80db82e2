"""The parts of the benchmarks that need no peer: arithmetic, statistics, tables."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from benchmarks import accelerator, gpu, limit
from benchmarks.accelerator import Accelerator
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

from hark.models.flops import Shape
from hark.models.language_model import Architecture, new_language_model
from hark.models.packing import PromptTree


def repetition(rate: float) -> Repetition:
    return Repetition(seconds=2.0, amount=2.0 * rate)


def result(dtype: str, *rates: tuple[float, float]) -> Result:
    rounds = [Round(ours=repetition(ours), theirs=repetition(theirs)) for ours, theirs in rates]
    return Result(
        dtype=dtype, rounds=rounds, useful=lambda one: int(one.amount * 1e9),
        product_rate=Spread(median=40e9, low=30e9, high=50e9), setting="batches of 4",
        tried={"batches of 4": 5.0, "batches of 8": 2.0}, agreement="losses alike",
    )  # fmt: skip


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


def test_a_benchmark_of_a_gpu_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit, match="torch finds none that CUDA can use here"):
        gpu.main()


def test_an_unknown_gpu_needs_its_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="Fast One 9", total_memory=2**34)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(accelerator, "_product_rate", lambda: 40e12)
    monkeypatch.setattr(accelerator, "_copy_rate", lambda: 0.4e12)
    with pytest.raises(SystemExit, match=r"'Fast One 9' are not known here; give --peak-tflops"):
        Accelerator.here(peak_tflops=None, peak_gigabytes=None)
    told = Accelerator.here(peak_tflops=50.0, peak_gigabytes=500.0)
    assert (told.peak_flops, told.peak_bandwidth) == (50e12, 500e9)
    assert str(told).startswith("Fast One 9, 16 GiB; data sheet 50 TFLOP/s and 0.50 TB/s, measured")
    properties.name = "NVIDIA H100 80GB HBM3"
    assert Accelerator.here(peak_tflops=None, peak_gigabytes=None).peak_flops == 989e12


def test_what_decoding_reads_worked_by_hand() -> None:
    small = Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=300)
    model = new_language_model(
        small, vocabulary_size=300, context_length=32, seed=0, pad_token_id=0, eos_token_id=1
    )
    # Keys and values of a token: 2 of 2 bytes in 2 layers, 32 wide: 256 bytes. After a prompt of 5,
    # three new tokens see 6, 7 and 8; after a prompt of 2, one sees 3.
    keys_and_values = 256 * (6 + 7 + 8 + 3)
    expected = 3 * 2 * small.parameters(300) + keys_and_values
    assert gpu.read_bytes(model, 3, [(5, 3), (2, 1)]) == expected


def test_shares_of_products_and_of_memory_have_columns_of_their_own() -> None:
    training = gpu.Measured(
        workload="SFT", unit="tokens", rates=[4e4, 5e4, 6e4], shares=[0.4, 0.5, 0.45]
    )
    assert training.row("1b") == (
        "1b", "SFT", "50,000 tokens/s", "**45.0%** (40.0% to 50.0%)", "",
    )  # fmt: skip
    decoding = gpu.Measured(
        workload="decoding", unit="tokens", rates=[9.0], shares=[0.6], is_of_memory=True
    )
    assert decoding.row("1b")[3:] == ("", "**60.0%** (60.0% to 60.0%)")


def test_what_attention_and_memory_cannot_do_without_worked_by_hand() -> None:
    shape = Shape(matrices=10**6, layers=3, attention_width=8, width=8, vocabulary=32)
    pair = PromptTree((1, 2), ((3,), (4, 5)))
    # Tokens see 1 + 2, then 3, then 3 + 4 tokens in the first two layers; in the last the ends of
    # the responses see 3 and 4. Backward is twice as much.
    assert limit.attention_work(shape, pair) == 3 * 4 * 8 * (2 * 13 + 7)

    config = SimpleNamespace(
        hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    norm, gate, attention = 8 * (5 * 4 + 4 * 2), 8 * 16 * 2, 6 * (8 + 4) * 2
    found = limit.moved_bytes(config, 5, torch.bfloat16)
    assert found == 5 * (2 * (2 * norm + gate + attention) + norm)


def test_a_limit_is_the_sum_of_what_cannot_be_done_without() -> None:
    times = limit.Times(
        step=0.1, products=0.04, attention=0.03, least_attention=0.008, least_else=0.002
    )
    row = times.row("bfloat16")
    assert row == ("bfloat16", "100.0", "40.0", "30.0", "8.0", "30.0", "2.0", "50.0", "2.00")
