"""Layers in few steps equal those of transformers, step by step and as a whole."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from hark.models import tree_layers
from hark.models.language_model import RESIDUAL_OUTPUTS, add_residual_dropout, backbone
from hark.models.logprobs import hidden_states, response_logprobs
from hark.models.packing import PromptTree, pack, pack_for
from hark.models.tree_attention import Angles, tree_layout, unread_mask
from hark.models.tree_layers import QUICKENED, TreeLayer, quicken

TREES = [
    PromptTree((3, 9, 4, 7, 5), ((6, 8, 2, 1), (9, 1))),
    PromptTree((8, 2), ((5, 11, 1),)),
    PromptTree((12, 10, 7), ((4, 1), (7, 7, 1), (13, 1))),
]


def gradients(output: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    weights = torch.arange(1, output.numel() + 1).view_as(output) / output.numel()
    return torch.autograd.grad((output * weights).sum(), inputs)


def test_the_norm_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    norm = LlamaRMSNorm(6, eps=1e-5)
    norm.weight.data = torch.randn(6)
    x = torch.randn(4, 6, requires_grad=True)
    ours, theirs = tree_layers._norm(norm, x), norm(x)
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        gradients(ours, x, norm.weight), gradients(theirs, x, norm.weight), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_norm_worked_by_hand() -> None:
    # Mean square of (1, 7) is 25: 1/5 and 7/5, times the weights 2 and 10.
    norm = LlamaRMSNorm(2, eps=0.0)
    norm.weight.data = torch.tensor([2.0, 10.0])
    torch.testing.assert_close(
        tree_layers._norm(norm, torch.tensor([[1.0, 7.0]])), torch.tensor([[0.4, 14.0]])
    )


def test_under_autocast_a_norm_gives_what_products_take() -> None:
    norm, x = LlamaRMSNorm(6), torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tree_layers._norm(norm, x).dtype == torch.bfloat16


def test_the_rotation_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    x, angles = torch.randn(5, 3, 8), torch.randn(5, 4)
    whole = torch.cat([angles, angles], dim=-1)[None]
    expected, _ = apply_rotary_pos_emb(
        x.transpose(0, 1)[None], x.transpose(0, 1)[None], whole.cos(), whole.sin()
    )
    cosine, sine = angles.cos(), angles.sin()
    turned = tree_layers._rotated(x, Angles(cosine, sine))
    torch.testing.assert_close(turned, expected[0].transpose(0, 1))
    torch.testing.assert_close(tree_layers._rotated(turned, Angles(cosine, -sine)), x)


def test_the_families_that_are_quickened(family_model: PreTrainedModel) -> None:
    quicken(backbone(family_model))
    quicken(backbone(family_model))
    layers = [module for module in family_model.modules() if isinstance(module, TreeLayer)]
    is_quick = family_model.config.model_type in QUICKENED
    assert len(layers) == (2 if is_quick else 0)
    assert all(type(layer).__mro__.count(TreeLayer) == 1 for layer in layers)


def test_the_last_layer_computes_what_is_read(make_family: Callable[..., PreTrainedModel]) -> None:
    model = make_family("llama-tied")
    batch = pack_for(model, TREES)
    down: list[int] = []
    for layer in backbone(model).layers:  # type: ignore[union-attr]
        layer.mlp.down_proj.register_forward_hook(
            lambda module, given, output: down.append(len(given[0]))
        )
    hidden = hidden_states(model, batch, batch.ends)
    # 11 + 5 + 10 tokens in the first layer, six responses' ends in the last.
    assert down == [26, 6]
    everything = hidden_states(model, batch, torch.arange(26))
    torch.testing.assert_close(hidden, everything[batch.ends])


def test_tokens_may_be_read_twice_and_in_any_order(
    make_family: Callable[..., PreTrainedModel],
) -> None:
    model = make_family("qwen3-untied")
    batch = pack_for(model, TREES)
    everything = hidden_states(model, batch, torch.arange(26))
    read = torch.tensor([20, 3, 20, 0])
    torch.testing.assert_close(hidden_states(model, batch, read), everything[read])


def test_dropout_on_residual_outputs_is_kept(make_family: Callable[..., PreTrainedModel]) -> None:
    model = make_family("llama-tied").train()
    assert "llama" in RESIDUAL_OUTPUTS
    add_residual_dropout(model, 0.5)
    batch = pack_for(model, TREES)
    torch.manual_seed(0)
    first = response_logprobs(model, batch)
    assert not torch.allclose(first, response_logprobs(model, batch))
    torch.manual_seed(0)
    assert torch.equal(first, response_logprobs(model, batch))


def test_a_copy_computes_with_its_own_weights(make_family: Callable[..., PreTrainedModel]) -> None:
    model = make_family("llama-tied")
    batch = pack_for(model, TREES)
    before = response_logprobs(model, batch)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.data.mul_(0.5)
    assert torch.equal(response_logprobs(model, batch), before)
    torch.testing.assert_close(
        response_logprobs(other, batch), response_logprobs(other, pack(TREES)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_layout_layers_are_those_of_transformers(
    make_family: Callable[..., PreTrainedModel], dtype: torch.dtype
) -> None:
    model = make_family("mistral-untied").to(dtype)
    tokens = torch.tensor([[5, 6, 7, 8]])
    before = model(tokens).logits
    quicken(backbone(model))
    assert torch.equal(model(tokens).logits, before)
    layout = tree_layout([(2, 2)])
    by_tree = backbone(model)(
        tokens, attention_mask=unread_mask(dtype), tree_layout=layout, use_cache=False,
        position_ids=torch.arange(4)[None],
    ).last_hidden_state  # fmt: skip
    # Of the largest logit, as bfloat16 keeps 8 bits of every step.
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    difference = (model.lm_head(by_tree) - before).detach().abs().max()
    assert float(difference) <= tolerance * float(before.detach().abs().max())
