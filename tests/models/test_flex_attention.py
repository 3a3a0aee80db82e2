"""Flex attention as it is written, uncompiled on the CPU; the compiled one is for tests/gpu."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.models.attention_outcomes import assert_same, outcome
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn.attention import flex_attention as torch_flex
from transformers import PreTrainedModel

from hark.models import flex_attention, logprobs
from hark.models.flex_attention import BLOCK, ROW_UNIT, agrees, attend, can_attend, flex_layout
from hark.models.logprobs import hidden_states
from hark.models.packing import PromptTree, pack
from hark.models.tree_attention import ATTENDING_BY_TREE, attends_by_flex, attends_by_tree

CPU = torch.device("cpu")


def numbers(first: int, count: int) -> tuple[int, ...]:
    return tuple(2 + (first + 7 * place) % 59 for place in range(count))


TREES = [
    # A pair, one response, K = 9 of several lengths, and a text with a prompt of one token.
    PromptTree(numbers(3, 5), (numbers(4, 6), numbers(9, 2))),
    PromptTree(numbers(8, 2), (numbers(1, 3),)),
    PromptTree(numbers(11, 7), tuple(numbers(20 + k, 1 + 2 * k) for k in range(9))),
    PromptTree(numbers(5, 1), (numbers(30, 20),)),
    # And a tree that reaches from the first block of 128 tokens over the next into the third.
    PromptTree(numbers(2, 10), tuple(numbers(40 + k, 20) for k in range(8))),
]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses gradients on a CPU, though what it would compute there has them."""
    monkeypatch.setattr(torch_flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)


@pytest.fixture
def flexing(uncompiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of trees go through flex attention, as on a GPU."""
    monkeypatch.setattr(logprobs, "attends_by_tree", lambda model: False)
    monkeypatch.setattr(logprobs, "attends_by_flex", lambda model: True)


def test_the_runs_worked_by_hand() -> None:
    # Prompt 0 1 2, response 3 4 5, response 6 7; prompt 8, response 9. The prompt is seen to the
    # end of its tree, a response to its own, and what fills the row up by itself alone.
    ends = flex_attention._seen_until([(3, 3, 2), (1, 1)])
    assert ends[:10].tolist() == [8, 8, 8, 6, 6, 6, 8, 8, 10, 10]
    assert len(ends) == ROW_UNIT
    assert ends[10:].tolist() == list(range(11, ROW_UNIT + 1))


@pytest.mark.parametrize(
    "lengths",
    [
        [(50, 60, 200), (2, 3), (700, 20, 1, 130)],
        [(1, 1)],
        [(BLOCK, BLOCK), (BLOCK, BLOCK, BLOCK)],
        [(1000, 24)],  # a row that is full
    ],
)
def test_the_blocks_are_those_of_the_mask(lengths: list[tuple[int, ...]]) -> None:
    trees = [
        PromptTree(numbers(0, prompt), tuple(numbers(1, length) for length in responses))
        for prompt, *responses in lengths
    ]
    batch = pack(trees, end_to_end=True)
    layout = flex_layout(batch.trees, CPU)
    place = torch.arange(layout.tokens)
    sees = layout.mask.mask_mod(place, place, place[:, None], place)
    tokens = batch.tokens.shape[1]
    assert torch.equal(sees[:tokens, :tokens], batch.attends()[0])
    assert not sees[:tokens, tokens:].any()
    assert torch.equal(sees[tokens:, :], torch.eye(layout.tokens, dtype=torch.bool)[tokens:])
    # What torch finds by making the whole mask, we know from the lengths.
    found = torch_flex.create_block_mask(
        layout.mask.mask_mod, 1, 1, layout.tokens, layout.tokens, device="cpu"
    )
    for kind in ("kv", "full_kv", "q", "full_q"):
        counts = getattr(found, f"{kind}_num_blocks")
        assert torch.equal(getattr(layout.mask, f"{kind}_num_blocks"), counts), kind
        blocks, expected = (getattr(one, f"{kind}_indices") for one in (layout.mask, found))
        for row, count in enumerate(counts[0, 0].tolist()):
            assert torch.equal(blocks[0, 0, row, :count], expected[0, 0, row, :count]), kind


def test_whole_blocks_are_told_apart() -> None:
    # Four blocks of one text: six below the diagonal are whole, and no other pair is.
    mask = flex_layout([(1, 4 * BLOCK - 1)], CPU).mask
    assert mask.full_kv_num_blocks is not None
    assert mask.full_kv_num_blocks[0, 0].tolist() == [0, 1, 2, 3]
    assert mask.kv_num_blocks[0, 0].tolist() == [1, 1, 1, 1]


def test_it_equals_the_padded_computation(family_model: PreTrainedModel, flexing: None) -> None:
    if family_model.config.model_type not in ATTENDING_BY_TREE:
        pytest.skip("keeps the dense mask: runs once its kind is in ATTENDING_BY_TREE")
    expected = outcome(family_model, pack(TREES, one_sequence_per_row=True))
    assert_same(outcome(family_model, pack(TREES, end_to_end=True)), expected)


def test_it_equals_attention_in_blocks(
    make_family: Callable[..., PreTrainedModel], request: pytest.FixtureRequest
) -> None:
    model = make_family("gemma3-tied")  # scores scaled by another number than the heads' width
    batch = pack(TREES, end_to_end=True)
    expected = outcome(model, batch)
    request.getfixturevalue("flexing")
    assert_same(outcome(model, batch), expected)


def test_states_are_found_where_a_row_was_filled_up(
    make_family: Callable[..., PreTrainedModel], flexing: None
) -> None:
    model = make_family("llama-tied")
    batch = pack(TREES, end_to_end=True)
    states = hidden_states(model, batch, torch.tensor([11, 12]))
    expected = model.base_model(
        torch.tensor([[*TREES[0].prompt, *TREES[0].responses[1]]])
    ).last_hidden_state[0, 5:]
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_hands_the_layout_on(
    make_family: Callable[..., PreTrainedModel], flexing: None
) -> None:
    model = make_family("llama-tied").train()
    batch = pack(TREES, end_to_end=True)
    expected = outcome(model, batch)
    model.activation_checkpointing_enable()
    assert_same(outcome(model, batch), expected)


def test_under_autocast_it_is_bfloat16_attention(
    make_family: Callable[..., PreTrainedModel], flexing: None
) -> None:
    model = make_family("llama-tied")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = outcome(model, pack(TREES))
        got = outcome(model, pack(TREES, end_to_end=True))
    # bfloat16 keeps 8 bits of a number; the errors of two layers add up.
    assert_same(got, expected, tolerance=0.1)


def test_bfloat16_weights(make_family: Callable[..., PreTrainedModel], flexing: None) -> None:
    model = make_family("llama-tied").bfloat16()
    got, expected = (
        outcome(model, batch)[0] for batch in (pack(TREES, end_to_end=True), pack(TREES))
    )
    assert float((got - expected).abs().max()) <= 0.05 * float(expected.abs().max())


def test_it_is_compiled_for_no_length(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    compiled = torch.compile(flex_attention._kernel, dynamic=True, fullgraph=True, backend=counter)
    monkeypatch.setattr(flex_attention, "_kernel", compiled)

    def compute(lengths: tuple[int, ...], scaling: float) -> None:
        layout = flex_layout([lengths], CPU)
        query, key = (torch.randn(1, heads, layout.tokens, 16) for heads in (6, 2))
        attend(query, key, key, layout, scaling)

    # Two lengths at first, because numbers that are equal by chance count as one symbol.
    compute((50, 60), 0.25)
    compute((1500, 100, 1), 0.25)
    known = counter.frame_count
    for place, lengths in enumerate([(10, 20), (600, 1, 2), (700, 800, 900)]):
        compute(lengths, 0.1 + place)
    assert 1 <= known <= 2
    assert counter.frame_count == known


def test_a_kernel_that_is_right_is_used(uncompiled: None, caplog: pytest.LogCaptureFixture) -> None:
    agrees.cache_clear()
    for dtype in (torch.float32, torch.bfloat16):
        assert agrees(CPU, dtype, 4, 2, 16)
    assert not caplog.records


@pytest.mark.parametrize("fault", ["raises", "differs"])
def test_a_kernel_that_fails_leaves_the_dense_mask(
    uncompiled: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    right = flex_attention._kernel

    def kernel(*inputs: Any) -> Tensor:
        if fault == "raises":
            raise RuntimeError("no such\nkernel")
        return right(*inputs) * 1.01

    monkeypatch.setattr(flex_attention, "_kernel", kernel)
    agrees.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not agrees(CPU, torch.float32, 4, 4, 16)
        assert not agrees(CPU, torch.float32, 4, 4, 16)  # known by now, and not said again
    (record,) = caplog.records
    said = "RuntimeError: no such kernel" if fault == "raises" else "its results differ by"
    assert said in record.getMessage()
    assert "4 heads of 16 in float32" in record.getMessage()
    agrees.cache_clear()


def test_both_precisions_are_tried(
    make_family: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def agrees(device: torch.device, dtype: torch.dtype, *heads: int) -> bool:
        tried.append((dtype, *heads))
        return dtype == torch.bfloat16

    monkeypatch.setattr(flex_attention, "agrees", agrees)
    model = make_family("llama-tied")
    assert not can_attend(model)
    # Two heads of 16 that share one of keys and values.
    assert (torch.float32, 2, 1, 16) in tried
    assert can_attend(model.bfloat16())
    assert tried[-1] == (torch.bfloat16, 2, 1, 16)


def test_the_cpu_keeps_its_own(
    make_family: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flex_attention, "can_attend", lambda model: True)
    model = make_family("llama-tied")
    assert attends_by_tree(model)
    assert not attends_by_flex(model)
