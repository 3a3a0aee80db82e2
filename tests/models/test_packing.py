from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hark.errors import DataError, SettingsError
from hark.models.language_model import RESIDUAL_OUTPUTS
from hark.models.logprobs import hidden_states, response_logprobs
from hark.models.packing import (
    PACKABLE,
    PackedBatch,
    PromptTree,
    pack,
    pack_for,
    pack_texts,
    pass_tokens,
    plan_batches,
    supports_packing,
    text_rows,
    trees_by_prompt,
)
from hark.models.tree_attention import ATTENDING_BY_TREE

TREES = [
    PromptTree((5, 6, 7, 8), ((9, 10, 1), (11, 1), (12, 13, 14, 1))),
    PromptTree((20,), ((21, 22, 23),)),
    PromptTree((30, 31), ((32, 1), (33, 34, 1))),
]


def separately(trees: list[PromptTree]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(tree.prompt, response) for tree in trees for response in tree.responses]


def relative_error(got: Tensor, expected: Tensor) -> float:
    got, expected = got.detach(), expected.detach()
    return float((got - expected).abs().max() / expected.abs().max())


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same_gradients(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        # Relative to the tensor, or to the whole where a gradient is zero but for rounding.
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert float((got[name] - gradient).abs().max()) <= 1e-5 * scale, name


def test_every_architecture_that_is_packed_is_tested_here(family_types: set[str]) -> None:
    assert family_types == PACKABLE == set(RESIDUAL_OUTPUTS)
    assert ATTENDING_BY_TREE < PACKABLE


def test_the_layout_of_one_tree_worked_by_hand() -> None:
    batch = pack([PromptTree((5, 6), ((7, 8), (9,)))], pad_token_id=3)
    # Five tokens, rounded up to a row of eight: prompt 5 6, branch 7 8, branch 9, padding.
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 9, 3, 3, 3]]
    assert batch.positions[0, :5].tolist() == [0, 1, 2, 3, 2]
    assert batch.group.tolist() == [[0, 0, 0, 0, 0, -1, -1, -1]]
    assert batch.branch.tolist() == [[-1, -1, 0, 0, 1, -1, -1, -1]]
    assert batch.is_token.tolist() == [[True] * 5 + [False] * 3]
    assert batch.targets.tolist() == [7, 8, 9]
    assert batch.predictors.tolist() == [1, 2, 1]
    assert batch.response_of.tolist() == [0, 0, 1]
    assert batch.step_of.tolist() == [0, 1, 0]
    assert batch.ends.tolist() == [3, 4]
    assert batch.lengths.tolist() == [2, 1]
    sees = batch.attends()[0, :5, :5].int().tolist()
    assert sees == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert batch.attends().diagonal(dim1=1, dim2=2).all()


def test_the_additive_mask_is_zero_where_a_token_attends() -> None:
    batch = pack(TREES, row_tokens=14)
    mask = batch.attention_mask(torch.float32)
    assert mask.shape == (len(batch.tokens), 1, 14, 14)
    assert torch.equal(mask[:, 0] == 0, batch.attends())
    assert mask.min() == torch.finfo(torch.float32).min


def test_trees_go_longest_first_into_the_first_row_with_room() -> None:
    # Lengths 13, 4, 7 in rows of 16: 13 opens row 0; 7 opens row 1; 4 no longer fits beside 13.
    batch = pack(TREES, row_tokens=16)
    groups = [sorted(set(row.tolist()) - {-1}) for row in batch.group]
    assert groups == [[0], [1, 2]]
    # Numbered by tree and branch nevertheless.
    assert batch.targets[batch.response_of == 3].tolist() == [21, 22, 23]


def test_a_tree_longer_than_the_row_widens_it() -> None:
    assert pack(TREES, row_tokens=4).tokens.shape[1] == 13


def test_a_tree_is_parted_where_its_tokens_pass_the_limit() -> None:
    tree = PromptTree((5, 6), ((1,), (2, 2), (3, 3, 3, 3), (4,), (9,)))
    # 2 + 1 + 2 = 5; 2 + 4 = 6 is too long and alone; 2 + 1 + 1 = 4.
    assert [part.responses for part in tree.parts(5)] == [
        ((1,), (2, 2)),
        ((3, 3, 3, 3),),
        ((4,), (9,)),
    ]
    assert all(part.prompt == (5, 6) for part in tree.parts(5))
    assert tree.parts(tree.tokens) == [tree]
    assert tree.parts(1) == [PromptTree((5, 6), (each,)) for each in tree.responses]


def test_responses_to_one_prompt_are_one_tree_wherever_they_stand() -> None:
    trees, places = trees_by_prompt([[1, 2], [3], [1, 2]], [[7], [8, 9], [7]])
    assert trees == [PromptTree((1, 2), ((7,), (7,))), PromptTree((3,), ((8, 9),))]
    assert places == [0, 2, 1]


def test_a_batch_for_two_models_is_laid_out_as_both_can_read_it(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    llama, gemma2, opt = map(make_family, ("llama-tied", "gemma2-tied", "opt-tied"))
    assert pack_for([llama, llama], TREES).trees
    assert not pack_for([llama, gemma2], TREES).trees
    assert not pack_for([llama, gemma2], TREES).one_sequence_per_row
    assert pack_for([llama, opt], TREES).one_sequence_per_row
    assert pack_for([opt, llama], TREES).one_sequence_per_row


def test_padded_and_flat_are_inverse() -> None:
    batch = pack(TREES)
    values = torch.arange(1.0, batch.targets.numel() + 1, requires_grad=True)
    padded = batch.padded(values)
    assert padded.shape == (6, 4)
    assert padded[1].tolist() == [4.0, 5.0, 0.0, 0.0]
    assert torch.equal(batch.flat(padded), values)
    assert torch.equal(batch.is_response(), padded > 0)
    (padded**2).sum().backward()
    assert torch.equal(values.grad, 2 * values.detach())


@pytest.mark.parametrize("options", [{}, {"share_prompts": False}, {"row_tokens": 32}])
def test_packing_equals_separate_forward_passes(
    family_model: PreTrainedModel, options: dict[str, int]
) -> None:
    model = family_model
    assert supports_packing(model)
    batch = pack_for(model, TREES, **options)
    assert not batch.one_sequence_per_row
    got = response_logprobs(model, batch)
    (got.exp() * torch.arange(1, got.numel() + 1)).sum().backward()
    got_gradients = gradients(model)
    parts = []
    for prompt, response in separately(TREES):
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        parts.append(logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0])
    expected = torch.cat(parts)
    (expected.exp() * torch.arange(1, expected.numel() + 1)).sum().backward()
    assert relative_error(got, expected) < 1e-5
    assert_same_gradients(got_gradients, gradients(model))


def test_one_sequence_per_row_gives_the_same(family_model: PreTrainedModel) -> None:
    packed = response_logprobs(family_model, pack(TREES))
    batch = pack(TREES, one_sequence_per_row=True)
    assert batch.tokens.shape == (6, 8)
    assert batch.attention_mask(torch.float32).shape == (6, 8)
    assert relative_error(response_logprobs(family_model, batch), packed) < 1e-5


def test_a_sequence_longer_than_the_sliding_window_is_not_packed(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("gemma2-tied")
    long = [PromptTree(tuple(range(2, 32)), ((40, 41, 42, 43, 1), (44, 1)))]
    batch = pack_for(model, long)
    assert batch.one_sequence_per_row
    tokens = torch.tensor([[*range(2, 32), 40, 41, 42, 43, 1]])
    expected = model.base_model(tokens).last_hidden_state[0]
    got = hidden_states(model, batch, torch.arange(35))
    assert relative_error(got, expected) < 1e-5
    # And the window matters: a mask without it gives something else.
    assert relative_error(hidden_states(model, pack(long), torch.arange(35)), expected) > 1e-3


def test_an_unknown_architecture_gets_one_sequence_per_row(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("llama-tied")
    model.config.model_type = "bloom"
    assert not supports_packing(model)
    assert pack_for(model, TREES, row_tokens=64).one_sequence_per_row


@pytest.mark.parametrize(
    ("trees", "said"),
    [
        ([], "no prompt"),
        ([PromptTree((), ((1,),))], "prompt 0 .* zero tokens"),
        ([PromptTree((1,), ())], "prompt 0 .* no response"),
        ([PromptTree((1,), ((2,), ()))], "response to prompt 0 .* zero tokens"),
    ],
)
def test_nothing_empty_is_packed(trees: list[PromptTree], said: str) -> None:
    with pytest.raises(DataError, match=said):
        pack(trees)


def test_row_tokens_must_be_positive() -> None:
    with pytest.raises(SettingsError, match="row_tokens is 0"):
        pack(TREES, row_tokens=0)


def documents_of(batch: PackedBatch) -> list[list[int]]:
    return [batch.targets[batch.response_of == n].tolist() for n in range(batch.response_count)]


def test_documents_are_cut_at_the_row_and_predict_all_but_their_first_token() -> None:
    batch = pack_texts([[2, 3, 4, 5, 6], [7, 8, 1], [9, 10, 11, 12, 13]], row_tokens=4)
    # 2 3 4 5 | 6 alone has nothing to predict | 7 8 1 | 9 10 11 12 | 13 alone.
    assert documents_of(batch) == [[3, 4, 5], [8, 1], [10, 11, 12]]
    assert batch.tokens.shape[1] == 4


def test_text_rows_are_contiguous_and_drop_the_remainder() -> None:
    assert text_rows([1, 2, 3, 4, 5, 6, 7], 3).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(DataError, match="2 tokens, fewer than one row of 3"):
        text_rows([1, 2], 3)


def test_batches_hold_trees_of_like_length_within_the_budget() -> None:
    # Lengths 13, 4, 7; budget 11 puts 13 alone and 7 with 4.
    assert plan_batches(TREES, 11) == [[0], [2, 1]]
    assert plan_batches(TREES, 10) == [[0], [2], [1]]
    assert plan_batches([], 10) == []


def test_batches_have_about_as_much_each() -> None:
    trees = [PromptTree((1,), (tuple(range(length)),)) for length in (9, 9, 9, 9, 9, 4)]
    # 55 tokens in passes of at most 40: two, of which the first reaches half of all.
    assert plan_batches(trees, 40) == [[0, 1, 2], [3, 4, 5]]
    # Of at most 29: two again, and two trees of ten do not reach 27.5, but a third would pass 29.
    assert plan_batches(trees, 29) == [[0, 1], [2, 3], [4, 5]]


def test_a_cpu_computes_smaller_passes() -> None:
    assert pass_tokens("cpu") < pass_tokens("cuda")
    assert pass_tokens(torch.device("cuda", 1)) == pass_tokens("cuda")
