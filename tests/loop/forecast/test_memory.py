"""Forecast bytes beside those of real models, optimizers and saved tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hark.loop.forecast import memory
from hark.loop.forecast.hardware import Basis, Device, load_hardware
from hark.loop.forecast.memory import Held, MemoryTerm, Situation, peak
from hark.loop.forecast.shapes import ModelShape
from hark.loop.forecast.work import Lengths, Share
from hark.models.language_model import Architecture, new_language_model
from hark.models.packing import PromptTree
from hark.models.parallel import recompute_blocks
from hark.models.scalar_head import new_scalar_model, response_scores
from hark.training.optimizer import OptimizerSettings, build_optimizer, update
from hark.training.sft import batch_loss, micro_batches

SIZES = [
    Architecture(width=64, layers=2, heads=2, mlp_width=160, named_vocabulary=300),
    Architecture(width=96, layers=4, heads=3, mlp_width=512, named_vocabulary=900),
]
TREES = [PromptTree(tuple(range(5, 5 + n)), (tuple(range(7, 7 + m)),))
         for n, m in ((20, 30), (50, 12), (33, 41), (24, 40))]  # fmt: skip


def model_of(size: Architecture) -> PreTrainedModel:
    return new_language_model(
        size, vocabulary_size=size.named_vocabulary, context_length=128, seed=0, pad_token_id=0,
        eos_token_id=1,
    )  # fmt: skip


def shape_of(size: Architecture) -> ModelShape:
    return ModelShape.of_preset(size, size.named_vocabulary, origin="test")


def on(devices: int = 1, dtype: str = "float32", *, cpu: bool = True) -> Situation:
    device = load_hardware().device("h100").model_copy(update={"is_cpu": cpu})
    return Situation(device=device, devices=devices, dtype=dtype)


def share() -> Share:
    sample = tuple((len(tree.prompt), tuple(map(len, tree.responses))) for tree in TREES)
    lengths = Lengths(examples=len(TREES), sample=sample, basis=Basis.MEASURED, note="")
    return Share(examples=len(TREES), lengths=lengths, passes=1)


def bytes_of(terms: list[MemoryTerm], name: str) -> float:
    return sum(term.bytes for term in terms if term.name == name)


def saved_bytes(model: nn.Module, compute: Callable[[], Tensor]) -> int:
    """Of what waits for the backward pass, each storage once and parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}
    kept = []  # alive, so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = compute()
    assert loss.requires_grad
    return sum(found.values())


def assert_exact(model: PreTrainedModel, held: Held) -> None:
    """Forecast weights, gradients and moments beside those of a real model after one step."""
    settings = OptimizerSettings()
    optimizer = build_optimizer(model.parameters(), settings)
    (packed,) = micro_batches(model, TREES, limit=1000)
    batch_loss(model, packed.batch).loss.backward()
    gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    update(optimizer, step=0, total_steps=1, settings=settings)
    moments = sum(
        tensor.nbytes
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if name != "step"
    )
    terms = memory.resident([held], on())
    terms += memory.of_training([held], share(), on(), scalar=[False])
    assert bytes_of(terms, "weights") == sum(p.nbytes for p in model.parameters())
    assert bytes_of(terms, "optimizer moments") == moments
    assert bytes_of(terms, "gradients") == gradients


@pytest.mark.parametrize("size", SIZES)
def test_weights_gradients_and_moments_are_exact(size: Architecture) -> None:
    shape = shape_of(size)
    held = Held(name="model", shape=shape, parameters=shape.parameters, trained=True)
    assert_exact(model_of(size), held)


def test_a_scalar_model_has_its_own_number_of_parameters() -> None:
    model = new_scalar_model(model_of(SIZES[0]))
    assert shape_of(SIZES[0]).scalar_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES)
def test_activations_are_within_a_quarter(size: Architecture, dtype: str, recomputed: bool) -> None:
    model = model_of(size)
    if recomputed:
        recompute_blocks(model)
    (packed,) = micro_batches(model, TREES, limit=1000)

    def compute() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            return batch_loss(model, packed.batch).loss

    held = [Held(name="model", shape=shape_of(size), parameters=0, trained=True)]
    terms = memory.of_training(held, share(), on(dtype=dtype), scalar=[False])
    activations = bytes_of(terms, "activations")
    if recomputed:
        # What is kept between the passes; the forecast adds one layer being computed again.
        tokens = share().pass_tokens
        read = share().predicted / tokens
        whole = memory.activations(shape_of(size), tokens, on(dtype=dtype), True, read=read)
        layer = memory.layer_activations(shape_of(size), on(dtype=dtype))
        activations = whole - tokens * layer
    logits = memory.kept_logits(shape_of(size), share().predicted, on(dtype=dtype))
    copies = 0
    if dtype == "bfloat16":
        # Autocast's copies of the matrices, kept for their gradients; recomputed ones are dropped.
        embedding = size.width * size.named_vocabulary
        copies = 2 * (embedding + (0 if recomputed else shape_of(size).matrices))
    assert activations + logits + copies == pytest.approx(saved_bytes(model, compute), rel=0.25)


def test_logits_beyond_the_limit_are_not_kept() -> None:
    shape = shape_of(SIZES[0])  # of 300 tokens
    assert memory.kept_logits(shape, 100, on()) == 4 * 100 * 300
    assert memory.kept_logits(shape, 100, on(dtype="bfloat16")) == 2 * 100 * 300
    assert memory.kept_logits(shape, 100, on(dtype="bfloat16", cpu=False)) == 4 * 100 * 300
    assert memory.kept_logits(shape, 2**25, on()) == 0


def test_a_scalar_head_leaves_no_logits() -> None:
    size = SIZES[0]
    model = new_scalar_model(model_of(size))
    (packed,) = micro_batches(model, TREES, limit=1000)
    held = [Held(name="model", shape=shape_of(size), parameters=0, trained=True)]
    terms = memory.of_training(held, share(), on(), scalar=[True])
    assert bytes_of(terms, "logits") == 0
    saved = saved_bytes(model, lambda: response_scores(model, packed.batch.packed).sum())
    forecast = bytes_of(terms, "activations")
    assert forecast == pytest.approx(saved, rel=0.25)


def test_devices_share_what_is_sharded_and_each_gathers_a_whole_model() -> None:
    shape = shape_of(SIZES[0])
    held = [
        Held(name="policy", shape=shape, parameters=shape.parameters, trained=True),
        Held(name="reference", shape=shape, parameters=shape.parameters),
    ]
    p = shape.parameters
    terms = memory.resident(held, on(4, cpu=False))
    assert {term.name: term.bytes for term in terms} == {
        "weights": 4 * p / 4, "optimizer moments": 8 * p / 4, "frozen: reference": 4 * p / 4,
    }  # fmt: skip
    assert memory.whole_model(p, on(4, "bfloat16", cpu=False)) == ("one whole model", 2 * p)
    assert memory.whole_model(p, on(4, "float32", cpu=False)) == ("one whole model", 4 * p)
    assert memory.whole_model(p, on(1))[1] == 0


def test_each_model_is_whole_beside_the_shards_of_those_before_it() -> None:
    (term,) = memory.of_loading([100, 80, 90], on(4, cpu=False))
    assert term.bytes == 90 + (100 + 80) / 4
    (term,) = memory.of_loading([100, 8], on(4, cpu=False))
    assert term.bytes == 100
    assert memory.of_loading([100, 80, 90], on(1)) == []


def test_the_cache_is_two_numbers_for_each_slot_layer_and_key_value_width() -> None:
    shape = shape_of(SIZES[1])
    terms = memory.of_generating(shape, on(), rows=8, capacity=50, longest_prompt=30)
    # 8 rows of 50 positions, keys and values, 4 layers of width 96, 4 bytes.
    assert bytes_of(terms, "key-value cache") == 8 * 50 * 2 * 4 * 96 * 4


def test_a_cpu_caches_in_float32_and_reads_prompts_in_several_passes() -> None:
    shape = shape_of(SIZES[1])

    def of(*, cpu: bool) -> list[MemoryTerm]:
        return memory.of_generating(
            shape, on(1, "bfloat16", cpu=cpu), rows=64, capacity=400, longest_prompt=300
        )

    # 4 layers of width 96: keys and values of a token are 768 numbers.
    assert bytes_of(of(cpu=True), "key-value cache") == 64 * 400 * 768 * 4
    assert bytes_of(of(cpu=False), "key-value cache") == 64 * 400 * 768 * 2
    states = 2 * (3 * shape.mlp_width + 6 * 96)
    assert bytes_of(of(cpu=True), "prefill") == 4096 * 768 * 2 + 2048 * states
    assert bytes_of(of(cpu=False), "prefill") == 16384 * (768 * 2 + states)


def test_the_peak_is_what_is_always_there_with_the_greatest_phase() -> None:
    def term(size: float, when: Any) -> MemoryTerm:
        return MemoryTerm(name="x", bytes=size, when=when)

    terms = [term(1, "always"), term(2, "training"), term(3, "training"), term(4, "generating")]
    assert peak(terms) == 6
    assert peak([*terms, term(5, "loading")]) == 6
    assert peak([*terms, term(7, "loading")]) == 7
    assert peak(terms[:1]) == 1
    assert peak([]) == 0


def test_every_device_has_what_a_forecast_reads() -> None:
    devices = load_hardware().devices
    assert {"h100", "h200", "a100-80gb", "a100-40gb", "l40s", "rtx4090"} <= set(devices)
    for device in devices.values():
        assert isinstance(device, Device)
        assert device.bfloat16_teraflops > device.float32_teraflops
        assert device.rates.source
