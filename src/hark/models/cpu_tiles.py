"""Products of small matrices in compiled code, at the rate of the machine.

A tile of the result, 4 rows by up to 64 columns, stays in vector registers while a step of the
inner dimension after the other is added to it. So do sums down the columns of a matrix, and the
square that is transposed. Compilers do not find that by themselves, so that these are written in
LLVM's own terms; the rest is loops.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hark.models.cpu_tasks import compiled

ROWS = 4
"""Rows of a tile: matrices have a multiple of so many."""

LANES = 16
"""Numbers in a vector, 512 bits: matrices have a multiple of so many columns. Where the machine's
vectors are shorter, LLVM takes several."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_ZEROS = ir.Constant(_VECTOR, [0.0] * LANES)
_EACH = range(LANES)


def _product(adds: int) -> Any:
    """The product that adds to what is there (1), or puts itself in its place (0)."""

    @compiled
    def product(
        out: Any, rows: int, left: Any, row_step: int, inner_step: int, right: Any, inner: int,
        columns: int,
    ) -> None:  # fmt: skip
        for i in range(0, rows, ROWS):
            first, j = i * row_step, 0
            while j + 4 * LANES <= columns:
                _tile(out, i, j, left, first, row_step, inner_step, right, j, inner, 4, adds)
                j += 4 * LANES
            if j + 3 * LANES == columns:
                _tile(out, i, j, left, first, row_step, inner_step, right, j, inner, 3, adds)
            elif j + 2 * LANES == columns:
                _tile(out, i, j, left, first, row_step, inner_step, right, j, inner, 2, adds)
            elif j < columns:
                _tile(out, i, j, left, first, row_step, inner_step, right, j, inner, 1, adds)

    return product


set_product = _product(0)
"""out[i, j] = Σₖ left[i·row_step + k·inner_step] · right[k, j], for i < rows and j < columns.

out and right: float32 matrices, contiguous; left: float32 [any]. rows: a multiple of `ROWS`;
columns: of `LANES`; inner: anything."""

add_product = _product(1)
"""The same, added to what `out` has."""


@compiled
def transpose(out: Any, source: Any, rows: int, columns: int) -> None:
    """out[i, j] = source[j, i], for i < rows and j < columns, both multiples of `LANES`."""
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            _transpose_square(out, i, j, source)


@intrinsic
def _transpose_square(typing: Any, out: Any, row: Any, column: Any, source: Any) -> Any:
    """out[row + i, column + j] = source[column + j, row + i], for i and j < `LANES`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        _, row, column, _ = arguments
        out, source = (
            context.make_array(signature.args[place])(context, builder, arguments[place])
            for place in (0, 3)
        )

        def line(array: Any, first: Any, number: int, start: Any) -> Any:
            place = builder.mul(builder.add(first, _whole(number)), _columns(builder, array))
            return _vector(builder, array, builder.add(place, start), 0)

        lines = [builder.load(line(source, column, i, row), align=4) for i in range(LANES)]
        for size in (1, 2, 4, 8):
            # Of squares of this size, two by two, those off the diagonal change places. From number
            # `LANES` on a mask names the lanes of the second line.
            of_first = [LANES + lane - size if lane & size else lane for lane in _EACH]
            of_second = [LANES + lane if lane & size else lane + size for lane in _EACH]
            for i in _EACH:
                if not i & size:
                    pair = lines[i], lines[i + size]
                    lines[i], lines[i + size] = (
                        builder.shuffle_vector(*pair, _lanes(mask))
                        for mask in (of_first, of_second)
                    )
        for i, each in enumerate(lines):
            builder.store(each, line(out, row, i, column), align=4)

    return types.void(out, types.int64, types.int64, source), generate


@intrinsic(prefer_literal=True)
def _tile(
    typing: Any, out: Any, row: Any, column: Any, left: Any, first: Any, row_step: Any,
    inner_step: Any, right: Any, right_column: Any, inner: Any, vectors: Any, adds: Any,
) -> Any:  # fmt: skip
    """out[row + i, column + j] = Σₖ left[first + i·row_step + k·inner_step] ·
    right[k, right_column + j], for i < `ROWS` and j < `LANES` · vectors; added to what is there
    where `adds` is 1. vectors and adds: literals."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        _, row, column, _, first, row_step, inner_step, _, right_column, inner, _, _ = arguments
        out, left, right = (
            context.make_array(signature.args[place])(context, builder, arguments[place])
            for place in (0, 3, 7)
        )
        out_step, right_step = (_columns(builder, each) for each in (out, right))

        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )

        def times(a: Any, b: Any) -> Any:
            return builder.mul(a, b)

        def plus(*terms: Any) -> Any:
            return functools.reduce(builder.add, terms)

        def vector(array: Any, start: Any, number: int) -> Any:
            return _vector(builder, array, start, number)

        places = [
            [
                vector(out, plus(times(plus(row, _whole(i)), out_step), column), v)
                for v in range(count)
            ]
            for i in range(ROWS)
        ]
        sums = [
            [
                cgutils.alloca_once_value(
                    builder, builder.load(each, align=4) if adds.literal_value else _ZEROS
                )
                for each in line
            ]
            for line in places
        ]
        with cgutils.for_range(builder, inner) as loop:
            start = plus(times(loop.index, right_step), right_column)
            given = [builder.load(vector(right, start, v), align=4) for v in range(count)]
            for i, line in enumerate(sums):
                place = plus(first, times(_whole(i), row_step), times(loop.index, inner_step))
                factor = _splat(builder, builder.load(builder.gep(left.data, [place])))
                for total, terms in zip(line, given, strict=True):
                    added = builder.call(fused, [factor, terms, builder.load(total)])
                    builder.store(added, total)
        for place, total in zip(itertools.chain(*places), itertools.chain(*sums), strict=True):
            builder.store(builder.load(total), place, align=4)

    count = vectors.literal_value
    given = {0: out, 3: left, 7: right, 10: vectors, 11: adds}
    return types.void(*(given.get(place, types.int64) for place in range(12))), generate


def _fold(first: float, step: Callable[[Any, Any, Any, Any], Any]) -> Any:
    """What comes of the rows of two matrices, column by column, in registers.

    first: what it is before the first row. step: gets LLVM's builder, what it is so far and a
    vector of each matrix, and returns what it is then.
    """

    @intrinsic(prefer_literal=True)
    def fold_vectors(
        typing: Any, out: Any, left: Any, right: Any, rows: Any, column: Any, vectors: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
            _, _, _, rows, column, _ = arguments
            out, left, right = (
                context.make_array(signature.args[place])(context, builder, arguments[place])
                for place in range(3)
            )
            count = range(vectors.literal_value)
            start = ir.Constant(_VECTOR, [first] * LANES)
            sums = [cgutils.alloca_once_value(builder, start) for _ in count]
            with cgutils.for_range(builder, rows) as loop:
                for v, so_far in zip(count, sums, strict=True):
                    terms = [
                        builder.load(_vector(builder, matrix, place, v), align=4)
                        for matrix in (left, right)
                        for place in [
                            builder.add(builder.mul(loop.index, _columns(builder, matrix)), column)
                        ]
                    ]
                    builder.store(step(builder, builder.load(so_far), *terms), so_far)
            for v, result in zip(count, sums, strict=True):
                builder.store(builder.load(result), _vector(builder, out, column, v), align=4)

        arrays = (out, left, right, types.int64, types.int64, vectors)
        return types.void(*arrays), generate

    @compiled
    def fold(out: Any, left: Any, right: Any, rows: int, columns: int) -> None:
        j = 0
        while j + 4 * LANES <= columns:
            fold_vectors(out, left, right, rows, j, 4)
            j += 4 * LANES
        if j + 3 * LANES == columns:
            fold_vectors(out, left, right, rows, j, 3)
        elif j + 2 * LANES == columns:
            fold_vectors(out, left, right, rows, j, 2)
        elif j < columns:
            fold_vectors(out, left, right, rows, j, 1)

    return fold


def _greater(builder: Any, so_far: Any, left: Any, _: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, so_far), left, so_far)


_largest = _fold(-math.inf, _greater)
_total = _fold(0.0, lambda builder, so_far, left, _: builder.fadd(so_far, left))
_inner_product = _fold(
    0.0, lambda builder, so_far, left, right: builder.fadd(so_far, builder.fmul(left, right))
)


@compiled
def maxima(out: Any, matrix: Any, rows: int, columns: int) -> None:
    """out[j] = maxᵢ matrix[i, j], for i < rows and j < columns, a multiple of `LANES`."""
    _largest(out, matrix, matrix, rows, columns)


@compiled
def totals(out: Any, matrix: Any, rows: int, columns: int) -> None:
    """out[j] = Σᵢ matrix[i, j], the same way."""
    _total(out, matrix, matrix, rows, columns)


@compiled
def inner_products(out: Any, left: Any, right: Any, rows: int, columns: int) -> None:
    """out[j] = Σᵢ left[i, j] · right[i, j], the same way."""
    _inner_product(out, left, right, rows, columns)


def _vector(builder: Any, array: Any, start: Any, number: int) -> Any:
    """Where the vector `number` after the number `start` of an array is."""
    place = builder.add(start, _whole(LANES * number))
    return builder.bitcast(builder.gep(array.data, [place]), _VECTOR.as_pointer())


def _whole(number: int) -> Any:
    return ir.Constant(ir.IntType(64), number)


def _lanes(mask: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask)


def _columns(builder: Any, matrix: Any) -> Any:
    """Numbers in a row of a float32 matrix."""
    return builder.sdiv(cgutils.unpack_tuple(builder, matrix.strides)[0], _whole(4))


def _splat(builder: Any, number: Any) -> Any:
    """A vector of one number."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, _lanes([0] * LANES))
