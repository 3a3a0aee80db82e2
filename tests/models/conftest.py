"""Tiny random checkpoints of the families hark promises to work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from hark.models import cpu_linear
from hark.models.language_model import attention_implementation
from hark.models.scalar_head import new_scalar_model
from hark.models.tree_attention import ATTENDING_BY_TREE, TREE_ATTENTION

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
    # Two heads to each key: with one key alone, which head reads which would not show.
    "llama-four-heads-two-keys": lambda: LlamaConfig(
        **{**GQA, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
        pad_token_id=0,
    ),
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
UNPACKED = {
    # Attention that depends on distances within the mask, and positions counted by the mask.
    "bloom-tied": lambda: BloomConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        n_layer=2,
        n_head=2,
        max_position_embeddings=CONTEXT,
        eos_token_id=1,
        pad_token_id=0,
    ),
    "opt-tied": lambda: OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        word_embed_proj_dim=32,
        dropout=0.0,
        eos_token_id=1,
        bos_token_id=1,
        pad_token_id=0,
    ),
}
"""Families that hark reads one padded sequence a row."""


def make_model(family: str, seed: int = 0) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = {**CONFIGS, **UNPACKED}[family]()
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


@dataclass(frozen=True)
class LaidOut:
    """Models of one family that get their tokens in one of hark's layouts."""

    family: str
    layout: str
    """`by tree`: end to end in one row; `in rows`: under a dense mask; `padded`: one sequence a
    row."""

    def language_model(self, seed: int = 0) -> PreTrainedModel:
        return self._placed(make_model(self.family, seed))

    def scalar_model(self, seed: int = 0) -> PreTrainedModel:
        return self._placed(new_scalar_model(make_model(self.family, seed), seed=seed))

    def _placed(self, model: PreTrainedModel) -> PreTrainedModel:
        if self.layout == "in rows" and model.config._attn_implementation == TREE_ATTENTION:
            model.set_attn_implementation("sdpa")
        return model


LAYOUTS = [
    *(LaidOut(family, "in rows") for family in sorted(CONFIGS)),
    *(
        LaidOut(family, "by tree")
        for family, build in sorted(CONFIGS.items())
        if build().model_type in ATTENDING_BY_TREE
    ),
    *(LaidOut(family, "padded") for family in sorted(UNPACKED)),
]


@pytest.fixture(params=LAYOUTS, ids=lambda one: f"{one.family} {one.layout}")
def laid_out(request: pytest.FixtureRequest, quick_products: None) -> LaidOut:
    return request.param


@pytest.fixture
def quick_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of few rows are those that models of any use have."""
    monkeypatch.setattr(cpu_linear, "FEWEST_ROWS", 1)


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    """A tokenizer of 61 words, `w2` is token 2; a dialogue is its words one after the other."""
    vocabulary = {"<pad>": 0, "<end>": 1, **{f"w{place}": place for place in range(2, VOCABULARY)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        chat_template="{% for message in messages %}{{ message['content'] + ' ' }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token + ' ' }}{% endif %}{% endfor %}",
    )
