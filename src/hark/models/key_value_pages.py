"""Keys and values of many sequences of different lengths, in pages that rows take as they grow.

The pages in use are always the first ones, apart from a few holes that ended rows have left: a row
that ends gives its pages back, new ones are taken from the holes first, and when holes become many
the last pages move into them. Pages are float32 whatever the model computes in: a CPU multiplies
that many small matrices faster in float32, and scores are not rounded before the softmax.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from hark.models.paged_attention import PAGE, PageLayout
from hark.models.prefill import ReadPrompt

MOST_HOLES = 1 / 8
"""Share of the pages in use that may be holes."""
NOBODY = -1


class PageTable:
    """Which pages each row holds, in order; numbers only."""

    def __init__(self, *, rows: int, capacity: int) -> None:
        widest = -(-capacity // PAGE)
        self.of_row: list[list[int]] = [[] for _ in range(rows)]
        self.used = 1
        """Pages in use are numbered below; page 0 belongs to nobody."""
        self._holes: list[int] = []
        self._pages = np.zeros((rows, widest), np.int64)
        self.capacity = rows * widest + 1
        self._row = np.full(self.capacity, NOBODY, np.int64)
        self._ordinal = np.zeros(self.capacity, np.int64)

    def take(self, row: int, count: int) -> list[int]:
        """Give a row so many more pages; which."""
        taken = []
        for _ in range(count):
            page = self._holes.pop() if self._holes else self.used
            self.used = max(self.used, page + 1)
            self._place(page, row, len(self.of_row[row]))
            self.of_row[row].append(page)
            taken.append(page)
        return taken

    def release(self, row: int) -> None:
        """Take all pages from a row."""
        pages = self.of_row[row]
        self._holes.extend(pages)
        self._row[pages] = NOBODY
        self._pages[row] = 0
        self.of_row[row] = []

    def move(self, source: int, target: int) -> None:
        """Give the pages of one row to another, which loses its own."""
        self.release(target)
        pages, self.of_row[source] = self.of_row[source], []
        self._pages[source] = 0
        self.of_row[target] = pages
        for ordinal, page in enumerate(pages):
            self._place(page, target, ordinal)

    def close_holes(self) -> tuple[list[int], list[int]]:
        """Renumber the last pages into the holes, if those are many; which, and to where."""
        if len(self._holes) <= MOST_HOLES * self.used:
            return [], []
        holes = set(self._holes)
        self.used -= len(holes)
        source = [p for p in range(self.used, self.used + len(holes)) if p not in holes]
        target = [page for page in holes if page < self.used]
        for old, new in zip(source, target, strict=True):
            row, ordinal = int(self._row[old]), int(self._ordinal[old])
            self._place(new, row, ordinal)
            self.of_row[row][ordinal] = new
        self._row[self.used :] = NOBODY
        self._holes = []
        return source, target

    def layout(self, rows: int, widest: int) -> PageLayout:
        """Of the first rows, whose longest has `widest` pages."""
        row = torch.tensor(self._row[: self.used])
        any_row = row.clamp(min=0)
        # The ordinal of a hole is that of its last row, which may have been longer.
        ordinal = torch.tensor(self._ordinal[: self.used]).clamp_(max=widest - 1)
        return PageLayout(
            row_of_page=any_row,
            receiver_of_page=torch.where(row == NOBODY, rows, row),
            place_of_page=any_row * widest + ordinal,
            pages=torch.tensor(self._pages[:rows, :widest]).flatten(),
            rows=rows,
        )

    def _place(self, page: int, row: int, ordinal: int) -> None:
        self._row[page], self._ordinal[page], self._pages[row, ordinal] = row, ordinal, page


class KeyValuePages(Cache):
    """The cache of one decoding step after another, for `attend_pages`."""

    def __init__(self, *, rows: int, capacity: int) -> None:
        self.table = PageTable(rows=rows, capacity=capacity)
        self.longest = 0
        # A cache that its layers held in turn would stay until the next collection of cycles.
        self._own = own = cast(KeyValuePages, weakref.proxy(self))
        super().__init__(layer_class_to_replicate=lambda: PagedLayer(own))

    def at(self, lengths: Tensor, *, longest: int) -> None:
        """Make room for one more token in each row; row r holds `lengths[r]` [rows] by now."""
        table, self.longest = self.table, longest
        for row in range(len(lengths), len(table.of_row)):
            if table.of_row[row]:
                table.release(row)
        self._close_holes()
        numbers = lengths.tolist()
        self.fresh = [
            page
            for row, length in enumerate(numbers)
            if length == PAGE * len(table.of_row[row])
            for page in table.take(row, 1)
        ]
        self.layout = table.layout(len(numbers), longest // PAGE + 1)
        self.new_pages = self.layout.pages.view(len(numbers), -1)
        self.new_pages = self.new_pages.gather(1, (lengths // PAGE).unsqueeze(1))
        self.new_offsets = (lengths % PAGE).unsqueeze(1)

    def write(self, rows: Sequence[int], prompts: Sequence[ReadPrompt]) -> None:
        """Begin `rows` anew with the keys and values of prompts."""
        together: dict[tuple[int, int], list[tuple[int, ReadPrompt]]] = {}
        for row, prompt in zip(rows, prompts, strict=True):
            self.table.release(row)
            together.setdefault((id(prompt.states), prompt.row), []).append((row, prompt))
        for same in together.values():
            pages, tokens = [], []
            for row, prompt in same:
                pages += self.table.take(row, -(-(prompt.end - prompt.start) // PAGE))
                tokens += [range(prompt.start, prompt.end)]
            if pages:
                self._write(pages, _by_page(tokens), same[0][1])

    def _write(self, pages: list[int], tokens: Tensor, prompt: ReadPrompt) -> None:
        states = prompt.states
        while len(self.layers) < len(states.layers):
            self.layers.append(PagedLayer(self._own))
        which = torch.tensor(pages)
        for layer, source in zip(self.layers, states.layers, strict=True):
            layer.write(which, tokens, source.keys[prompt.row], source.values[prompt.row])

    def _close_holes(self) -> None:
        source, target = self.table.close_holes()
        for layer in self.layers:
            if source and layer.is_initialized:
                layer.keys[target] = layer.keys[source]
                layer.values[target] = layer.values[source]


def _by_page(tokens: Sequence[range]) -> Tensor:
    """[pages · PAGE] long: the tokens of each row from a new page on; a page is filled up with the
    last one."""
    filled: list[int] = []
    for own in tokens:
        filled += [*own, *[own[-1]] * (-len(own) % PAGE)] if own else []
    return torch.tensor(filled)


class PagedLayer(CacheLayerMixin):
    """One layer's keys and values, [pages, heads, PAGE, head width] float32."""

    is_sliding = False

    def __init__(self, cache: KeyValuePages) -> None:
        """cache: a weak reference to the cache that holds this layer."""
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Reserve room for all rows at their longest; memory is only taken by pages in use."""
        self.keys, self.values = self._reserve(key_states), self._reserve(value_states)
        self.keys[0] = self.values[0] = 0.0
        self.is_initialized = True

    def _reserve(self, states: Tensor) -> Tensor:
        pages = self.cache.table.capacity
        return torch.empty(pages, states.shape[1], PAGE, states.shape[3], dtype=torch.float32)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add one position to each row; all pages in use.

        Args:
            key_states, value_states: [rows, heads, 1, head width].
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        cache, heads = self.cache, key_states.shape[1]
        places = (cache.new_pages * heads + torch.arange(heads)) * PAGE + cache.new_offsets
        places = places.flatten()
        for pages, states in ((self.keys, key_states), (self.values, value_states)):
            # A masked position still enters the sums, and 0 · NaN is NaN.
            pages[cache.fresh] = 0.0
            flat = pages.view(-1, pages.shape[-1])
            flat.index_copy_(0, places, states.reshape(-1, pages.shape[-1]).float())
        used = cache.table.used
        return self.keys[:used], self.values[:used]

    def write(self, pages: Tensor, tokens: Tensor, keys: Tensor, values: Tensor) -> None:
        """Fill `pages` [n] with `tokens` [n · PAGE] of [heads, T, head width]."""
        if not self.is_initialized:
            self.lazy_initialization(keys.unsqueeze(0), values.unsqueeze(0))
        for all_pages, states in ((self.keys, keys), (self.values, values)):
            filled = states.index_select(1, tokens).unflatten(1, (len(pages), PAGE))
            all_pages.index_copy_(0, pages, filled.transpose(0, 1).float())

    def get_seq_length(self) -> int:
        """The longest row; a model that reads it is given explicit positions all the same."""
        return self.cache.longest

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset that a mask of the model's own would have; it is given one."""
        return self.cache.longest + query_length, 0

    def get_max_length(self) -> int:
        """No limit."""
        return -1
