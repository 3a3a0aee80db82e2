from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.models.attention_outcomes import assert_same, outcome
from transformers import AutoModelForCausalLM, PreTrainedModel

from hark.models import cpu_attention
from hark.models.checkpoint import save_model
from hark.models.logprobs import hidden_states, response_logprobs
from hark.models.packing import PackedBatch, PromptTree, pack, pack_for
from hark.models.tree_attention import (
    ATTENDING_BY_TREE,
    attends_by_tree,
    tree_layout,
    unread_mask,
)


def numbers(first: int, count: int) -> tuple[int, ...]:
    return tuple(2 + (first + 7 * place) % 59 for place in range(count))


TREES = [
    # A pair, one response, K = 9 of several lengths, and a text with a prompt of one token.
    PromptTree(numbers(3, 5), (numbers(4, 6), numbers(9, 2))),
    PromptTree(numbers(8, 2), (numbers(1, 3),)),
    PromptTree(numbers(11, 7), tuple(numbers(20 + k, 1 + 2 * k) for k in range(9))),
    PromptTree(numbers(5, 1), (numbers(30, 20),)),
]


def test_branches_worked_by_hand() -> None:
    # Row: prompt 0 1 2, response 3 4 5; response 6 7. Then a prompt 8, response 9.
    layout = tree_layout([(3, 3, 2), (1, 1)])
    assert layout.trees.tolist() == [0, 2, 3]
    # Start, end; prompt's start and tokens; first query and end.
    assert layout.branches.tolist() == [
        [0, 6, 0, 0, 0, 6],
        [6, 8, 0, 3, 6, 8],
        [8, 10, 8, 0, 8, 10],
    ]
    assert layout.last is None
    asked = tree_layout([(3, 3, 2), (1, 1)], torch.tensor([2, 5, 7])).last
    assert asked is not None
    assert asked.position.tolist() == [2, 5, 7]
    assert asked.branches[:, 4:].tolist() == [[0, 2], [2, 3], [3, 3]]


def test_trees_lie_end_to_end_without_padding(make_family: Callable[..., PreTrainedModel]) -> None:
    batch = pack_for(make_family("llama-tied"), TREES)
    # 5+6+2, 2+3, 7+(1+3+…+17 = 81), 1+20.
    assert batch.tokens.shape == (1, 127)
    assert bool(batch.is_token.all())
    assert batch.trees[:2] == ((5, 6, 2), (2, 3))
    # A width that is asked for is kept to.
    assert pack_for(make_family("llama-tied"), TREES, row_tokens=96).tokens.shape == (2, 96)


def test_it_equals_the_padded_computation(
    family_model: PreTrainedModel, quick_products: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outcome(family_model, pack(TREES, one_sequence_per_row=True))
    batch = pack_for(family_model, TREES)
    assert bool(batch.trees) == (family_model.config.model_type in ATTENDING_BY_TREE)
    assert bool(batch.trees) != (family_model.config.model_type == "gemma2")
    if batch.trees:
        monkeypatch.setattr(PackedBatch, "attends", None)  # no dense mask is made
    assert_same(outcome(family_model, batch), expected)


def test_activation_checkpointing_changes_nothing(
    make_family: Callable[..., PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_family("llama-tied").train()
    batch = pack_for(model, TREES)
    logprobs, gradients = outcome(model, batch)
    passes = []
    run = cpu_attention.attention.run
    monkeypatch.setattr(
        cpu_attention.attention, "run", lambda *given: passes.append(None) or run(*given)
    )
    model.activation_checkpointing_enable()
    again, recomputed = outcome(model, batch)
    assert len(passes) == 4  # two layers, each forward and once more for its gradients
    assert torch.equal(again, logprobs)
    assert all(torch.equal(recomputed[name], gradients[name]) for name in gradients)


def test_under_autocast_it_is_as_near_as_bfloat16_allows(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("llama-tied")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = outcome(model, pack(TREES))
        got = outcome(model, pack_for(model, TREES))
    # bfloat16 keeps 8 bits of a number; the errors of two layers add up.
    assert_same(got, expected, tolerance=0.1)
    assert not torch.allclose(got[0], outcome(model, pack_for(model, TREES))[0], rtol=1e-4)


def test_bfloat16_weights(make_family: Callable[..., PreTrainedModel]) -> None:
    model = make_family("llama-tied").bfloat16()
    batch = pack_for(model, TREES)
    assert batch.trees
    got, expected = outcome(model, batch)[0], outcome(model, pack(TREES))[0]
    assert float((got - expected).abs().max()) <= 0.05 * float(expected.abs().max())


def test_a_model_of_another_attention_reads_the_same_row(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("llama-tied")
    batch = pack_for(model, TREES)
    expected = response_logprobs(model, batch)
    model.set_attn_implementation("sdpa")
    assert not attends_by_tree(model)
    torch.testing.assert_close(response_logprobs(model, batch), expected)


def test_an_attention_that_does_not_know_layouts_gives_nan(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("llama-tied")
    model.set_attn_implementation("sdpa")
    tokens = torch.tensor([[5, 6, 7]])
    assert model(tokens, attention_mask=unread_mask(torch.float32)).logits.isnan().all()


def test_attention_dropout_keeps_rows_dense(make_family: Callable[..., PreTrainedModel]) -> None:
    model = make_family("gpt2-tied-no-pad")  # whose attn_pdrop is 0.1 by default
    assert attends_by_tree(model)
    assert not attends_by_tree(model.train())
    batch = pack(TREES, end_to_end=True)
    assert hidden_states(model, batch, batch.predictors).isfinite().all()


def test_saved_models_do_not_name_it(
    make_family: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    save_model(tmp_path / "model", make_family("llama-tied"), None)
    assert "hark" not in json.dumps(json.loads((tmp_path / "model/config.json").read_text()))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert plain.config._attn_implementation == "sdpa"
