"""What low-rank adapters change in a forecast (`hark.models.lora`).

Trained are r·(inputs + outputs) weights of each adapted layer: gradients, moments, updates and what
is sent of gradients shrink to them, and the large matrices need no gradients of their own, so that
two of three products of a training pass remain. Weights and activations stay, with r more numbers a
token for each adapted layer. The adapters' own products and modules are left out.
"""

from __future__ import annotations

from hark.errors import SettingsError, did_you_mean
from hark.loop.forecast.memory import Held
from hark.loop.forecast.shapes import ModelShape
from hark.models.lora import LoRASettings


def notes_of(lora: LoRASettings | None, shape: ModelShape) -> tuple[str, ...]:
    """What is to be said of a forecast with adapters."""
    if lora is None:
        return ()
    note = "the adapters' own products are not counted"
    unknown = sorted({*lora.target_modules} - linear_layers(shape).keys())
    if not unknown:
        return (note,)
    return (
        note,
        f"adapters are counted for all linear layers, as {', '.join(unknown)} is no Llama's",
    )


def adapted_layers(shape: ModelShape, lora: LoRASettings) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear layers of one block that get an adapter, by their names.

    All of them, where a name is not one of Llama's.
    Raises: SettingsError for a name that is nearly one of them.
    """
    every = linear_layers(shape)
    unknown = [name for name in lora.target_modules if name not in every]
    for name in unknown:
        if meant := did_you_mean(name, every):
            raise SettingsError(
                f"lora.target_modules names '{name}', which no Llama-like model has{meant}"
            )
    return {name: every[name] for name in (() if unknown else lora.target_modules) or every}


def linear_layers(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear layers of one block, by Llama's names."""
    width, wide, narrow, mlp = (
        shape.width, shape.attention_width, shape.key_value_width, shape.mlp_width,
    )  # fmt: skip
    attention = {
        "q_proj": (width, wide), "k_proj": (width, narrow), "v_proj": (width, narrow),
        "o_proj": (wide, width),
    }  # fmt: skip
    in_mlp = shape.matrices / shape.layers - sum(each[0] * each[1] for each in attention.values())
    up = {"gate_proj": (width, mlp)} if in_mlp > 2.5 * width * mlp else {}
    return attention | up | {"up_proj": (width, mlp), "down_proj": (mlp, width)}


def adapter_parameters(shape: ModelShape, lora: LoRASettings) -> int:
    """Weights of a language model's adapters."""
    numbers = sum(inputs + outputs for inputs, outputs in adapted_layers(shape, lora).values())
    return shape.layers * lora.rank * numbers


def trained_model(name: str, shape: ModelShape, lora: LoRASettings | None, *, scalar: bool) -> Held:
    """A language model, or one with a scalar head, that is trained whole or by an adapter."""
    parameters = shape.scalar_parameters if scalar else shape.parameters
    if lora is None:
        return Held(name=name, shape=shape, parameters=parameters, trained=True)
    # A scalar head is trained as well, and counted beside the adapter.
    head = shape.width if scalar else 0
    return Held(
        name=name, shape=shape, trained=True, parameters=parameters - head,
        adapter=adapter_parameters(shape, lora) + head,
        kept_by_adapter=shape.layers * lora.rank * len(adapted_layers(shape, lora)),
    )  # fmt: skip
