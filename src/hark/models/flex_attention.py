"""Attention over prompt trees on a GPU: one kernel that skips the blocks of tokens nobody sees.

The trees lie end to end in one row, as for `tree_attention`, and the work is done by
`torch.nn.attention.flex_attention`, compiled. In that order a token is seen by an unbroken run of
those after it: a prompt's by the rest of its tree, a response's by the rest of the response. So one
number for each token, the end of that run, says all: token q sees token k where k ≤ q < `end[k]`.
From it follow the mask inside a block and, without a [T, T] mask, which blocks to compute.

The row is filled up to a multiple of `ROW_UNIT` tokens, so that batches come in few lengths. What
is filled in comes last and sees only itself: no token sees it and it changes no gradient.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import PreTrainedModel

log = logging.getLogger(__name__)

BLOCK = 128
"""Tokens of a block that is computed or left out: flex attention's own unit."""

ROW_UNIT = 4 * BLOCK
"""A row has a multiple of so many tokens: one eighth is the most that 4,096 tokens waste."""

COMPILED_VARIANTS = 64
"""How often flex attention may be compiled in one process: once for each number and width of heads,
precision, and with or without gradients; never for a length."""


@dataclass(frozen=True, slots=True)
class FlexLayout:
    """How the attention of one forward pass goes over a row of trees."""

    mask: BlockMask
    tokens: int
    """Of the row, filled up."""

    def filled_up(self, row: Tensor) -> Tensor:
        """[1, T] long, with zeros up to the length of the row."""
        return F.pad(row, (0, self.tokens - row.shape[1]))


def flex_layout(trees: Sequence[Sequence[int]], device: torch.device) -> FlexLayout:
    """The mask of a row; each tree is the length of its prompt, then of its responses."""
    seen_until = _seen_until(trees)
    partial, full = _blocks(seen_until)
    seen_until_on_device = torch.from_numpy(seen_until).to(device)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < seen_until_on_device[key])

    mask = BlockMask.from_kv_blocks(
        *_ordered(partial, device), *_ordered(full, device), BLOCK_SIZE=BLOCK, mask_mod=sees
    )
    return FlexLayout(mask=mask, tokens=len(seen_until))


def _seen_until(trees: Sequence[Sequence[int]]) -> np.ndarray:
    """[T, filled up] int32: the end of the run of tokens that see each token."""
    runs, start = [], 0
    for prompt, *responses in trees:
        runs.append(np.full(prompt, start + prompt + sum(responses)))
        start += prompt
        for length in responses:
            start += length
            runs.append(np.full(length, start))
    runs.append(np.arange(start, -(-start // ROW_UNIT) * ROW_UNIT) + 1)
    return np.concatenate(runs).astype(np.int32)


def _blocks(seen_until: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[blocks, blocks] bool, queries by keys: which to compute masked, and which whole."""
    ends = seen_until.reshape(-1, BLOCK)
    starts = np.arange(len(ends)) * BLOCK
    is_earlier = starts[None, :] < starts[:, None]
    is_seen = np.eye(len(ends), dtype=bool) | is_earlier & (ends.max(1) > starts[:, None])
    is_whole = is_earlier & (ends.min(1) >= starts[:, None] + BLOCK)
    return is_seen & ~is_whole, is_whole


def _ordered(blocks: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """How many blocks each row has [1, 1, rows], and all, those first [1, 1, rows, columns]."""
    count = blocks.sum(1, dtype=np.int32)
    order = np.argsort(~blocks, axis=1, kind="stable").astype(np.int32)
    count_of, order_of = (torch.from_numpy(array).to(device) for array in (count, order))
    return count_of[None, None], order_of[None, None]


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: FlexLayout, scaling: float | None
) -> Tensor:
    """[1, T, heads, d] from query [1, heads, T, d], key and value, which may have fewer heads."""
    device = query.device.type
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if torch.is_autocast_enabled(device):
        # Rotations leave queries and keys in float32 beside values in bfloat16.
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    kernel = _compiled() if device == "cuda" else _kernel
    return kernel(query, key, value, layout.mask).transpose(1, 2)


def _kernel(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask) -> Tensor:
    # The scale is a constant of the code: as an argument it would be compiled as a symbol, which
    # the kernels do not take, or once more for each value.
    output: Tensor = flex_attention(query, key, value, block_mask=mask, scale=1.0, enable_gqa=True)
    return output


@functools.cache
def _compiled() -> Callable[[Tensor, Tensor, Tensor, BlockMask], Tensor]:
    """With lengths as symbols. What cannot be compiled is an error (`fullgraph`): computed as it is
    written, flex attention would make the [T, T] scores that it is here to avoid."""
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, COMPILED_VARIANTS)
    return torch.compile(_kernel, dynamic=True, fullgraph=True)


def can_attend(model: PreTrainedModel) -> bool:
    """Whether flex attention is right where `model` is; each kind of heads is tried once.

    In the model's precision and in bfloat16, because autocast may be on later.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return all(
        agrees(model.device, dtype, heads, key_heads, width)
        for dtype in sorted({model.dtype, torch.bfloat16}, key=str)
    )


TRIED = ((130, 70, 200), (40, 1)), ((300, 400, 20),)
"""Rows of the trial, of two lengths, so that the kernels compiled are for any."""


@functools.cache
def agrees(
    device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, width: int
) -> bool:
    """Compare with dense attention, gradients included; what fails is said in one line of the log.

    No compiler, heads too wide for the kernels, too old a GPU: whatever is raised says the same.
    """
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            difference = max(
                _difference(row, device, dtype, heads, key_heads, width) for row in TRIED
            )
    except Exception as error:  # see above
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    else:
        if difference <= (1e-4 if dtype == torch.float32 else 3e-2):
            return True
        reason = f"its results differ by {difference:.1g}"
    log.warning(
        "flex attention is not used on %s for %d heads of %d in %s (%s); packed rows are computed "
        "under a dense mask, which is right but slow and large",
        device, heads, width, str(dtype).removeprefix("torch."), reason,
    )  # fmt: skip
    return False


def _difference(
    trees: Sequence[Sequence[int]],
    device: torch.device,
    dtype: torch.dtype,
    heads: int,
    key_heads: int,
    width: int,
) -> float:
    """The largest error of outputs and gradients, relative to the largest number of each."""
    layout = flex_layout(trees, device)
    draw = np.random.default_rng(0)

    def normal(*shape: int) -> Tensor:
        numbers = torch.from_numpy(draw.standard_normal(shape, dtype=np.float32))
        return numbers.to(device, dtype).requires_grad_()

    query, key, value = inputs = [
        normal(1, count, layout.tokens, width) for count in (heads, key_heads, key_heads)
    ]
    weights = normal(1, layout.tokens, heads, width).detach()
    place = torch.arange(layout.tokens, device=device)
    mask = layout.mask.mask_mod(place, place, place[:, None], place)
    dense = F.scaled_dot_product_attention(
        query.float(), key.float(), value.float(), attn_mask=mask[None, None], enable_gqa=True
    ).transpose(1, 2)
    outputs = [attend(query, key, value, layout, None), dense]
    found, expected = (
        [output, *torch.autograd.grad(output, inputs, weights.to(output.dtype))]
        for output in outputs
    )
    errors = (
        (one.detach().float() - other.detach().float()).abs().max() / other.detach().abs().max()
        for one, other in zip(found, expected, strict=True)
    )
    return max(float(error) for error in errors)
