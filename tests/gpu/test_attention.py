"""Flex attention compiled, in whole models: what the padded computation says, it says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.models.attention_outcomes import assert_same, outcome
from torch._dynamo.utils import counters
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedModel,
    Qwen3Config,
)

from hark.models import tree_attention
from hark.models.language_model import attention_implementation
from hark.models.packing import PackedBatch, PromptTree, pack, pack_for

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 128,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
}
CONFIGS: dict[str, Callable[[], object]] = {
    "llama": lambda: LlamaConfig(**SHAPE, num_key_value_heads=2, head_dim=64),
    "gpt2": lambda: GPT2Config(
        vocab_size=61, n_embd=128, n_layer=2, n_head=4, n_positions=1024, attn_pdrop=0.0
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**SHAPE, rotary_pct=0.5),
    "qwen3, six heads": lambda: Qwen3Config(
        **{**SHAPE, "num_attention_heads": 6}, num_key_value_heads=2, head_dim=32
    ),
    "gemma3, scaled otherwise": lambda: Gemma3TextConfig(
        **SHAPE, num_key_value_heads=1, head_dim=64, query_pre_attn_scalar=100, sliding_window=1024
    ),
}


def numbers(first: int, count: int) -> tuple[int, ...]:
    return tuple(2 + (first + 7 * place) % 59 for place in range(count))


TREES = [
    PromptTree(numbers(3, 150), (numbers(4, 260), numbers(9, 20))),
    PromptTree(numbers(8, 2), (numbers(1, 3),)),
    PromptTree(numbers(11, 70), tuple(numbers(20 + k, 1 + 20 * k) for k in range(9))),
    PromptTree(numbers(5, 1), (numbers(30, 400),)),
]


def make_model(name: str, device: torch.device) -> PreTrainedModel:
    torch.manual_seed(0)
    config = CONFIGS[name]()
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention_implementation(config)
    )
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.to(device).eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_equals_the_padded_computation(name: str, device: torch.device) -> None:
    model = make_model(name, device)
    expected = outcome(model, pack(TREES, one_sequence_per_row=True))
    batch = pack_for(model, TREES)
    assert batch.trees, "flex attention is not used"
    assert_same(outcome(model, batch), expected, tolerance=5e-5, least_scale=1e-2)


@pytest.mark.parametrize("name", ["llama", "gemma3, scaled otherwise"])
def test_bfloat16_is_as_near_as_the_padded_computation(name: str, device: torch.device) -> None:
    model = make_model(name, device)
    exact = outcome(model, pack(TREES, one_sequence_per_row=True))[0]
    with torch.autocast(device.type, torch.bfloat16):
        got, expected = (
            outcome(model, batch)[0]
            for batch in (pack_for(model, TREES), pack(TREES, one_sequence_per_row=True))
        )
    errors = [float((found - exact).square().mean().sqrt()) for found in (got, expected)]
    assert 0 < errors[0] <= 1.5 * errors[1]


def test_lengths_compile_nothing_anew(device: torch.device) -> None:
    model = make_model("llama", device)
    for count in (1, 4):
        outcome(model, pack_for(model, TREES[:count]))
    known = counters["stats"]["unique_graphs"]
    for trees in (TREES[1:], TREES[2:], TREES * 3, TREES[3:]):
        outcome(model, pack_for(model, trees))
    assert counters["stats"]["unique_graphs"] == known


def test_it_never_makes_a_mask_of_the_row(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama", device)
    batch = pack_for(model, TREES)
    monkeypatch.setattr(PackedBatch, "attends", None)
    monkeypatch.setattr(tree_attention, "sdpa_attention_forward", None)
    assert outcome(model, batch)[0].isfinite().all()
