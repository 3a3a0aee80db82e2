"""Keys and values as a pass over prompts computes them, kept without a copy."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin


class RecordedStates(Cache):
    """The keys and values of one pass, in which nothing was there before; they are all of it that
    is read."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=RecordedLayer)


class RecordedLayer(CacheLayerMixin):
    """Of one layer: `keys` and `values` are [R, heads, T, head width]."""

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
