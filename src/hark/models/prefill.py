"""Reading many prompts of different lengths without padding: end to end, each seeing only itself.

For models whose attention goes by tree (`tree_attention`): a prompt is a tree without responses.
What each layer computes is kept as it comes, and copied from there to wherever decoding wants it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from hark.models.language_model import backbone
from hark.models.tree_attention import tree_layout, unread_mask

PREFILL_PASS_TOKENS = 2048
"""Tokens of one forward pass, about: enough for products at full rate, and few enough that what
the layers compute stays in fast memory. Measured on a CPU, see decision 0011."""


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """Where the keys and values of one prompt are."""

    states: Cache
    """Of a whole pass; each layer's `keys` and `values` are [R, heads, T, head width]."""
    row: int
    start: int
    end: int
    """Its tokens in its row."""


def read_end_to_end(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> list[ReadPrompt]:
    """Forward prompts (some may be empty) in passes of about `PREFILL_PASS_TOKENS`, in order.

    For models for which `attends_by_tree` holds, and prompts that no sliding window cuts.
    """
    read: list[ReadPrompt] = []
    while len(read) < len(prompts):
        batch = _next_pass(prompts, len(read))
        bounds = [0, *itertools.accumulate(len(prompt) for prompt in batch)]
        states = _forward(model, batch)
        read.extend(ReadPrompt(states, 0, start, end) for start, end in itertools.pairwise(bounds))
    return read


def _next_pass(prompts: Sequence[Sequence[int]], first: int) -> list[Sequence[int]]:
    batch, filled = [prompts[first]], len(prompts[first])
    for prompt in prompts[first + 1 :]:
        filled += len(prompt)
        if filled > PREFILL_PASS_TOKENS:
            break
        batch.append(prompt)
    return batch


def _forward(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> Cache:
    """Keys and values of all prompts, end to end."""
    states = Cache(layer_class_to_replicate=_RecordedLayer)
    lengths = [len(prompt) for prompt in prompts]
    if any(lengths):
        tree = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(lengths))
        layout = tree_layout(
            [(length, 0) for length in lengths if length],
            group=tree,
            branch=torch.full_like(tree, -1),
        )
        backbone(model)(
            input_ids=torch.tensor([[token for prompt in prompts for token in prompt]]),
            position_ids=torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0),
            attention_mask=unread_mask(model.dtype),
            past_key_values=states,
            use_cache=True,
            tree_layout=layout,
        )
    return states


class _RecordedLayer(CacheLayerMixin):
    """What one layer computes, kept without a copy."""

    is_sliding = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to allocate."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep the states, and give them back to be attended to."""
        self.keys, self.values, self.is_initialized = key_states, value_states, True
        return key_states, value_states

    def get_seq_length(self) -> int:
        """Nothing precedes the pass."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` returns."""
        return query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1
