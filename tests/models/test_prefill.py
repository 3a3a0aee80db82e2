"""Prompts read end to end leave the same keys and values as each read alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import DynamicCache, PreTrainedModel

from hark.models import prefill
from hark.models.decoders import PagedDecoder
from hark.models.prefill import read_end_to_end
from hark.models.tree_attention import attends_by_tree

PROMPTS = [list(range(2, 2 + length)) for length in (30, 17, 0, 9, 1, 0, 5)]


def alone(model: PreTrainedModel, prompt: list[int]) -> DynamicCache:
    cache = DynamicCache()
    model(torch.tensor([prompt]), past_key_values=cache, use_cache=True)
    return cache


@torch.inference_mode()
def test_every_family_reads_what_it_reads_alone(
    family_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not attends_by_tree(family_model):
        pytest.skip("is padded: runs once its kind is in ATTENDING_BY_TREE")
    # 30 | 17, 0 | 9, 1, 0, 5: a pass is filled up to 20, and one longer prompt has its own.
    monkeypatch.setattr(prefill, "PREFILL_PASS_TOKENS", 20)
    read = read_end_to_end(family_model, PROMPTS)
    assert len({id(one.states) for one in read}) == 3
    assert [one.end - one.start for one in read] == [len(prompt) for prompt in PROMPTS]
    for prompt, one in zip(PROMPTS, read, strict=True):
        expected = alone(family_model, prompt) if prompt else DynamicCache()
        for own, layer in zip(expected.layers, one.states.layers, strict=False):
            part = slice(one.start, one.end)
            torch.testing.assert_close(layer.keys[:, :, part], own.keys, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(layer.values[:, :, part], own.values, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_prompts_that_a_sliding_window_cuts_are_padded(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    for family, slides in (("mistral-untied", True), ("gemma3-tied", True), ("llama-tied", False)):
        decoder = PagedDecoder(make_family(family), slots=2, capacity=40)
        assert [one.row for one in decoder.prefill([[3] * 32, [4]])] == [0, 0]
        assert [one.row for one in decoder.prefill([[3] * 33, [4]])] == [0, int(slides)]
