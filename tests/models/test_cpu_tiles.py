from __future__ import annotations

import numpy as np
import pytest

from hark.models.cpu_tiles import (
    add_product,
    inner_products,
    maxima,
    set_product,
    totals,
    transpose,
)


@pytest.mark.parametrize("columns", [16, 32, 48, 64, 80, 112, 160])
@pytest.mark.parametrize(("rows", "inner"), [(4, 1), (8, 7), (12, 33), (4, 0)])
def test_products_add_to_what_is_there(rows: int, inner: int, columns: int) -> None:
    chance = np.random.default_rng(0)
    left = chance.standard_normal((rows, inner), dtype=np.float32)
    right = chance.standard_normal((inner + 1, columns + 16), dtype=np.float32)
    out = chance.standard_normal((rows + 1, columns + 16), dtype=np.float32)
    expected = out.copy()
    expected[:rows, :columns] += left @ right[:inner, :columns]
    transposed = out.copy()
    add_product(out, rows, left.reshape(-1), inner, 1, right, inner, columns)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    by_columns = np.ascontiguousarray(left.T).reshape(-1)
    add_product(transposed, rows, by_columns, 1, rows, right, inner, columns)
    np.testing.assert_array_equal(transposed, out)

    alone, in_its_place = out.copy(), out.copy()
    alone[:rows, :columns] = 0
    add_product(alone, rows, left.reshape(-1), inner, 1, right, inner, columns)
    set_product(in_its_place, rows, left.reshape(-1), inner, 1, right, inner, columns)
    np.testing.assert_array_equal(in_its_place, alone)


@pytest.mark.parametrize("columns", [16, 32, 48, 64, 80, 128])
@pytest.mark.parametrize("rows", [1, 7])
def test_columns_are_folded_from_the_first_row_to_the_last(rows: int, columns: int) -> None:
    chance = np.random.default_rng(0)
    left, right = (
        chance.standard_normal((rows + 1, columns + 16), dtype=np.float32) for _ in range(2)
    )
    largest, total, inner = (np.full(columns + 16, 7, np.float32) for _ in range(3))
    maxima(largest, left, rows, columns)
    totals(total, left, rows, columns)
    inner_products(inner, left, right, rows, columns)
    for found, rows_of in ((largest, left), (total, left), (inner, left * right)):
        combined = rows_of[0].copy()
        for row in rows_of[1:rows]:
            combined = np.maximum(combined, row) if found is largest else combined + row
        np.testing.assert_array_equal(found[:columns], combined[:columns])
        assert (found[columns:] == 7).all()


def test_what_no_query_sees_is_no_maximum() -> None:
    logits = np.full((3, 16), -np.inf, np.float32)
    logits[1, :8] = -5
    largest = np.zeros(16, np.float32)
    maxima(largest, logits, 3, 16)
    np.testing.assert_array_equal(largest, [-5] * 8 + [-np.inf] * 8)


def test_a_transpose_moves_numbers_and_changes_none() -> None:
    source = np.random.default_rng(0).standard_normal((64, 48), dtype=np.float32)
    out = np.full((48, 80), 7, np.float32)
    transpose(out, source, 32, 64)
    np.testing.assert_array_equal(out[:32, :64], source[:, :32].T)
    assert (out[32:] == 7).all()
    assert (out[:, 64:] == 7).all()
