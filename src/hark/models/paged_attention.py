"""Attention of one new token in each row over keys and values that lie in pages.

A page holds `PAGE` positions of one row, so that rows of different lengths cost what they hold and
not what the longest holds; and all pages in use are one contiguous block, which memory delivers
several times faster than the beginnings of long slots. The products are two calls over all pages of
all rows, each page with the query of its row; only the scores in between are laid out by row, for
one softmax each. Equal to attention over slots to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAGE = 32
"""Positions of a page: half a page of each row is computed in vain, and smaller ones are slower."""


@dataclass(frozen=True, slots=True)
class PageLayout:
    """Which pages hold which rows, for one step.

    Page 0 holds nothing but zeros and stands for the pages that shorter rows do not have.
    """

    row_of_page: Tensor
    """[pages] long; any row for pages that no row holds."""
    receiver_of_page: Tensor
    """[pages] long: the same, but `rows` for pages that no row holds: nobody gets their values."""
    place_of_page: Tensor
    """[pages] long: index into `pages`; any for pages that no row holds."""
    pages: Tensor
    """[rows · widest] long: the pages of row 0, then of row 1, …"""
    rows: int

    @property
    def widest(self) -> int:
        """Pages of the longest row."""
        return len(self.pages) // self.rows


def attend_pages(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float, layout: PageLayout
) -> Tensor:
    """[rows, 1, heads, d] in the query's dtype, computed in float32.

    Args:
        query: [rows, heads, 1, d].
        keys, values: [pages, key-value heads, PAGE, d] float32.
        mask: [rows, 1, 1, widest · PAGE], added to the scaled scores.
    """
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return attend_pages(query, keys, values, mask, scale, layout)
    rows, heads, _, width = query.shape
    pages, groups = keys.shape[:2]
    shared = heads // groups
    own = (query.float() * scale).view(rows, heads * width).index_select(0, layout.row_of_page)
    scores = torch.bmm(
        own.view(pages * groups, shared, width), keys.flatten(0, 1).transpose(1, 2)
    ).view(pages, heads * PAGE)
    by_row = scores.index_select(0, layout.pages).view(rows, layout.widest, heads, PAGE)
    by_row = by_row.transpose(1, 2).reshape(rows, heads, 1, layout.widest * PAGE).add_(mask)
    weights = torch.softmax(by_row, dim=-1).view(rows, heads, layout.widest, PAGE)
    weights = weights.transpose(1, 2).reshape(rows * layout.widest, heads * PAGE)
    weights = weights.index_select(0, layout.place_of_page)
    parts = torch.bmm(weights.view(pages * groups, shared, PAGE), values.flatten(0, 1))
    sums = torch.zeros(rows + 1, heads * width)
    sums.index_add_(0, layout.receiver_of_page, parts.view(pages, heads * width))
    return sums[:rows].view(rows, 1, heads, width).to(query.dtype)
