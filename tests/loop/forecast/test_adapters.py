"""Forecasts of adapters beside real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.loop.forecast.test_memory import (
    SIZES,
    TREES,
    assert_exact,
    bytes_of,
    model_of,
    on,
    saved_bytes,
    shape_of,
    share,
)
from torch import Tensor

from hark.errors import SettingsError
from hark.loop.forecast import memory, work
from hark.loop.forecast.adapters import (
    adapter_parameters,
    linear_layers,
    notes_of,
    trained_model,
)
from hark.loop.forecast.memory import Held
from hark.models.language_model import Architecture
from hark.models.lora import LoRASettings, add_adapter, trained_weights
from hark.models.scalar_head import new_scalar_model
from hark.training.sft import batch_loss, micro_batches

ADAPTERS = [LoRASettings(rank=4), LoRASettings(rank=3, target_modules=("q_proj", "down_proj"))]


@pytest.mark.parametrize("lora", ADAPTERS)
@pytest.mark.parametrize("size", SIZES)
def test_adapters_have_as_many_weights_as_pefts(size: Architecture, lora: LoRASettings) -> None:
    model = model_of(size)
    add_adapter(model, lora, base="base", seed=0)
    real = sum(weight.numel() for weight in trained_weights(model).values())
    assert adapter_parameters(shape_of(size), lora) == real


def test_a_scalar_head_is_trained_beside_the_adapter() -> None:
    model = new_scalar_model(model_of(SIZES[0]))
    add_adapter(model, ADAPTERS[0], base="base", seed=0)
    held = trained_model("model", shape_of(SIZES[0]), ADAPTERS[0], scalar=True)
    assert held.weights == sum(each.numel() for each in model.parameters())
    trained = [each.numel() for each in model.parameters() if each.requires_grad]
    assert held.trained_parameters == sum(trained)


@pytest.mark.parametrize("lora", ADAPTERS)
def test_only_the_adapter_has_gradients_and_moments(lora: LoRASettings) -> None:
    model = model_of(SIZES[1])
    add_adapter(model, lora, base="base", seed=0)
    assert_exact(model, trained_model("model", shape_of(SIZES[1]), lora, scalar=False))


@pytest.mark.parametrize("size", SIZES)
def test_activations_with_adapters_are_within_a_quarter(size: Architecture) -> None:
    lora = LoRASettings(rank=16)
    model = model_of(size)
    add_adapter(model, lora, base="base", seed=0)
    (packed,) = micro_batches(model, TREES, limit=1000)

    def compute() -> Tensor:
        return batch_loss(model, packed.batch).loss

    held = [replace(trained_model("model", shape_of(size), lora, scalar=False), parameters=0)]
    terms = memory.of_training(held, share(), on(), scalar=[False])
    logits = memory.kept_logits(shape_of(size), share().predicted, on())
    forecast = bytes_of(terms, "activations") + bytes_of(terms, "adapters' activations") + logits
    assert forecast == pytest.approx(saved_bytes(model, compute), rel=0.25)


def test_two_of_three_products_remain() -> None:
    forward = work.Work(operations=7.0)
    assert work.training(forward).operations == 21
    assert work.training(forward, adapted=True).operations == 14
    assert work.training(forward, adapted=True, recomputed=True).operations == 21


def test_layers_are_named_as_llamas_and_others_are_refused() -> None:
    shape = shape_of(SIZES[0])
    assert linear_layers(shape)["down_proj"] == (160, 64)
    gateless = replace(shape, matrices=shape.layers * (4 * 64 * 64 + 2 * 64 * 160))
    assert "gate_proj" not in linear_layers(gateless)
    with pytest.raises(SettingsError, match=r"names 'q_prj'.*did you mean 'q_proj'\?"):
        adapter_parameters(shape, LoRASettings(target_modules=("q_prj",)))
    other = LoRASettings(target_modules=("c_attn",))
    assert adapter_parameters(shape, other) == adapter_parameters(shape, LoRASettings())
    assert notes_of(other, shape)[1:] == (
        "adapters are counted for all linear layers, as c_attn is no Llama's",
    )


def test_recomputed_layers_keep_one_layers_adapters_and_frozen_ones_gather_no_gradients() -> None:
    shape = shape_of(SIZES[1])
    adapted = trained_model("m", shape, LoRASettings(rank=4), scalar=False)
    whole = trained_model("m", shape, None, scalar=False)

    def term(held: Held, name: str, devices: int = 1, *, recomputed: bool = False) -> float:
        situation = on(devices, cpu=devices == 1)
        terms = memory.of_training(
            [held], share(), situation, scalar=[False], recomputed=recomputed
        )
        return bytes_of(terms, name)

    kept = term(adapted, "adapters' activations")
    assert term(adapted, "adapters' activations", recomputed=True) == kept / shape.layers
    gathered = 4 * (2 * shape.block_parameters + shape.outside)
    assert term(adapted, "gathered layers", 4) == gathered
    assert term(whole, "gathered layers", 4) == gathered + 4 * (
        shape.block_parameters + shape.outside
    )


def test_a_whole_model_is_trained_without_lora() -> None:
    shape = shape_of(SIZES[0])
    held = trained_model("m", shape, None, scalar=False)
    assert held == Held(name="m", shape=shape, parameters=shape.parameters, trained=True)
    assert held.trained_parameters == held.weights == shape.parameters
