"""Attention over pages equals attention over each row's own keys and values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hark.models.paged_attention import PAGE, PageLayout, attend_pages

LENGTHS = [1, PAGE, PAGE + 1, 70]
PAGES = [[3], [1], [6, 2], [4, 8, 7]]
"""Of each row, in order; 5 is a hole, and 0 holds zeros."""
WIDEST, COUNT = 3, 9


def layout() -> PageLayout:
    row, place = torch.zeros(COUNT, dtype=torch.long), torch.zeros(COUNT, dtype=torch.long)
    pages = torch.zeros(len(PAGES), WIDEST, dtype=torch.long)
    for number, own in enumerate(PAGES):
        for ordinal, page in enumerate(own):
            row[page], place[page] = number, number * WIDEST + ordinal
            pages[number, ordinal] = page
    receiver = row.clone()
    receiver[[0, 5]] = len(PAGES)
    return PageLayout(
        row_of_page=row,
        receiver_of_page=receiver,
        place_of_page=place,
        pages=pages.flatten(),
        rows=len(PAGES),
    )


def mask(dtype: torch.dtype, window: int = 10**6) -> Tensor:
    distance = torch.tensor(LENGTHS)[:, None] - 1 - torch.arange(WIDEST * PAGE)
    hidden = (distance < 0) | (distance >= window)
    return torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)[
        :, None, None
    ]


def of_row(pages: Tensor, row: int) -> Tensor:
    """[1, heads, length, d]"""
    return torch.cat([pages[page] for page in PAGES[row]], dim=1)[None, :, : LENGTHS[row]]


@pytest.mark.parametrize(("heads", "shared"), [(2, 1), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_row_attends_to_its_own_pages(heads: int, shared: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(COUNT, heads, PAGE, 8, generator=generator) for _ in range(2))
    keys[0] = values[0] = 0.0
    query = torch.randn(len(PAGES), heads * shared, 1, 8, generator=generator).to(dtype)
    for window in (10**6, 20):
        output = attend_pages(query, keys, values, mask(dtype, window), 0.3, layout())
        assert output.dtype == dtype
        assert output.shape == (len(PAGES), 1, heads * shared, 8)
        for row in range(len(PAGES)):
            expected = F.scaled_dot_product_attention(
                query[row : row + 1].float(), of_row(keys, row)[:, :, -window:],
                of_row(values, row)[:, :, -window:], scale=0.3, enable_gqa=True,
            )  # fmt: skip
            tolerance = 1e-6 if dtype == torch.float32 else 1e-2
            torch.testing.assert_close(
                output[row].float(), expected[0].transpose(0, 1), atol=tolerance, rtol=tolerance
            )


def test_autocast_does_not_round_the_scores() -> None:
    generator = torch.Generator().manual_seed(1)
    keys, values = (torch.randn(COUNT, 2, PAGE, 8, generator=generator) for _ in range(2))
    query = torch.randn(len(PAGES), 2, 1, 8, generator=generator)
    plain = attend_pages(query, keys, values, mask(torch.float32), 1.0, layout())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = attend_pages(query, keys, values, mask(torch.float32), 1.0, layout())
    assert torch.equal(plain, cast)
