"""Tiny random checkpoints of the families hark promises to work with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from hark.models.language_model import attention_implementation

VOCABULARY, CONTEXT = 61, 64
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": 1,
    "bos_token_id": None,
}
GQA = {**SHAPE, "num_key_value_heads": 1, "head_dim": 16}
CONFIGS = {
    "llama-tied": lambda: LlamaConfig(**GQA, pad_token_id=0, tie_word_embeddings=True),
    "llama-untied-no-pad": lambda: LlamaConfig(**GQA, pad_token_id=None, tie_word_embeddings=False),
    "gpt2-tied-no-pad": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=CONTEXT,
        eos_token_id=1,
        bos_token_id=1,
    ),
    "gpt_neox-untied-no-pad": lambda: GPTNeoXConfig(
        **{**SHAPE, "eos_token_id": 0}, tie_word_embeddings=False, rotary_pct=0.5
    ),
    "qwen2-tied": lambda: Qwen2Config(**SHAPE, num_key_value_heads=1, pad_token_id=0),
    "qwen3-untied": lambda: Qwen3Config(**GQA, pad_token_id=0, tie_word_embeddings=False),
    "mistral-untied": lambda: MistralConfig(**GQA, pad_token_id=0, sliding_window=32),
    "gemma-tied": lambda: GemmaConfig(**GQA, pad_token_id=0),
    "gemma2-tied": lambda: Gemma2Config(
        **GQA,
        pad_token_id=0,
        sliding_window=32,
        query_pre_attn_scalar=16,
        # Low enough that leaving the caps out would show.
        attn_logit_softcapping=0.05,
        final_logit_softcapping=0.1,
        attn_implementation="eager",
    ),
    "gemma3-tied": lambda: Gemma3TextConfig(
        **GQA, pad_token_id=0, sliding_window=32, query_pre_attn_scalar=16
    ),
}


def make_model(family: str, seed: int = 0) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CONFIGS[family]()
        model = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention_implementation(config)
        )
        # The usual 0.02 would leave attention nearly uniform and hide a wrong mask.
        for parameter in model.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(params=sorted(CONFIGS))
def family_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return make_model(request.param)


@pytest.fixture
def make_family() -> Callable[..., PreTrainedModel]:
    return make_model


@pytest.fixture
def family_types() -> set[str]:
    return {build().model_type for build in CONFIGS.values()}
