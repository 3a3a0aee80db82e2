"""Reading many prompts of different lengths, not padded: end to end, each seeing only itself.

For models whose attention goes by tree (`tree_attention`): a prompt is a tree without responses.
What each layer computes is kept as it comes, and copied from there to wherever decoding wants it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import Cache, PreTrainedModel

from hark.models.cpu_linear import filled_up
from hark.models.language_model import backbone
from hark.models.recorded_states import RecordedStates
from hark.models.tree_attention import tree_layout, unread_mask
from hark.models.tree_layers import quicken

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


@torch.no_grad()
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


def _forward(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> RecordedStates:
    """Keys and values of all prompts, end to end, and of what fills the pass up."""
    quicken(backbone(model))
    states = RecordedStates()
    lengths = [len(prompt) for prompt in prompts if prompt]
    count = sum(lengths)
    if count:
        filling = filled_up(count) - count
        tokens = torch.tensor([token for prompt in prompts for token in prompt])
        positions = torch.cat([torch.arange(length) for length in lengths])
        filled = [length for length in (*lengths, filling) if length]
        backbone(model)(
            input_ids=F.pad(tokens, (0, filling))[None],
            position_ids=F.pad(positions, (0, filling))[None],
            attention_mask=unread_mask(model.dtype),
            past_key_values=states,
            use_cache=True,
            tree_layout=tree_layout([(length, 0) for length in filled]),
        )
    return states
