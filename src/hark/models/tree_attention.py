"""Attention over prompt trees that costs what the tokens cost that are seen.

Trees lie end to end in one row without padding, and the row is cut into blocks: a branch, say, with
the prompt it sees, or several short trees. Each block is one call of scaled dot-product attention
over its own tokens and its prompt's, so that no [T, T] mask exists and nothing is computed between
trees. Short blocks are written out as products and a softmax. The result equals dense attention
under `PackedBatch.attends` to rounding, and so do its gradients.

The layout goes to a model's forward pass as the argument `tree_layout`, which transformers hands
down to the attention of every layer, also when activation checkpointing computes a layer again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from hark.models import flex_attention
from hark.models.paged_attention import PageLayout, attend_pages

TREE_ATTENTION = "hark_trees"
"""The name under which transformers knows this attention; without a layout it is `sdpa`."""

ATTENDING_BY_TREE = frozenset(
    {"llama", "gpt2", "gpt_neox", "qwen2", "qwen3", "gemma", "mistral", "gemma3_text"}
)
"""The `model_type`s for which the tests show that it is exact."""

CALL_COST = 1024
"""What a call costs beside its pairs of tokens, in such pairs: the price at which blocks merge.

Measured on a CPU at width 256; wider models make pairs dearer and calls as good as free.
"""

LONGEST_BLOCK = 128
"""Longer branches are cut into blocks of at most so many tokens, because half of a causal square is
computed in vain: what lies after the end of its block no token is compared with."""

DENSE_KEYS = 256
"""Blocks of at most so many keys are two products and a softmax, whose probabilities wait for the
gradients: heads · keys numbers a token. Longer ones go through the flash kernel (decision 0017)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Tokens `start` to `end` of the row: the queries of one call."""

    start: int
    end: int
    first_key: int
    """They see tokens from here to `end`, under the mask; `start` unless a branch was cut."""
    prompt_start: int
    prompt_tokens: int
    """The prompt they see where it does not lie between `first_key` and `end`; else 0 tokens."""
    is_causal: bool
    """Each token sees all that precede it, so that the mask has a shape known beforehand."""

    @property
    def queries(self) -> int:
        """Number of queries."""
        return self.end - self.start

    @property
    def keys(self) -> int:
        """Number of keys, masked ones included."""
        return self.prompt_tokens + self.end - self.first_key

    @property
    def is_dense(self) -> bool:
        """Whether its probabilities are few enough to exist at once and to be kept."""
        return self.keys <= DENSE_KEYS

    @property
    def cost(self) -> int:
        """In pairs of a query and a key."""
        return CALL_COST + self.queries * self.keys

    def cut(self) -> list[Block]:
        """Shorter blocks that do the same, of about equal length."""
        parts = -(-self.queries // LONGEST_BLOCK) if self.is_causal else 1
        bounds = [self.start + self.queries * part // parts for part in range(parts + 1)]
        return [replace(self, start=a, end=b) for a, b in itertools.pairwise(bounds)]

    def with_next(self, following: Block) -> Block:
        """One block for this and the next in the row."""
        return replace(self, end=following.end, is_causal=False)


def plan_blocks(trees: Sequence[Sequence[int]]) -> tuple[Block, ...]:
    """Cut a row into blocks; each tree is the length of its prompt, then of its responses.

    A prompt goes with its first response, and every other response is on its own. Neighbours merge
    where the pairs that they would then compute in vain cost less than calls.
    """
    blocks: list[Block] = []
    for branch in _branches(trees):
        if blocks:
            together = blocks[-1].with_next(branch)
            apart = sum(block.cost for whole in (blocks[-1], branch) for block in whole.cut())
            if together.cost <= apart:
                blocks[-1] = together
                continue
        blocks.append(branch)
    return tuple(part for block in blocks for part in block.cut())


def _branches(trees: Sequence[Sequence[int]]) -> Iterator[Block]:
    end = 0
    for prompt, first, *others in trees:
        tree = end
        for number, length in enumerate((prompt + first, *others)):
            start, end = end, end + length
            yield Block(
                start=start, end=end, first_key=start, prompt_start=tree,
                prompt_tokens=prompt if number else 0, is_causal=True,
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeLayout:
    """How the attention of one forward pass goes over a row of trees."""

    blocks: tuple[Block, ...]
    masks: tuple[Tensor, ...]
    """For each block [queries, keys] float32, added to the logits: 0 or −∞."""
    queries: tuple[slice, ...]
    """For each block, where its queries lie among all queries of the pass."""
    read: Tensor | None = None
    """[Q] long, ascending: the tokens that ask, where others are never read; None for all."""
    last: TreeLayout | None = None
    """For the last layer, where its output is read at few tokens."""


def tree_layout(
    trees: Sequence[Sequence[int]], group: Tensor, branch: Tensor, read: Tensor | None = None
) -> TreeLayout:
    """Blocks and their masks.

    trees: as for `plan_blocks`; group, branch: [T] long, as in `PackedBatch`. read: [Q] long,
    ascending, the tokens whose last hidden state somebody reads; None for all.
    """
    blocks = plan_blocks(trees)
    causal = [block for block in blocks if block.is_causal]
    rows = max((block.queries for block in causal), default=0)
    columns = max((block.keys for block in causal), default=0)
    # The last query sees the last key, so that the lower right corner serves every causal block.
    ordered = _additive(torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows))
    masks = [
        ordered[rows - block.queries :, columns - block.keys :]
        if block.is_causal
        else _mask(block, group, branch)
        for block in blocks
    ]
    layout = TreeLayout(
        blocks=blocks, masks=tuple(masks), queries=tuple(slice(b.start, b.end) for b in blocks)
    )
    return layout if read is None else replace(layout, last=_asked_by(layout, read))


def _asked_by(layout: TreeLayout, read: Tensor) -> TreeLayout:
    """The part of a layout in which the tokens `read` attend, and no others."""
    starts = torch.tensor([block.start for block in layout.blocks] + [layout.blocks[-1].end])
    bounds = torch.searchsorted(read, starts).tolist()
    asked = [
        (block, mask[read[first:end] - block.start], slice(first, end))
        for block, mask, (first, end) in zip(
            layout.blocks, layout.masks, itertools.pairwise(bounds), strict=True
        )
        if first < end
    ]
    blocks, masks, queries = zip(*asked, strict=True)
    return TreeLayout(blocks=blocks, masks=masks, queries=queries, read=read)


def _mask(block: Block, group: Tensor, branch: Tensor) -> Tensor:
    queries = torch.arange(block.start, block.end)
    prompt = torch.arange(block.prompt_start, block.prompt_start + block.prompt_tokens)
    keys = torch.cat([prompt, torch.arange(block.first_key, block.end)])
    same_tree = group[queries, None] == group[keys]
    same_branch = (branch[keys] < 0) | (branch[queries, None] == branch[keys])
    return _additive(same_tree & same_branch & (keys <= queries[:, None]))


def _additive(attends: Tensor) -> Tensor:
    return torch.zeros(attends.shape).masked_fill_(~attends, float("-inf"))


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
    copies = getattr(module, "num_key_value_groups", 1)
    inputs = [query, repeat_kv(key, copies), repeat_kv(value, copies)]
    if torch.is_autocast_enabled("cpu"):
        # Autocast knows the public function, not the kernels behind it.
        inputs = [tensor.to(torch.get_autocast_dtype("cpu")) for tensor in inputs]
    output: Tensor = _TreeAttention.apply(*inputs, tree_layout, scaling)
    return output, None


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Attended(NamedTuple):
    """What attention leaves for its gradients; all in float32, heads before tokens."""

    query: Tensor
    """[heads, Q, d]"""
    key: Tensor
    """[heads, T, d]"""
    value: Tensor
    """[heads, T, d]"""
    output: Tensor
    """[heads, Q, d], laid out in memory with tokens before heads."""
    kept: tuple[Tensor, ...]
    """For each block its probabilities [heads, its queries, its keys] where it is dense, else the
    logarithms of their normalisers [heads, its queries]."""


@torch.autocast("cpu", enabled=False)
def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, scale: float | None
) -> Attended:
    """Attention of `Q` queries over `T` tokens, block by block. All float32.

    Written out, and with the kernels behind `scaled_dot_product_attention`, because autograd's
    gradients of overlapping slices would each be a row of zeros to be filled and added up.
    """
    scale = _scale(query, scale)
    output = torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
    output = output.transpose(0, 1)
    kept = []
    for block, mask, rows in zip(layout.blocks, layout.masks, layout.queries, strict=True):
        asking, keys, values = query[:, rows], _seen(key, block), _seen(value, block)
        if block.is_dense:
            left = torch.baddbmm(mask, asking, keys.mT, alpha=scale).softmax(-1)
            output[:, rows] = torch.bmm(left, values)
        else:
            found = _flash(
                asking[None], keys[None], values[None], attn_mask=mask[None, None], scale=scale
            )
            output[:, rows], left = (each[0] for each in found)
        kept.append(left)
    return Attended(query, key, value, output, tuple(kept))


@torch.autocast("cpu", enabled=False)
def attention_gradients(
    gradient: Tensor, attended: Attended, layout: TreeLayout, scale: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value from that of the output, shapes as in `Attended`."""
    query, key, value, output, kept = attended
    scale = _scale(query, scale)
    of_query = torch.empty_like(query)
    # Blocks in order cover the row, each reaching back to keys that earlier ones have seen. Where
    # only some tokens ask, they need not cover it.
    blank = torch.empty_like if layout.read is None else torch.zeros_like
    of_key, of_value = blank(key), blank(value)
    for block, mask, rows, left in zip(
        layout.blocks, layout.masks, layout.queries, kept, strict=True
    ):
        received, asking = gradient[:, rows], query[:, rows]
        keys, values = _seen(key, block), _seen(value, block)
        if block.is_dense:
            found = _dense_gradients(received, asking, keys, values, left, scale)
        else:
            given = (received, asking, keys, values, output[:, rows], left)
            found = _flash_backward(
                *(each[None] for each in given), 0.0, False, attn_mask=mask[None, None],
                scale=scale,
            )  # fmt: skip
            found = (each[0] for each in found)
        of_query[:, rows], to_key, to_value = found
        _add_seen(of_key, block, to_key)
        _add_seen(of_value, block, to_value)
    return of_query, of_key, of_value


def _scale(query: Tensor, scale: float | None) -> float:
    """What logits are multiplied by: 1/√d unless an architecture says otherwise."""
    width: int = query.shape[-1]
    return width**-0.5 if scale is None else scale


def _dense_gradients(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, probabilities: Tensor, scale: float
) -> Iterator[Tensor]:
    """Of query [heads, Q, d], key and value [heads, K, d]; probabilities [heads, Q, K].

    With P the probabilities and G the gradient: dV = Pᵀ G; dP = G Vᵀ; of the logits
    dS = P ∘ (dP − Σₖ P ∘ dP); dQ = scale · dS K; dK = scale · dSᵀ Q.
    """
    of_probabilities = torch.bmm(gradient, value.mT)
    of_logits = torch._softmax_backward_data(of_probabilities, probabilities, -1, torch.float32)
    yield torch.bmm(of_logits, key).mul_(scale)
    yield torch.bmm(of_logits.mT, query).mul_(scale)
    yield torch.bmm(probabilities.mT, gradient)


class _TreeAttention(torch.autograd.Function):
    """[1, T, heads, d] from query, key and value [1, heads, T, d], in their dtype.

    Computed in float32: the CPU's kernel for gradients is four times slower in bfloat16, and many
    blocks add to one prompt.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: TreeLayout, scale: float | None
    ) -> Tensor:
        attended = attend(*(each[0].float() for each in (query, key, value)), layout, scale)
        ctx.save_for_backward(*attended[:4], *attended.kept)
        ctx.layout, ctx.scale = layout, scale
        return attended.output.transpose(0, 1)[None].to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *kept = ctx.saved_tensors
        attended = Attended(query, key, value, output, tuple(kept))
        gradients = attention_gradients(
            gradient[0].float().transpose(0, 1), attended, ctx.layout, ctx.scale
        )
        return *(each[None].to(gradient.dtype) for each in gradients), None, None


def _seen(whole: Tensor, block: Block) -> Tensor:
    """The keys (or values) of a block."""
    own = whole[:, block.first_key : block.end]
    if block.prompt_tokens == 0:
        return own
    return torch.cat([_prompt(whole, block), own], dim=1)


def _add_seen(whole: Tensor, block: Block, gradient: Tensor) -> None:
    """The reverse of `_seen`: what a block's keys (or values) receive.

    Its own tokens' keys are seen by it first of all blocks, in their order; the others' by earlier
    blocks as well.
    """
    seen_before = block.start - block.first_key
    own = block.prompt_tokens + seen_before
    whole[:, block.start : block.end] = gradient[:, own:]
    if seen_before:
        whole[:, block.first_key : block.start] += gradient[:, block.prompt_tokens : own]
    if block.prompt_tokens:
        _prompt(whole, block).add_(gradient[:, : block.prompt_tokens])


def _prompt(whole: Tensor, block: Block) -> Tensor:
    return whole[:, block.prompt_start : block.prompt_start + block.prompt_tokens]


AttentionInterface.register(TREE_ATTENTION, _forward)
AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
