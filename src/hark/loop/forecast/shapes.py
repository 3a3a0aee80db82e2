"""The shapes of models that may not exist yet: from a preset, a configuration, or a bare count.

A count ("70b") is looked up among published Llama sizes. Between them the rule is: layers by
interpolation of log(layers) over log(parameters), heads of 128 (64 below 1B), an MLP of 3.5 times
the width, the vocabulary of Llama 2, and the width that makes the count come out. Such a shape is a
guess and everything derived from it is extrapolated.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hark.errors import ModelError, SettingsError
from hark.models import flops
from hark.models.language_model import Architecture
from hark.runs.run import resolve_model

COUNT = re.compile(r"(\d+(?:\.\d+)?)([mbt])", re.IGNORECASE)
_UNITS = {"m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer, as far as it decides memory and arithmetic."""

    parameters: int
    """As a language model; a head tied to the embedding counted once."""
    block_parameters: int
    """Of one layer, norms and biases included."""
    matrices: int
    """Weights in the matrices of all layers."""
    layers: int
    width: int
    attention_width: int
    """Heads times the width of one."""
    key_value_width: int
    """Key-value heads times the width of one: numbers a token leaves in a layer's cache, twice."""
    mlp_width: int
    vocabulary: int
    tied: bool
    """Whether the head is the embedding."""
    origin: str
    """Where the shape comes from, for people."""
    counted: bool = True
    """From a preset or a configuration; False: a guess."""

    @property
    def scalar_parameters(self) -> int:
        """With a scalar head in the place of the language model's."""
        head = 0 if self.tied else self.vocabulary * self.width
        return self.parameters - head + self.width

    @property
    def outside(self) -> int:
        """Parameters outside the layers: embedding, last norm, head."""
        return self.parameters - self.layers * self.block_parameters

    @property
    def arithmetic(self) -> flops.Shape:
        """For counting useful operations."""
        return flops.Shape(
            matrices=self.matrices,
            layers=self.layers,
            attention_width=self.attention_width,
            width=self.width,
            vocabulary=self.vocabulary,
        )

    @classmethod
    def of_preset(cls, size: Architecture, vocabulary: int, *, origin: str) -> Self:
        """Of a size of `hark pretrain`."""
        return cls.of_llama(
            layers=size.layers, width=size.width, key_value_width=size.width,
            mlp_width=size.mlp_width, vocabulary=vocabulary, tied=True, origin=origin, counted=True,
        )  # fmt: skip

    @classmethod
    def of_llama(
        cls,
        *,
        layers: int,
        width: int,
        key_value_width: int,
        mlp_width: int,
        vocabulary: int,
        tied: bool,
        origin: str,
        counted: bool = False,
    ) -> Self:
        """Of a Llama: no biases, heads together as wide as the model."""
        matrices = 2 * width * width + 2 * width * key_value_width + 3 * width * mlp_width
        block = matrices + 2 * width
        return cls(
            parameters=layers * block + (1 if tied else 2) * vocabulary * width + width,
            block_parameters=block, matrices=layers * matrices, layers=layers, width=width,
            attention_width=width, key_value_width=key_value_width, mlp_width=mlp_width,
            vocabulary=vocabulary, tied=tied, origin=origin, counted=counted,
        )  # fmt: skip

    @classmethod
    def of_directory(cls, path: Path) -> Self:
        """Of a model directory, by its configuration alone; no weights are read.

        Raises: ModelError for a configuration that is not a language model's.
        """
        try:
            config = AutoConfig.from_pretrained(str(path), trust_remote_code=False)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"cannot read the configuration of model '{path}': {reason}; name another model, "
                "or say how large it is: --parameters STAGE=7b"
            ) from None
        return cls(**_of_meta_model(model, origin=str(path)))


def _of_meta_model(model: Any, *, origin: str) -> dict[str, Any]:
    config = model.config.get_text_config()
    shape = flops.Shape.of(model)
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    parameters = sum(weight.numel() for weight in model.parameters())
    inside = sum(w.numel() for name, w in model.named_parameters() if re.search(r"\.\d+\.", name))
    mlp = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return {
        "parameters": parameters,
        "block_parameters": inside // shape.layers,
        "matrices": shape.matrices,
        "layers": shape.layers,
        "width": shape.width,
        "attention_width": shape.attention_width,
        "key_value_width": shape.attention_width // heads * groups,
        "mlp_width": mlp or 4 * shape.width,
        "vocabulary": shape.vocabulary,
        "tied": tied,
        "origin": origin,
    }


def _published(
    name: str, layers: int, width: int, key_value_width: int, mlp_width: int, vocabulary: int
) -> ModelShape:
    return ModelShape.of_llama(
        layers=layers, width=width, key_value_width=key_value_width, mlp_width=mlp_width,
        vocabulary=vocabulary, tied=name.startswith("Llama 3.2"), origin=f"the shape of {name}",
    )  # fmt: skip


PUBLISHED: dict[str, ModelShape] = {
    "1b": _published("Llama 3.2 1B", 16, 2048, 512, 8192, 128256),
    "3b": _published("Llama 3.2 3B", 28, 3072, 1024, 8192, 128256),
    "7b": _published("Llama 2 7B", 32, 4096, 4096, 11008, 32000),
    "8b": _published("Llama 3.1 8B", 32, 4096, 1024, 14336, 128256),
    "13b": _published("Llama 2 13B", 40, 5120, 5120, 13824, 32000),
    "70b": _published("Llama 2 70B", 80, 8192, 1024, 28672, 32000),
    "405b": _published("Llama 3.1 405B", 126, 16384, 1024, 53248, 128256),
}
"""The model cards and papers of Llama 2 (2307.09288) and Llama 3 (2407.21783)."""

_LAYERS = ((0.5e6, 3), (8e6, 6), (124e6, 12), (1.2e9, 18), (7e9, 32), (70e9, 80), (405e9, 126))
"""Parameters and layers between which the rule interpolates."""
_VOCABULARY = 32_000


def shape_of_count(text: str) -> ModelShape:
    """The shape of a model of that many parameters, such as "124m" or "70b".

    Raises: SettingsError for what is not a count.
    """
    if COUNT.fullmatch(text) is None:
        raise SettingsError(f"'{text}' is not a number of parameters such as 350m, 7b or 1.5b")
    return PUBLISHED.get(text.lower()) or shape_of_parameters(_count(text))


def _count(text: str) -> float:
    number, unit = COUNT.fullmatch(text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit.lower()]


def shape_of_parameters(count: float) -> ModelShape:
    """A Llama-like shape of about `count` parameters, by the rule above; grows with `count`."""
    sizes, layers_of = zip(*_LAYERS, strict=True)
    layers = round(
        math.exp(float(np.interp(math.log(count), np.log(sizes), np.log(layers_of))))
    )  # fmt: skip
    head_width = 128 if count >= 1e9 else 64 if count >= 50e6 else 32
    groups = 8 if count >= 1e9 else None
    vocabulary = _VOCABULARY if count >= 50e6 else 4096

    def of_width(width: int) -> ModelShape:
        few = min(width, groups * head_width) if groups else width
        return ModelShape.of_llama(
            layers=layers, width=width, key_value_width=few,
            mlp_width=round(3.5 * width / head_width) * head_width, vocabulary=vocabulary,
            tied=count < 5e9, origin=f"a Llama-like shape of {describe_count(count)} parameters",
        )  # fmt: skip

    low, high = 1, 4096
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (middle + 1, high)
            if of_width(middle * head_width).parameters < count
            else (low, middle)
        )
    return of_width(low * head_width)


def shape_of_name(word: str) -> ModelShape:
    """The shape of a model named by a path, a run or a Hub name.

    A model that is not on this machine is guessed from a count in its name.
    Raises: ModelError if there is nothing to guess from; HarkError for a broken directory.
    """
    path = resolve_model(word)
    if path.is_dir():
        return ModelShape.of_directory(path)
    counts = COUNT.findall(word)
    if not counts:
        raise ModelError(
            f"model '{word}' is not on this machine and its name says no size; say it: "
            "--parameters 7b, or for one stage --parameters STAGE=7b"
        )
    guess = shape_of_count("".join(counts[-1]))
    return replace(guess, origin=f"{guess.origin}, guessed from the name '{word}'")


def describe_count(count: float) -> str:
    """`70.6B`, `124M`."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.0f}"
