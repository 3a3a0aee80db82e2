"""A directory in peft's format: what a model was taught, apart from the model itself.

    adapter_config.json          kind, sizes, and in `base_model_name_or_path` the model it changes
    adapter_model.safetensors    the adapter's weights, and a new head where there is one
    scalar_head.json             hark's own: `reward_bias` of a preference model

Given as a model, such a directory stands for its base with the adapter merged into the weights. The
base may be a directory or a Hub name, and its own head's place is taken by the adapter's.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from hark.errors import ModelError
from hark.models.shards import SHARDS, read_shards

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SCALAR_HEAD = "scalar_head.json"
"""The bias has no place in peft's configuration, and a config.json would make transformers take the
directory for a whole model."""


def is_adapter(path: str | Path) -> bool:
    """Whether `path` is a directory in peft's format."""
    return (Path(path).expanduser() / CONFIG).is_file()


def base_of(directory: str | Path) -> str:
    """The model that an adapter changes: a directory, or a Hub name.

    Raises: ModelError if the adapter's configuration does not say.
    """
    base = str(_config(directory).get("base_model_name_or_path") or "")
    if not base or Path(base).expanduser().resolve() == Path(directory).expanduser().resolve():
        raise ModelError(
            f"the adapter '{directory}' does not name the model that it changes (got '{base}'); "
            f"set base_model_name_or_path in its {CONFIG}"
        )
    return base


def is_of_scalar_model(directory: str | Path) -> bool:
    """Whether the adapter belongs to a preference or value model."""
    return _config(directory).get("task_type") == "SEQ_CLS"


def merge_adapter(model: PreTrainedModel, directory: str | Path) -> PreTrainedModel:
    """The base model `model` with the adapter of `directory` merged into its weights, in place.

    Raises: ModelError if peft is missing, or the adapter cannot be merged into this model.
    """
    peft = require_peft(f"'{directory}' is an adapter")
    directory = Path(directory).expanduser()
    tensors = adapter_tensors(directory)
    try:
        with warnings.catch_warnings():
            # What could go wrong is checked below; the rest is advice to those who train.
            warnings.simplefilter("ignore")
            config = peft.PeftConfig.from_pretrained(str(directory))
            config.inference_mode = True
            adapted = peft.get_peft_model(model, config)
            expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
            report = peft.set_peft_model_state_dict(adapted, tensors)
            _require(not (absent := expected.keys() - tensors.keys()), "lacks", absent)
            _require(not report.unexpected_keys, "has the unknown", report.unexpected_keys)
            merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"adapter '{directory}' does not fit the model '{base_of(directory)}' that it names as "
            f"its base: {reason}; set base_model_name_or_path in its {CONFIG} to the right one"
        ) from None
    return merged.requires_grad_(True).eval()


def adapter_tensors(directory: Path) -> dict[str, Tensor]:
    """The weights of an adapter by their names in peft's files, on the CPU.

    Raises: ModelError without safetensors, the only format hark reads.
    """
    if (directory / SHARDS).is_dir():
        return read_shards(directory / SHARDS, lambda name: None)
    try:
        return load_file(directory / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"adapter '{directory}' has no usable {WEIGHTS} ({error}); convert it to safetensors, "
            "the only format hark reads"
        ) from None


def read_reward_bias(directory: str | Path) -> float | None:
    """The bias of an adapted preference model; None where none is written."""
    path = Path(directory).expanduser() / SCALAR_HEAD
    if not path.is_file():
        return None
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["reward_bias"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read '{path}': {error}; write the adapter once more") from None


def require_peft(why: str) -> Any:
    """The package peft. Raises: ModelError if it is not installed."""
    try:
        import peft
    except ImportError:
        raise ModelError(
            f"{why}, for which peft is needed, and it is not installed: pip install 'hark[lora]'"
        ) from None
    return peft


def _config(directory: str | Path) -> dict[str, Any]:
    path = Path(directory).expanduser() / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read '{path}': {error}; write the adapter once more") from None
    if not isinstance(config, dict):
        raise ModelError(f"'{path}' holds no settings of an adapter; write the adapter once more")
    return config


def _require(condition: bool, what: str, names: Any) -> None:
    if not condition:
        raise ValueError(f"it {what} weights '{min(names)}' ({len(names)} in all)")
