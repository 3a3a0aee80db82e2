"""Low-rank adapters (LoRA, Hu et al. 2021, 2106.09685), by peft.

Beside each chosen linear layer W of the blocks come two narrow matrices: W x + (α/r)·B A x. W is
frozen, A and B are trained, and the scalar head of a preference or value model, which is new. B
starts at zero, so that the model starts as its base to the last bit, and with the adapter switched
off it stays its base.

1. All linear layers of the blocks get adapters by default, not the attention's alone.
2. A starts uniform, as in peft and the authors' code; the paper says Gaussian.

The layers are put into the model in place; its class, backbone and head stay what they are. Names
of weights in files are peft's.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from hark.errors import RunError, SettingsError, did_you_mean
from hark.models.adapter_directory import (
    CONFIG,
    SCALAR_HEAD,
    WEIGHTS,
    adapter_tensors,
    read_reward_bias,
    require_peft,
)
from hark.models.parallel import blocks
from hark.models.shards import SHARDS, fill_from_shards
from hark.settings import Settings

NAME = "default"
"""The only adapter of a model; peft leaves this name out of its files."""


class LoRASettings(Settings):
    """Train low-rank adapters of the linear layers (LoRA) and freeze the model itself."""

    rank: int = Field(default=16, ge=1)
    """Width r of the adapters' matrices."""
    alpha: float = Field(default=32.0, gt=0)
    """What an adapter adds is multiplied by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of what goes into the adapters; PPO has none."""
    target_modules: tuple[str, ...] = ()
    """Linear layers of the blocks that get an adapter, such as q_proj; all of them if left out."""


def add_adapter(
    model: PreTrainedModel,
    settings: LoRASettings,
    *,
    base: str,
    seed: int,
    checkpoint: Path | None = None,
) -> None:
    """Freeze the model and give it an adapter without effect, or with a checkpoint's weights.

    A scalar head (`score`) is trained as well. Dropout hooks on layers belong on afterwards.
    base: where the model was read from, for the files; seed: of A, of which nothing else depends.
    Raises: ModelError if peft is missing; SettingsError for target modules the model lacks.
    """
    peft = require_peft("lora was asked for")
    linear = _linear_layers(model)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_targets(linear, settings, model),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in linear.values()),
        base_model_name_or_path=str(Path(base).resolve()) if Path(base).is_dir() else base,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, model, adapter_name=NAME)
    for layer in _layers(model).values():
        # In which precision products are taken is for autocast and FSDP to say.
        layer.cast_input_dtype_enabled = False
    if hasattr(model, "score"):
        model.score.requires_grad_(True)
    if checkpoint is not None:
        restore_adapter(model, checkpoint)


def has_adapter(model: nn.Module) -> bool:
    """Whether only an adapter of the model (and its scalar head) is trained."""
    return bool(_layers(model))


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of the adapter and of a scalar head, by their names in peft's files.

    They are the model's own, as in `state_dict`: what is written to them is written to it.
    """
    return {
        f"base_model.model.{name.replace(f'.{NAME}.', '.')}": parameter.detach()
        for name, parameter in model.named_parameters()
        if is_of_adapter(name) or name.startswith("score.")
    }


def is_of_adapter(name: str) -> bool:
    """Whether a parameter's name is that of an adapter's weight."""
    return f".lora_A.{NAME}." in name or f".lora_B.{NAME}." in name


def restore_adapter(model: PreTrainedModel, directory: Path) -> None:
    """Put back what `write_adapter`, or a sharded checkpoint, holds of the adapter, bit for bit.

    Raises: RunError if it is another adapter.
    """
    weights = trained_weights(model)
    if (directory / SHARDS).is_dir():
        fill_from_shards(directory / SHARDS, weights)
    else:
        saved = adapter_tensors(directory)
        shapes = [{name: t.shape for name, t in each.items()} for each in (weights, saved)]
        if shapes[0] != shapes[1]:
            raise RunError(
                f"the adapter in '{directory}' is not one of this model with these settings; "
                "resume with the model and the lora settings it was written by"
            )
        copy_weights(saved, weights)
    if (bias := read_reward_bias(directory)) is not None:
        model.config.reward_bias = bias


def write_adapter(
    directory: Path, model: PreTrainedModel, weights: Mapping[str, Tensor] | None
) -> None:
    """Write peft's files, and a preference model's bias.

    weights: of `trained_weights`, whole; None leaves them out, for shards in their place.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = copy.copy(model.peft_config[NAME])
    config.inference_mode = True
    config.task_type = "SEQ_CLS" if hasattr(model, "score") else "CAUSAL_LM"
    config.modules_to_save = ["score"] if hasattr(model, "score") else None
    plain = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in config.to_dict().items()
    }
    text = json.dumps(plain, indent=2, sort_keys=True)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")
    if (bias := getattr(model.config, "reward_bias", None)) is not None:
        content = json.dumps({"reward_bias": bias})
        (directory / SCALAR_HEAD).write_text(content + "\n", encoding="utf-8")
    if weights is not None:
        tensors = {name: tensor.contiguous().cpu() for name, tensor in weights.items()}
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


def merged_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """From a whole state of the model, that of a plain model which computes the same."""
    merged = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in state.items()
        if not is_of_adapter(name)
    }
    for name, layer in _layers(model).items():
        up, down = (state[f"{name}.lora_{which}.{NAME}.weight"] for which in "BA")
        change = layer.scaling[NAME] * (up @ down)
        weight = merged[f"{name}.weight"]
        merged[f"{name}.weight"] = weight + (change.T if layer.fan_in_fan_out else change)
    return merged


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[None]:
    """Within the block the model is its base."""
    layers = _layers(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@contextmanager
def adapter_set_to(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within the block the adapter has other weights, laid out over processes as its own are."""
    own = trained_weights(model)
    kept = {name: tensor.clone() for name, tensor in own.items()}
    copy_weights(weights, own)
    try:
        yield
    finally:
        copy_weights(kept, own)


@torch.no_grad()
def copy_weights(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Overwrite each tensor of `target` with that of the same name."""
    for name, tensor in target.items():
        tensor.copy_(source[name])


def _layers(model: nn.Module) -> dict[str, Any]:
    """The layers with an adapter, by name. Told without peft, which may not be installed."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def _linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers of the blocks, by their names within a block."""
    return {
        name: module
        for block in blocks(model)
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }


def _targets(
    linear: Mapping[str, nn.Module], settings: LoRASettings, model: PreTrainedModel
) -> list[str]:
    """Last parts of the names of the layers to adapt. Raises: SettingsError for an unknown one."""
    names = sorted({name.rpartition(".")[2] for name in linear})
    for target in settings.target_modules:
        if target not in names:
            raise SettingsError(
                f"lora.target_modules names '{target}', but the linear layers in the blocks of a "
                f"{model.config.model_type} model are {', '.join(names) or 'none that hark knows'}"
                f"{did_you_mean(target, names)}"
            )
    if not names:
        raise SettingsError(
            f"hark finds no linear layers in the blocks of a {model.config.model_type} model; "
            "train it without lora"
        )
    return sorted(settings.target_modules) or names
