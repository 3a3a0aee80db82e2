"""Language models: made from scratch, or read from a Hugging Face directory or the Hub.

Weights are read from safetensors only and no code from a model repository is run. Dropout is off
unless asked for, because lm-human-preferences and its successors train without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils import logging as transformers_logging

from hark.errors import ModelError, SettingsError, did_you_mean
from hark.models.adapter_directory import (
    base_of,
    is_adapter,
    is_of_scalar_model,
    merge_adapter,
)
from hark.models.cpu_linear import quicken_linear
from hark.models.shards import SHARDS, fill_from_shards
from hark.models.tree_attention import ATTENDING_BY_TREE, TREE_ATTENTION

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A Llama with tied embeddings, as many key-value heads as heads, and no biases."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    named_vocabulary: int
    """The vocabulary at which the size's name counts its parameters."""

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    def parameters(self, vocabulary_size: int | None = None) -> int:
        """All parameters, the embedding (tied to the head) counted once."""
        per_layer = 4 * self.width**2 + 3 * self.width * self.mlp_width + 2 * self.width
        embedding = (vocabulary_size or self.named_vocabulary) * self.width
        return embedding + self.layers * per_layer + self.width


SIZES: dict[str, Architecture] = {
    "0.2m": Architecture(width=64, layers=2, heads=2, mlp_width=96, named_vocabulary=2048),
    "0.5m": Architecture(width=96, layers=3, heads=3, mlp_width=256, named_vocabulary=2048),
    "1m": Architecture(width=128, layers=4, heads=4, mlp_width=320, named_vocabulary=2048),
    "3m": Architecture(width=192, layers=5, heads=6, mlp_width=512, named_vocabulary=4096),
    "8m": Architecture(width=256, layers=6, heads=8, mlp_width=1024, named_vocabulary=8192),
    "20m": Architecture(width=384, layers=8, heads=6, mlp_width=1280, named_vocabulary=8192),
    "124m": Architecture(width=768, layers=12, heads=12, mlp_width=2048, named_vocabulary=50257),
}
"""From-scratch sizes. A name counts all parameters at `named_vocabulary`, embeddings included."""


def new_language_model(
    size: str | Architecture,
    *,
    vocabulary_size: int,
    context_length: int,
    seed: int,
    pad_token_id: int,
    eos_token_id: int,
) -> PreTrainedModel:
    """A Llama with random weights that depend on `seed` alone, in float32 on the CPU.

    size: a name of `SIZES`, or an architecture of one's own.
    Raises: SettingsError for an unknown size.
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise SettingsError(
                f"unknown model size '{size}'{did_you_mean(size, SIZES)}; sizes: {', '.join(SIZES)}"
            )
        size = SIZES[size]
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=size.width,
        intermediate_size=size.mlp_width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        pad_token_id=pad_token_id,
        bos_token_id=None,
        eos_token_id=eos_token_id,
        attn_implementation=TREE_ATTENTION,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def load_language_model(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    dropout: float = 0.0,
) -> PreTrainedModel:
    """Read a decoder-only model from a local directory, or by its Hub name.

    A directory with an adapter of peft's stands for its base with the adapter merged.

    dropout: residual dropout (on the output of each attention and MLP block) in training mode;
        0 leaves the model without any dropout, whatever its configuration says.
    Raises: ModelError if there is no such model, it is not a language model, has no safetensors,
        lacks weights, has NaN or infinite ones, or cannot apply the dropout asked for.
    """
    if is_adapter(path):
        model = _read_adapted(path, dtype=dtype)
    else:
        model = read_pretrained(AutoModelForCausalLM, path, dtype=dtype)
    if model.config.model_type not in RESIDUAL_OUTPUTS:
        _check_head(model, path)
    if dropout:
        add_residual_dropout(model, dropout)
    return model.to(torch.device(device))


def _read_adapted(path: str | Path, *, dtype: str) -> PreTrainedModel:
    """The base of an adapter with the adapter merged, in float32 before anything is rounded."""
    if is_of_scalar_model(path):
        raise ModelError(
            f"'{path}' is the adapter of a preference or value model, not of a language model; "
            "give one of a language model"
        )
    check_dtype(dtype)
    return merge_adapter(load_language_model(base_of(path)), path).to(DTYPES[dtype])


def check_dtype(name: str) -> None:
    """Raise SettingsError for a name that is not in `DTYPES`."""
    if name not in DTYPES:
        raise SettingsError(f"unknown dtype '{name}'; choose from {', '.join(DTYPES)}")


def read_pretrained(auto_class: Any, path: str | Path, *, dtype: str, **overrides: Any) -> Any:
    """Read a model of `auto_class` with every check that does not depend on its head."""
    check_dtype(dtype)
    name = _model_name(path)
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **overrides)
        switch_dropout_off(config)
        if (shards := Path(name) / SHARDS).is_dir():
            return _read_sharded(auto_class, config, shards, dtype=DTYPES[dtype])
        model, report = auto_class.from_pretrained(
            name,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=attention_implementation(config),
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(_explain(name, error)) from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    _check_weights(model, report, name)
    # Tensors read from a file lie at odd addresses, where kernels round differently: copies at
    # aligned ones make a loaded model bit-identical to the one that was saved.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model.eval()


def _read_sharded(auto_class: Any, config: Any, shards: Path, *, dtype: torch.dtype) -> Any:
    """A model whose weights several processes wrote into a checkpoint of training."""
    with torch.random.fork_rng(devices=[]):
        model = auto_class.from_config(
            config, dtype=dtype, attn_implementation=attention_implementation(config)
        )
    fill_from_shards(shards, model.state_dict())
    if (shards.parent / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(shards.parent)
    return model.eval()


def attention_implementation(config: Any) -> str | None:
    """`eager` where attention logits are capped (SDPA cannot), by trees where the tests show that
    it is exact, else what transformers prefers."""
    if getattr(config.get_text_config(), "attn_logit_softcapping", None):
        return "eager"
    return TREE_ATTENTION if config.model_type in ATTENDING_BY_TREE else None


def choose_device(name: str) -> torch.device:
    """The device a setting names: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

    On CUDA float32 products are float32 from then on, whatever the environment asks for: in
    TensorFloat32 the angles that far positions are rotated by would be visibly wrong. Who wants
    speed takes bfloat16, which leaves no large product in float32 (decision 0010).
    Raises: SettingsError if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if re.fullmatch(r"cpu|cuda(:\d+)?", name) is None:
        raise SettingsError(f"unknown device '{name}'; choose auto, cpu, cuda or cuda:0")
    device = torch.device(name)
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise SettingsError(
                f"device '{device}' is not here ({torch.cuda.device_count()} CUDA devices found); "
                "use --device cpu"
            )
        torch.set_float32_matmul_precision("highest")
    return device


def context_length(model: PreTrainedModel) -> int:
    """How many tokens the model can read at once."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if length is None:
        raise ModelError(
            f"the {model.config.model_type} configuration states no context length; "
            "set max_position_embeddings in its config.json"
        )
    return int(length)


def check_match(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError if the tokenizer can produce a token that the model has no embedding for."""
    rows = model.get_input_embeddings().weight.shape[0]
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if highest >= rows:
        raise ModelError(
            f"tokenizer and model do not match: the tokenizer has token {highest} ('{token}') but "
            f"the model has embeddings for {rows} tokens; use the tokenizer the model came with"
        )


def backbone(model: PreTrainedModel) -> nn.Module:
    """The transformer below the head; its forward pass gives `last_hidden_state` [R, T, D]."""
    return model.base_model


def output_embedding(model: PreTrainedModel) -> nn.Module:
    """The head: hidden states [..., D] -> logits [..., V], with the family's own last steps.

    Its linear map becomes a quick one (`cpu_linear`), as `tree_layers.quicken` makes the layers'.
    """
    config = model.config.get_text_config()
    linear = model.get_output_embeddings()
    quicken_linear(linear)
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1.0 / getattr(config, "logits_scaling", 1.0)
    return linear if cap is None and scale == 1.0 else _AdjustedHead(linear, scale, cap)


class _AdjustedHead(nn.Module):
    """Logits scaled (Cohere, Granite) and capped (Gemma 2) after the linear map."""

    def __init__(self, linear: nn.Module, scale: float, cap: float | None) -> None:
        super().__init__()
        self.linear, self.scale, self.cap = linear, scale, cap

    def forward(self, hidden: Tensor) -> Tensor:
        logits = self.linear(hidden) * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


RESIDUAL_OUTPUTS: dict[str, tuple[str, ...]] = {
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"),
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
        ("self_attn.o_proj", "mlp.down_proj"),
    ),
}
"""Per `model_type`, the maps whose output is added to the residual stream."""


class _Dropout:
    """A forward hook; a class rather than a closure so that models stay copyable."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def __call__(self, module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return F.dropout(output, self.probability, training=module.training)


def add_residual_dropout(model: PreTrainedModel, probability: float) -> None:
    """Drop out the output of each block before it joins the residual stream (InstructGPT C.1).

    Raises: SettingsError outside 0 ≤ p < 1; ModelError for an architecture we do not know.
    """
    if not 0.0 <= probability < 1.0:
        raise SettingsError(f"dropout is {probability}; it must be at least 0 and below 1")
    names: Sequence[str] = RESIDUAL_OUTPUTS.get(model.config.model_type, ())
    modules = [module for name, module in model.named_modules() if name.endswith(tuple(names))]
    if not names or not modules:
        raise ModelError(
            f"dropout {probability} was asked for, but hark cannot apply it to a "
            f"{model.config.model_type} model; set dropout to 0"
        )
    for module in modules:
        module.register_forward_hook(_Dropout(probability))


def switch_dropout_off(config: Any) -> None:
    """Set every dropout probability of a configuration to zero."""
    for name, value in config.to_dict().items():
        if isinstance(value, float) and (name.endswith(("dropout", "_pdrop"))):
            setattr(config, name, 0.0)


def _model_name(path: str | Path) -> str:
    """The name transformers should read; refuses what is plainly neither directory nor Hub name."""
    directory = Path(path).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise ModelError(
                f"'{path}' has no config.json, so it is not a model directory; "
                "give a Hugging Face model directory or a run directory of a finished stage"
            )
        return str(directory)
    looks_local = isinstance(path, Path) or str(path).startswith((".", "/", "~", "runs/"))
    if directory.exists() or looks_local or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(path)):
        raise ModelError(
            f"there is no model directory '{path}'; give a local directory or a Hub name such as "
            "'EleutherAI/pythia-70m'"
        )
    return str(path)


def _explain(name: str, error: Exception) -> str:
    """One sentence for whatever transformers raised."""
    reason = " ".join(str(error).split())[:300]
    if not Path(name).is_dir():
        return (
            f"cannot fetch model '{name}': there is no such local directory, and the Hub has no "
            f"such model or cannot be reached ({reason}); give the path of a model on this machine"
        )
    if "safetensors" in reason or isinstance(error, SafetensorError):
        return (
            f"model '{name}' has no usable safetensors weights ({reason}); "
            "convert it to safetensors, the only format hark reads"
        )
    return f"cannot read model '{name}': {reason}; is it a decoder-only transformers model?"


def _check_weights(model: PreTrainedModel, report: Any, name: str) -> None:
    """Refuse absent, misshapen and non-finite weights."""
    if absent := sorted(report["missing_keys"]):
        wanted = type(model).__name__
        raise ModelError(
            f"model '{name}' lacks the weights '{absent[0]}' ({len(absent)} absent), which a "
            f"{wanted} needs; was another kind of model meant?"
        )
    if any(key.endswith("score.weight") for key in report["unexpected_keys"]):
        raise ModelError(
            f"'{name}' is a preference or value model, not a language model; give the language "
            "model it was made from"
        )
    for tensor_name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"model '{name}' has NaN or infinite weights in '{tensor_name}'; training diverged "
                "before it was saved, or it is corrupt: use an earlier checkpoint"
            )


@torch.no_grad()
def _check_head(model: PreTrainedModel, path: str | Path) -> None:
    """Refuse an architecture whose logits are not what `output_embedding` makes of its states."""
    tokens = torch.arange(1, 5)[None] % model.config.get_text_config().vocab_size
    hidden = backbone(model)(input_ids=tokens).last_hidden_state
    expected = model(input_ids=tokens).logits
    if not torch.allclose(output_embedding(model)(hidden), expected, rtol=1e-2, atol=1e-2):
        raise ModelError(
            f"model '{path}' ({model.config.model_type}) computes its logits in a way hark does "
            f"not know; use one of {', '.join(sorted(RESIDUAL_OUTPUTS))}"
        )
