"""Prompts read end to end leave the same keys and values as each read alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from hark.models import prefill
from hark.models.decoders import PagedDecoder
from hark.models.language_model import backbone
from hark.models.prefill import read_end_to_end
from hark.models.tree_attention import attends_by_tree

PROMPTS = [list(range(2, 2 + length)) for length in (30, 17, 0, 9, 1, 0, 5)]


def alone(model: PreTrainedModel, prompt: list[int]) -> DynamicCache:
    cache = DynamicCache()
    model(torch.tensor([prompt]), past_key_values=cache, use_cache=True)
    return cache


@pytest.mark.parametrize(
    ("prompts", "most", "passes"),
    [
        # 30 | 17, 0 | 9, 1, 0, 5: a pass takes 20 tokens, and one longer prompt has its own.
        (PROMPTS, 20, 3),
        # 125 tokens, filled up to 126.
        ([*PROMPTS, *PROMPTS, [3]], 2048, 1),
    ],
)
@torch.inference_mode()
def test_every_family_reads_what_it_reads_alone(
    prompts: list[list[int]],
    most: int,
    passes: int,
    family_model: PreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not attends_by_tree(family_model):
        pytest.skip("is padded: runs once its kind is in ATTENDING_BY_TREE")
    monkeypatch.setattr(prefill, "PREFILL_PASS_TOKENS", most)
    read = read_end_to_end(family_model, prompts)
    assert len({id(one.states) for one in read}) == passes
    assert [one.end - one.start for one in read] == [len(prompt) for prompt in prompts]
    for prompt, one in zip(prompts, read, strict=True):
        expected = alone(family_model, prompt) if prompt else DynamicCache()
        for own, layer in zip(expected.layers, one.states.layers, strict=False):
            part = slice(one.start, one.end)
            torch.testing.assert_close(layer.keys[:, :, part], own.keys, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(layer.values[:, :, part], own.values, atol=1e-5, rtol=1e-5)


def test_the_last_layer_computes_keys_and_values_alone(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("qwen3-untied")
    called: list[tuple[int, str]] = []
    for number, layer in enumerate(backbone(model).layers):  # type: ignore[union-attr]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            getattr(layer.self_attn, name).register_forward_hook(
                lambda *_, number=number, name=name: called.append((number, name))
            )
        layer.mlp.down_proj.register_forward_hook(
            lambda *_, number=number: called.append((number, "down_proj"))
        )
    read_end_to_end(model, [[3, 4, 5], [6]])
    assert sorted(called) == [
        (0, "down_proj"), (0, "k_proj"), (0, "o_proj"), (0, "q_proj"), (0, "v_proj"),
        (1, "k_proj"), (1, "v_proj"),
    ]  # fmt: skip


@torch.inference_mode()
def test_prompts_that_a_sliding_window_cuts_are_padded(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    for family, slides in (("mistral-untied", True), ("gemma3-tied", True), ("llama-tied", False)):
        decoder = PagedDecoder(make_family(family), slots=2, capacity=40)
        assert [one.row for one in decoder.prefill([[3] * 32, [4]])] == [0, 0]
        assert [one.row for one in decoder.prefill([[3] * 33, [4]])] == [0, int(slides)]
