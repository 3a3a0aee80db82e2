from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from hark.errors import SettingsError
from hark.models import logprobs
from hark.models.language_model import output_embedding
from hark.models.logprobs import (
    hidden_states,
    logprobs_of_hidden,
    response_logprobs,
    token_losses,
)
from hark.models.packing import PromptTree, pack, pack_for
from hark.models.tree_attention import attends_by_tree

TREES = [PromptTree((5, 6, 7), ((9, 10, 1), (11, 1))), PromptTree((20,), ((21, 22, 23),))]


def test_the_head_is_the_models_own(family_model: PreTrainedModel) -> None:
    tokens = torch.tensor([[5, 6, 7, 8]])
    states = family_model.base_model(tokens).last_hidden_state
    torch.testing.assert_close(output_embedding(family_model)(states), family_model(tokens).logits)


def test_logprobs_and_entropy_equal_a_full_log_softmax(family_model: PreTrainedModel) -> None:
    batch = pack(TREES)
    got, entropy = response_logprobs(family_model, batch, temperature=0.7, with_entropy=True)
    logits = family_model(
        batch.tokens,
        attention_mask=batch.attention_mask(torch.float32),
        position_ids=batch.positions,
    ).logits
    full = (logits / 0.7).log_softmax(-1).flatten(0, 1)[batch.predictors]
    torch.testing.assert_close(got, full[torch.arange(8), batch.targets])
    torch.testing.assert_close(entropy, -(full.exp() * full).sum(-1))
    alone = response_logprobs(family_model, batch, temperature=0.7)
    torch.testing.assert_close(alone, got)


def test_passes_of_like_lengths_multiply_the_same_shapes(family_model: PreTrainedModel) -> None:
    """Every pass is filled up, in all its layers and the head, and gives what it gives alone."""
    rows: list[set[int]] = []
    for module in family_model.modules():
        if hasattr(module, "in_features"):
            module.register_forward_hook(
                lambda module, given, output: rows[-1].add(given[0].numel() // given[0].shape[-1])
            )
    for last in range(8, 13):
        draw = random.Random(last)
        lengths = [(10, 10, 10)] * 4 + [(10, 10, last)]
        trees = [
            PromptTree(prompt, tuple(responses))
            for prompt, *responses in (
                [tuple(draw.randrange(2, 50) for _ in range(length)) for length in tree]
                for tree in lengths
            )
        ]
        rows.append(set())
        batch = pack_for(family_model, trees)
        got, entropy = response_logprobs(family_model, batch, with_entropy=True)
        alone = response_logprobs(family_model, batch)
        rows.append(set())
        one_by_one = pack(trees, one_sequence_per_row=True)
        expected, spread = response_logprobs(family_model, one_by_one, with_entropy=True)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(alone, expected)
        torch.testing.assert_close(entropy, spread)
    if attends_by_tree(family_model):
        # Of 148 to 152 tokens 98 to 102 are predicted, from five states less.
        assert set.union(*rows[::2]) <= {148, 152, 98, 100, 102, 94, 96}


def test_a_uniform_head_gives_the_log_of_the_vocabulary(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("llama-untied-no-pad")
    torch.nn.init.zeros_(model.lm_head.weight)
    got, entropy = response_logprobs(model, pack(TREES), with_entropy=True)
    # 61 equal probabilities.
    assert got.tolist() == pytest.approx([-math.log(61)] * 8, rel=1e-6)
    assert entropy.tolist() == pytest.approx([math.log(61)] * 8, rel=1e-6)


# Gemma's cap keeps as many numbers itself.
@pytest.mark.parametrize("family", ["gemma2-tied", "llama-tied"])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_chunks_change_neither_numbers_nor_gradients(
    make_family: Callable[..., PreTrainedModel],
    monkeypatch: pytest.MonkeyPatch,
    with_entropy: bool,
    family: str,
) -> None:
    model = make_family(family)
    batch = pack(TREES)

    def run() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        model.zero_grad()
        kept: list[int] = []
        hidden = hidden_states(model, batch, batch.predictors)

        def note(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            found, entropy = logprobs_of_hidden(
                model, hidden, batch.targets, with_entropy=with_entropy
            )
        (found.exp().sum() + entropy.sum()).backward()
        return found.detach(), model.model.embed_tokens.weight.grad.clone(), kept

    whole, whole_gradient, kept_whole = run()
    monkeypatch.setattr(logprobs, "LOGITS_KEPT", 0)
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 3 * 61)
    monkeypatch.setattr(logprobs, "LEAST_CHUNK_TOKENS", 1)
    chunked, chunked_gradient, kept_chunked = run()
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(chunked_gradient, whole_gradient)
    # 8 tokens, 61 words: the logits wait for the backward pass only when they are few.
    assert 8 * 61 in kept_whole
    assert not any(count in (8 * 61, 3 * 61, 2 * 61) for count in kept_chunked)


def test_temperature_must_be_positive(make_family: Callable[..., PreTrainedModel]) -> None:
    with pytest.raises(SettingsError, match="temperature is 0"):
        response_logprobs(make_family("llama-tied"), pack(TREES), temperature=0.0)


def test_token_losses_equal_the_models_own_loss(family_model: PreTrainedModel) -> None:
    rows = torch.tensor([[5, 6, 7, 8, 1], [9, 1, 10, 11, 12]])
    losses = token_losses(family_model, rows)
    assert losses.shape == (2, 4)
    own = family_model(input_ids=rows, labels=rows).loss
    torch.testing.assert_close(losses.mean(), own)


def test_bfloat16_weights_give_float32_logprobs(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("llama-tied")
    exact = response_logprobs(model, pack(TREES))
    rough = response_logprobs(model.bfloat16(), pack(TREES))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.5
