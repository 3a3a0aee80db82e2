"""Work and seconds by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hark.errors import SettingsError
from hark.loop.forecast import work
from hark.loop.forecast.calibration import Timed, fit
from hark.loop.forecast.hardware import Basis, Device, PassRates, load_hardware
from hark.loop.forecast.shapes import ModelShape
from hark.loop.forecast.work import Lengths, Share, Work

SHAPE = ModelShape.of_llama(
    layers=2, width=8, key_value_width=4, mlp_width=16, vocabulary=10, tied=True,
    origin="test",
)  # fmt: skip
"""matrices a layer: 2·64 + 2·32 + 3·128 = 576."""
RATES = PassRates(products=0.5, traffic=0.25, block_seconds=0.1)


def device(*, is_cpu: bool) -> Device:
    changed = {
        "is_cpu": is_cpu, "float32_teraflops": 1e-12, "memory_gigabytes_per_second": 1e-9,
    }  # fmt: skip
    return load_hardware().device("h100").model_copy(update=changed)


def lengths(*sample: tuple[int, tuple[int, ...]]) -> Lengths:
    return Lengths(examples=len(sample), sample=sample, basis=Basis.MEASURED, note="")


def test_a_cpu_adds_up_and_a_gpu_takes_the_longest() -> None:
    # 1 operation and 1 byte a second: 3 / 0.5 + 2 / 0.25 + 4 · 0.1 = 6 + 8 + 0.4.
    some = Work(operations=3, traffic=2, blocks=4)
    assert some.seconds(device(is_cpu=True), RATES, "float32") == pytest.approx(14.4)
    assert some.seconds(device(is_cpu=False), RATES, "float32") == pytest.approx(8)


def test_a_forward_pass_counts_useful_operations_saved_bytes_and_blocks() -> None:
    share = Share(examples=3, lengths=lengths((2, (1,))), passes=2)
    done = work.forward(SHAPE, share, dtype="float32", sharded=False)
    # A sequence of 3 tokens: matrices 2·1152·3, attention 4·2·8·(1+2+3), one logit row 2·8·10.
    assert done.operations == 3 * (2 * 1152 * 3 + 4 * 2 * 8 * 6 + 160)
    # 9 tokens in 2 layers of 4·(6·8 + 4·8 + 4·16) bytes, and 3 rows of 10 logits of 4 bytes.
    assert done.traffic == 9 * 2 * 4 * (48 + 32 + 64) + 3 * 10 * 4
    assert done.blocks == 2 * 3
    trained = work.training(done)
    assert trained.operations == 3 * done.operations
    assert work.training(done, recomputed=True).operations == pytest.approx(4 * done.operations)


def test_decoding_reads_all_weights_and_the_cache_at_every_step() -> None:
    done = work.decoding(SHAPE, lengths((5, (4,))), responses=6, rows=3, weight_bytes=2)
    # 6 responses of 4 tokens, 3 at once: 8 steps. The cache of a token: 2 layers · 2 · 4 · 2 bytes;
    # on the way a row holds 5 + 4/2 tokens.
    assert done.blocks == 8 * 3
    assert done.traffic == 8 * (2 * SHAPE.parameters + 3 * 7 * 32)


def test_a_share_is_at_least_one_example_and_one_pass() -> None:
    some = lengths((60, (40,)))
    assert Share.of(64, some, pass_tokens=1000, devices=4) == Share(
        examples=16, lengths=some, passes=2
    )
    alone = Share.of(2, some, pass_tokens=50, devices=8)
    assert (alone.examples, alone.passes, alone.pass_tokens) == (1, 1, 100)


def test_rates_that_made_the_times_are_found_again() -> None:
    draw = np.random.default_rng(0)
    truth = PassRates(products=0.5, traffic=0.2, block_seconds=3e-3)
    here = device(is_cpu=True)
    works = [Work(operations=a, traffic=b, blocks=c)
             for a, b, c in draw.uniform([1, 1, 10], [9, 9, 900], (8, 3))]  # fmt: skip
    found = fit([Timed(each, each.seconds(here, truth, "float32")) for each in works], here,
                "float32")  # fmt: skip
    assert found.products == pytest.approx(0.5, rel=1e-3)
    assert found.traffic == pytest.approx(0.2, rel=1e-3)
    assert found.block_seconds == pytest.approx(3e-3, rel=1e-2)


def test_calibrated_holds_near_what_was_measured_alone() -> None:
    cpu = load_hardware().device("cpu-1")
    assert cpu.basis(256, "float32") == Basis.CALIBRATED
    assert cpu.basis(512, "float32") == Basis.CALIBRATED
    assert cpu.basis(768, "float32") == Basis.EXTRAPOLATED
    assert cpu.basis(256, "bfloat16") == Basis.EXTRAPOLATED
    bad = cpu.rates.model_copy(update={"fit_error": 0.4})
    assert cpu.model_copy(update={"rates": bad}).basis(256, "float32") == Basis.EXTRAPOLATED
    assert load_hardware().device("h100").basis(4096, "bfloat16") == Basis.EXTRAPOLATED


def test_between_machines_the_network_is_what_counts() -> None:
    h100 = load_hardware().device("h100")
    assert h100.between(8) == pytest.approx(450e9 * 0.7)
    # Eight networks of 50 GB/s bring each byte into a machine once.
    assert h100.between(16) == pytest.approx(400e9 * 0.7)
    assert load_hardware().device("l40s").between(16) == pytest.approx(32e9 * 0.7)


def test_an_unknown_device_is_told_with_the_known() -> None:
    with pytest.raises(SettingsError, match=r"did you mean 'h100'"):
        load_hardware().device("h1000")
