"""Attention over prompt trees that costs what the tokens cost that are seen.

Trees lie end to end in one row, without padding between them. Each branch attends to itself and to
the prompt it sees, so that no [T, T] mask exists and nothing is computed between trees. The result
equals dense attention under `PackedBatch.attends` to rounding, and so do its gradients.

The layout goes to a model's forward pass as the argument `tree_layout`, which transformers hands
down to the attention of every layer, also when activation checkpointing computes a layer again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from hark.models import cpu_attention, flex_attention
from hark.models.paged_attention import PageLayout, attend_pages

TREE_ATTENTION = "hark_trees"
"""The name under which transformers knows this attention; without a layout it is `sdpa`."""

ATTENDING_BY_TREE = frozenset(
    {"llama", "gpt2", "gpt_neox", "qwen2", "qwen3", "gemma", "mistral", "gemma3_text"}
)
"""The `model_type`s for which the tests show that it is exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeLayout:
    """How the attention of one forward pass goes over a row of trees."""

    trees: Tensor
    """[trees + 1] long: where the branches of each tree begin among all branches, and the end."""
    branches: Tensor
    """[branches, 6] long, as `cpu_attention` reads them."""
    position: Tensor
    """[Q] long, ascending: the tokens that ask."""
    read: Tensor | None = None
    """The same where others are never read; None if all tokens ask."""
    last: TreeLayout | None = None
    """For the last layer, where its output is read at few tokens."""


def tree_layout(trees: Sequence[Sequence[int]], read: Tensor | None = None) -> TreeLayout:
    """The branches of a row; each tree is the length of its prompt, then of its responses.

    A prompt goes with its first response, and every other response is a branch of its own. read:
    [Q] long, ascending, the tokens whose last hidden state somebody reads; None for all.
    """
    branches = torch.tensor(list(_branches(trees)))
    layout = TreeLayout(
        trees=torch.tensor([0, *(len(tree) - 1 for tree in trees)]).cumsum(0),
        branches=branches,
        position=torch.arange(int(branches[-1, cpu_attention.END])),
    )
    return layout if read is None else replace(layout, last=_asked_by(layout, read))


def _branches(trees: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    end = 0
    for prompt, first, *others in trees:
        tree = end
        for number, length in enumerate((prompt + first, *others)):
            start, end = end, end + length
            yield start, end, tree, prompt if number else 0, start, end


def _asked_by(layout: TreeLayout, read: Tensor) -> TreeLayout:
    """The part of a layout in which the tokens `read` ask, and no others."""
    branches = layout.branches.clone()
    bounds = branches[:, [cpu_attention.START, cpu_attention.END]]
    asking = [cpu_attention.FIRST_ASKING, cpu_attention.END_ASKING]
    branches[:, asking] = torch.searchsorted(read, bounds)
    return TreeLayout(trees=layout.trees, branches=branches, position=read, read=read)


def attends_by_tree(model: PreTrainedModel) -> bool:
    """Whether the model was made or loaded with this attention and can use it now, in blocks.

    Not on a GPU, where many small calls may cost more than one large one (`attends_by_flex`), and
    not while attention itself has dropout, which models that hark loads never have.
    """
    return model.device.type == "cpu" and _attends_to_layouts(model)


def attends_by_flex(model: PreTrainedModel) -> bool:
    """The same for a model on a GPU, whose layouts are `flex_attention.FlexLayout`s."""
    return (
        model.device.type == "cuda"
        and _attends_to_layouts(model)
        and flex_attention.can_attend(model)
    )


def _attends_to_layouts(model: PreTrainedModel) -> bool:
    config = model.config
    dropout = getattr(config, "attention_dropout", 0.0) or getattr(config, "attn_pdrop", 0.0)
    return (
        config._attn_implementation == TREE_ATTENTION
        and model.dtype in (torch.float32, torch.bfloat16)
        and not (model.training and dropout)
    )


def unread_mask(dtype: torch.dtype) -> Tensor:
    """[1, 1, 1, 1] NaN: the `attention_mask` of a forward pass with a `tree_layout`.

    Four dimensions keep transformers from building a [T, T] mask. An attention that took this one
    instead of the layout would make everything NaN rather than let trees see each other.
    """
    return torch.full((1, 1, 1, 1), float("nan"), dtype=dtype)


def _forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree_layout: TreeLayout | flex_attention.FlexLayout | None = None,
    page_layout: PageLayout | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query [R, heads, T, d] -> [R, T, heads, d]."""
    if page_layout is not None:
        assert attention_mask is not None
        assert scaling is not None
        assert dropout == 0.0
        return attend_pages(query, key, value, attention_mask, scaling, page_layout), None
    if tree_layout is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return plain
    assert dropout == 0.0, "attends_by_tree"
    if isinstance(tree_layout, flex_attention.FlexLayout):
        return flex_attention.attend(query, key, value, tree_layout, scaling), None
    inputs = [query, key, value]
    if torch.is_autocast_enabled("cpu"):
        # Autocast knows torch's own functions only.
        inputs = [tensor.to(torch.get_autocast_dtype("cpu")) for tensor in inputs]
    rows = (tensor[0].transpose(0, 1) for tensor in inputs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output: Tensor = TreeAttention.apply(*rows, None, None, tree_layout, scale)
    return output[None], None


class Angles(NamedTuple):
    """By which rotary position embeddings turn tokens."""

    cosine: Tensor
    """[tokens, d/2] float32"""
    sine: Tensor
    """[tokens, d/2] float32"""


class TreeAttention(torch.autograd.Function):
    """[Q, heads, d] from query [Q, heads, d], key and value [T, heads of keys, d], in their dtype.

    asking, asked: the angles by which queries and keys are yet to be turned, or None. Keys and
    values may have fewer heads, each serving several neighbours of the query's. The dtype is
    float32 or bfloat16; all is computed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        asking: Angles | None,
        asked: Angles | None,
        layout: TreeLayout,
        scale: float,
    ) -> Tensor:
        query, key, value = (each.contiguous() for each in (query, key, value))
        output = torch.empty_like(query)
        normaliser = query.new_empty(query.shape[1], query.shape[0], dtype=torch.float32)
        given = (query, key, value, output, normaliser, 0, 0, 0, 0)
        cpu_attention.attention.run(
            *_work(layout, key, query), _arguments(given, asking, asked, layout, scale)
        )
        ctx.save_for_backward(query, key, value, normaliser)
        ctx.others = (asking, asked, layout, scale)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, normaliser = ctx.saved_tensors
        gradients = [torch.empty_like(each) for each in (query, key, value)]
        received = gradient.to(query.dtype).contiguous()
        given = (query, key, value, 0, normaliser, received, *gradients)
        layout = ctx.others[2]
        cpu_attention.attention_gradients.run(
            *_work(layout, key, query), _arguments(given, *ctx.others)
        )
        return *gradients, None, None, None, None


def _work(layout: TreeLayout, key: Tensor, query: Tensor) -> tuple[int, list[torch.dtype]]:
    """How many tasks there are, a tree and a head of keys each, and in which dtype."""
    return (len(layout.trees) - 1) * key.shape[1], [query.dtype]


def _arguments(
    tensors: Sequence[Tensor | int],
    asking: Angles | None,
    asked: Angles | None,
    layout: TreeLayout,
    scale: float,
) -> list[Tensor | int | float]:
    """What `cpu_attention` reads, in its order."""
    query, key = tensors[:2]
    assert isinstance(query, Tensor)
    assert isinstance(key, Tensor)
    return [
        len(query), len(key), query.shape[1], key.shape[1], key.shape[2], len(layout.trees) - 1,
        len(layout.branches), (asking is not None) + 2 * (asked is not None),
        *tensors, layout.trees, layout.branches, layout.position,
        *(asking or (0, 0)), *(asked or (0, 0)), scale,
    ]  # fmt: skip


AttentionInterface.register(TREE_ATTENTION, _forward)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
