"""Keys and values of many sequences of different lengths, each in a slot of its own.

`slots` × `capacity` positions are allocated once for each layer. A decoding step writes the new key
and value of row r at row r's own length and attends to the slots up to the longest row; an additive
mask hides what lies beyond each row's length. A slot is reused as soon as its row has ended.
"""

from __future__ import annotations

import weakref
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class KeyValueSlots(Cache):
    """The cache of one decoding step after another, for any attention of transformers.

    Between steps `write` fills slots with prefilled prompts and `move` copies one slot to another.
    Before each step `at` says where each row stands. Rows are the first slots.
    """

    def __init__(self, *, slots: int, capacity: int) -> None:
        self.slots = slots
        self.capacity = capacity
        self.lengths = torch.zeros(0, dtype=torch.long)
        self.longest = 0
        # A cache that its layers held in turn would stay until the next collection of cycles.
        self._own = own = cast(KeyValueSlots, weakref.proxy(self))
        super().__init__(layer_class_to_replicate=lambda: SlotLayer(own))

    def at(self, lengths: Tensor, *, longest: int) -> None:
        """Say that row r holds `lengths[r]` tokens, [rows] long, of which the most is `longest`."""
        self.lengths = lengths
        self.row_numbers = torch.arange(lengths.shape[0], device=lengths.device)
        self.longest = longest

    def write(self, slots: Tensor, prompts: Cache, which: Tensor) -> None:
        """Copy the keys and values of rows `which` of a prefilled cache into `slots`, both [n]."""
        while len(self.layers) < len(prompts.layers):
            self.layers.append(SlotLayer(self._own))
        for layer, source in zip(self.layers, prompts.layers, strict=True):
            if source.is_initialized:
                layer.write(slots, source.keys[which], source.values[which])

    def move(self, source: Tensor, target: Tensor, *, longest: int) -> None:
        """Copy the first `longest` positions of slots `source` to slots `target`, both [n]."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys[target, :, :longest] = layer.keys[source, :, :longest]
                layer.values[target, :, :longest] = layer.values[source, :, :longest]


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, [slots, heads, capacity, head width]."""

    is_sliding = False

    def __init__(self, cache: KeyValueSlots) -> None:
        """cache: a weak reference to the cache that holds this layer."""
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for the heads, width, dtype and device of the first states seen."""
        # Zeros, because a masked position still enters the sums, and 0 · NaN is NaN.
        self.keys = self._allocate(key_states)
        self.values = self._allocate(value_states)
        self.is_initialized = True

    def _allocate(self, states: Tensor) -> Tensor:
        _, heads, _, width = states.shape
        return states.new_zeros(self.cache.slots, heads, self.cache.capacity, width)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add one position to each row; return each row's slot up to the longest of them.

        Args:
            key_states, value_states: [rows, heads, 1, head width].

        Returns:
            keys, values: [rows, heads, longest + 1, head width], views of the slots.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        cache, rows = self.cache, key_states.shape[0]
        # Under autocast a prefill and a step may leave different dtypes.
        keys, values = key_states[:, :, 0], value_states[:, :, 0]
        self.keys[cache.row_numbers, :, cache.lengths] = keys.to(self.keys.dtype)
        self.values[cache.row_numbers, :, cache.lengths] = values.to(self.values.dtype)
        end = cache.longest + 1
        return self.keys[:rows, :, :end], self.values[:rows, :, :end]

    def write(self, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Fill the beginning of `slots`, [n], with [n, heads, T, head width]."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self.keys[slots, :, : keys.shape[2]] = keys
        self.values[slots, :, : values.shape[2]] = values

    def get_seq_length(self) -> int:
        """The longest row; a model that reads it is given explicit positions all the same."""
        return self.cache.longest

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what `update` returns."""
        return self.cache.longest + query_length, 0

    def get_max_length(self) -> int:
        """The capacity of a slot."""
        return self.cache.capacity
