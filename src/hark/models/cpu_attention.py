"""Attention over prompt trees on a CPU, compiled: what `tree_attention` calls there.

A task is a tree and a head of its keys. For each branch the keys and values that it sees, its
prompt's and its own, lie in one buffer, rotated and in float32. Queries come in tiles of up to 64,
one to a lane. A tile's logits are keys times queries, with a row for each key up to the last that
the tile sees, so that what no query sees is not computed but for half of the last square, and all
of it stays in the core's cache. The backward pass computes them again, from one number for each
query.

With S the logits and Z = ln Σ exp(S) for each query, P = exp(S − Z) are the probabilities and P V
the output. With G its gradient: dV = Pᵀ G; dP = G Vᵀ; dS = P ∘ (dP − Σ P ∘ dP); dQ = scale · dS K;
dK = scale · dSᵀ Q (FlashAttention, Dao et al. 2022, section 3.1 and appendix B, with all keys of a
query at once).

Sums are taken in one order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from hark.models.cpu_numbers import exp, narrowed, widened
from hark.models.cpu_tasks import FIRST_ARGUMENT, Loop, compiled, next_task, pointer
from hark.models.cpu_tiles import (
    LANES,
    ROWS,
    add_product,
    inner_products,
    maxima,
    set_product,
    totals,
    transpose,
)

TILE = 64
"""Most queries at a time."""

START, END, PROMPT_START, PROMPT_TOKENS, FIRST_ASKING, END_ASKING = range(6)
"""Columns of the table of branches: its tokens in the row; the prompt before it where that is not
among them, else 0 tokens; its queries among those of the pass."""

_COUNTS = 8
_ARGUMENTS = _COUNTS + 17


def _attention(numbers: Any) -> Any:
    """The body of the forward pass; what it gets, `_read` says."""

    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + _ARGUMENTS)
        tensors, _, tables, angles, scale = _read(given, numbers)
        buffers = _buffers(tables, tensors[1].shape[2])
        task = next_task(data)
        while task < given[1]:
            _attend(task, tensors, tables, angles, scale, buffers)
            task = next_task(data)

    return body


def _attention_gradients(numbers: Any) -> Any:
    """The body of the backward pass."""

    def body(data: Any) -> None:
        given = carray(data, FIRST_ARGUMENT + _ARGUMENTS)
        tensors, of_tensors, tables, angles, scale = _read(given, numbers)
        buffers = _buffers(tables, tensors[1].shape[2])
        received = _received_buffers(tables, tensors[1].shape[2])
        task = next_task(data)
        while task < given[1]:
            _differentiate(task, tensors, of_tensors, tables, angles, scale, buffers, received)
            task = next_task(data)

    return body


attention = Loop(_attention)
attention_gradients = Loop(_attention_gradients)


@compiled
def _read(given: Any, numbers: Any) -> Any:
    """What the numbers stand for, in the order in which `tree_attention` gives them.

    Query, key, value, output, normaliser; the gradients of output, query, key and value (of no
    meaning in the forward pass); the tables of trees, branches and positions; cosines and sines of
    queries and of keys; the scale.
    """
    counts = given[FIRST_ARGUMENT : FIRST_ARGUMENT + _COUNTS]
    asking, asked, heads, groups, width, trees, branches, turned = counts
    at = given[FIRST_ARGUMENT + _COUNTS :]
    queries, keys = (asking, heads, width), (asked, groups, width)
    tensors = (
        carray(pointer(at[0]), queries, numbers),
        carray(pointer(at[1]), keys, numbers),
        carray(pointer(at[2]), keys, numbers),
        carray(pointer(at[3]), queries, numbers),
        carray(pointer(at[4]), (heads, asking), np.float32),
    )
    of_tensors = (
        carray(pointer(at[5]), queries, numbers),
        carray(pointer(at[6]), queries, numbers),
        carray(pointer(at[7]), keys, numbers),
        carray(pointer(at[8]), keys, numbers),
    )
    tables = (
        carray(pointer(at[9]), trees + 1, np.int64),
        carray(pointer(at[10]), (branches, END_ASKING + 1), np.int64),
        carray(pointer(at[11]), asking, np.int64),
    )
    half = width // 2
    angles = (
        carray(pointer(at[12]), (asking if turned & 1 else 0, half), np.float32),
        carray(pointer(at[13]), (asking if turned & 1 else 0, half), np.float32),
        carray(pointer(at[14]), (asked if turned & 2 else 0, half), np.float32),
        carray(pointer(at[15]), (asked if turned & 2 else 0, half), np.float32),
        np.empty((0, half), np.float32),
    )
    return tensors, of_tensors, tables, angles, np.float32(at[16:17].view(np.float64)[0])


@compiled
def _attend(task: Any, tensors: Any, tables: Any, angles: Any, scale: Any, buffers: Any) -> None:
    """Output and normaliser of the queries of a tree that a head of keys serves."""
    query, key, value, output, normaliser = tensors
    trees, branches, position = tables
    of_queries = angles[0], angles[1]
    groups, width = key.shape[1], key.shape[2]
    tree, group = task // groups, task % groups
    served = query.shape[1] // groups
    keys, values, rows_asking, asking, mixed, weights, total = buffers
    wide, one = keys.shape[1], np.float32(1)
    there = np.int64(0), np.int64(0)  # tokens that the buffers have: the first, and how many
    for number in range(trees[tree], trees[tree + 1]):
        branch = branches[number]
        there = _load_branch(keys, values, key, value, branch, group, angles, there)
        for head in range(group * served, (group + 1) * served):
            for first in range(branch[FIRST_ASKING], branch[END_ASKING], TILE):
                count = min(TILE, branch[END_ASKING] - first)
                lanes = _up(count, LANES)
                _load(rows_asking, 0, query, first, count, head, of_queries, scale)
                rows_asking[count:lanes] = 0
                transpose(asking, rows_asking, wide, lanes)
                own = position[first : first + count] - branch[START] + branch[PROMPT_TOKENS]
                rows = _logits(weights, keys, asking, own, lanes)
                maxima(total, weights, rows, lanes)
                for lane in range(count):
                    normaliser[head, first + lane] = total[lane]
                for row in range(rows):
                    for lane in range(lanes):
                        weights[row, lane] = exp(weights[row, lane] - total[lane])
                totals(total, weights, rows, lanes)
                set_product(mixed, wide, _flat(values), 1, wide, weights, rows, lanes)
                transpose(rows_asking, mixed, lanes, wide)
                for lane in range(count):
                    normaliser[head, first + lane] += np.log(total[lane])
                    inverse = one / total[lane]
                    for i in range(width):
                        output[first + lane, head, i] = narrowed(
                            rows_asking[lane, i] * inverse, output
                        )


@compiled
def _differentiate(
    task: Any, tensors: Any, of_tensors: Any, tables: Any, angles: Any, scale: Any, buffers: Any,
    received_buffers: Any,
) -> None:  # fmt: skip
    """Gradients of the queries, keys and values of a tree and a head of keys."""
    query, key, value, _, normaliser = tensors
    received, of_query, of_key, of_value = of_tensors
    trees, branches, position = tables
    of_queries, of_keys, unturned = (
        (angles[0], angles[1]),
        (angles[2], angles[3]),
        (angles[4], angles[4]),
    )
    groups, width = key.shape[1], key.shape[2]
    tree, group = task // groups, task % groups
    served = query.shape[1] // groups
    start, end = branches[trees[tree], START], branches[trees[tree + 1] - 1, END]
    keys, values, rows_asking, asking, got, weights, along = buffers
    to_keys, to_values, rows_got, of_logits, tree_keys, tree_values = received_buffers
    wide, one = keys.shape[1], np.float32(1)
    tree_keys[: end - start] = 0
    tree_values[: end - start] = 0
    there = np.int64(0), np.int64(0)  # tokens that the buffers have: the first, and how many
    for number in range(trees[tree], trees[tree + 1]):
        branch = branches[number]
        prompt, length = branch[PROMPT_TOKENS], branch[END] - branch[START]
        there = _load_branch(keys, values, key, value, branch, group, angles, there)
        seen = _up(prompt + length, ROWS)
        to_keys[:seen] = 0
        to_values[:seen] = 0
        for head in range(group * served, (group + 1) * served):
            for first in range(branch[FIRST_ASKING], branch[END_ASKING], TILE):
                count = min(TILE, branch[END_ASKING] - first)
                lanes = _up(count, LANES)
                _load(rows_asking, 0, query, first, count, head, of_queries, scale)
                _load(rows_got, 0, received, first, count, head, unturned, one)
                rows_asking[count:lanes] = 0
                rows_got[count:lanes] = 0
                transpose(asking, rows_asking, wide, lanes)
                transpose(got, rows_got, wide, lanes)
                own = position[first : first + count] - branch[START] + prompt
                rows = _logits(weights, keys, asking, own, lanes)
                even = _up(rows, ROWS)
                along[:count] = normaliser[head, first : first + count]
                along[count:lanes] = np.inf
                for row in range(rows):
                    for lane in range(lanes):
                        weights[row, lane] = exp(weights[row, lane] - along[lane])
                weights[rows:even, :lanes] = 0
                set_product(of_logits, even, _flat(values), wide, 1, got, width, lanes)
                inner_products(along, weights, of_logits, rows, lanes)
                for row in range(even):
                    for lane in range(lanes):
                        of_logits[row, lane] = weights[row, lane] * (
                            of_logits[row, lane] - along[lane]
                        )
                add_product(to_keys, even, _flat(of_logits), TILE, 1, rows_asking, count, wide)
                add_product(to_values, even, _flat(weights), TILE, 1, rows_got, count, wide)
                set_product(asking, wide, _flat(keys), 1, wide, of_logits, rows, lanes)
                transpose(rows_asking, asking, lanes, wide)
                _store(of_query, rows_asking, first, count, head, of_queries, scale)
        own_start, prompt_start = branch[START] - start, branch[PROMPT_START] - start
        for of_tree, of_branch in ((tree_keys, to_keys), (tree_values, to_values)):
            _add_rows(of_tree, prompt_start, of_branch, 0, prompt)
            _add_rows(of_tree, own_start, of_branch, prompt, length)
    _store(of_key, tree_keys, start, end - start, group, of_keys, one)
    _store(of_value, tree_values, start, end - start, group, unturned, one)


@compiled
def _logits(logits: Any, keys: Any, asking: Any, own: Any, lanes: Any) -> Any:
    """Logits [keys, lanes] of the queries `asking` [width, lanes], and how many keys they see.

    own: [queries] long, ascending: each one's place among the keys, the last that it sees.
    """
    rows = own[-1] + 1
    wide = keys.shape[1]
    set_product(logits, _up(rows, ROWS), _flat(keys), wide, 1, asking, wide, lanes)
    blind = 0
    for row in range(own[0] + 1, rows):
        while own[blind] < row:
            blind += 1
        logits[row, :blind] = -np.inf
    return rows


@compiled
def _load_branch(
    keys: Any, values: Any, key: Any, value: Any, branch: Any, group: Any, angles: Any, there: Any
) -> Any:
    """The keys, rotated, and values that a branch sees: its prompt's, then its own, then zeros.

    there: the first token and the number of those that the buffers have; returned anew.
    """
    one = np.float32(1)
    of_keys, unturned = (angles[2], angles[3]), (angles[4], angles[4])
    prompt, length = branch[PROMPT_TOKENS], branch[END] - branch[START]
    if there[0] != branch[PROMPT_START] or there[1] < prompt:
        _load(keys, 0, key, branch[PROMPT_START], prompt, group, of_keys, one)
        _load(values, 0, value, branch[PROMPT_START], prompt, group, unturned, one)
    _load(keys, prompt, key, branch[START], length, group, of_keys, one)
    _load(values, prompt, value, branch[START], length, group, unturned, one)
    keys[prompt + length : _up(prompt + length, ROWS)] = 0
    values[prompt + length : _up(prompt + length, ROWS)] = 0
    return (branch[PROMPT_START], prompt) if prompt else (branch[START], length)


@compiled
def _load(
    into: Any, row: Any, source: Any, first: Any, count: Any, head: Any, angles: Any, scale: Any
) -> None:
    """Tokens of a head times `scale`, rotated if there are angles, in the order of Llama: each pair
    (i, i + d/2) is turned by its angle."""
    cosine, sine = angles
    width = source.shape[2]
    half = width // 2
    for token in range(first, first + count):
        to = row + token - first
        if len(cosine) == 0:
            for i in range(width):
                into[to, i] = widened(source[token, head, i]) * scale
        else:
            for i in range(half):
                x = widened(source[token, head, i]) * scale
                y = widened(source[token, head, half + i]) * scale
                into[to, i] = x * cosine[token, i] - y * sine[token, i]
                into[to, half + i] = y * cosine[token, i] + x * sine[token, i]


@compiled
def _store(
    into: Any, source: Any, first: Any, count: Any, head: Any, angles: Any, scale: Any
) -> None:
    """The reverse of `_load` for gradients: the gradient of a rotation is the rotation back."""
    cosine, sine = angles
    width = into.shape[2]
    half = width // 2
    for token in range(first, first + count):
        row = token - first
        if len(cosine) == 0:
            for i in range(width):
                into[token, head, i] = narrowed(source[row, i] * scale, into)
        else:
            for i in range(half):
                x, y = source[row, i] * scale, source[row, half + i] * scale
                p, q = cosine[token, i], sine[token, i]
                into[token, head, i] = narrowed(x * p + y * q, into)
                into[token, head, half + i] = narrowed(y * p - x * q, into)


@compiled
def _add_rows(into: Any, start: Any, source: Any, first: Any, count: Any) -> None:
    """into[start + i] += source[first + i], for i < count: in vectors, as `+=` of slices is not."""
    for row in range(count):
        for i in range(source.shape[1]):
            into[start + row, i] += source[first + row, i]


@compiled
def _up(number: Any, multiple: Any) -> Any:
    return (number + multiple - 1) // multiple * multiple


@compiled
def _buffers(tables: Any, width: Any) -> Any:
    """What a thread needs for one tile after the other; columns beyond a head's width stay 0."""
    _, branches, _ = tables
    wide, longest = _up(width, LANES), 0
    for branch in branches:
        longest = max(longest, branch[PROMPT_TOKENS] + branch[END] - branch[START])
    longest = _up(longest, ROWS)
    keys = np.zeros((longest, wide), np.float32)
    asking = np.zeros((wide, TILE), np.float32)
    weights = np.zeros((longest, TILE), np.float32)
    return (
        keys, np.zeros_like(keys), np.zeros((TILE, wide), np.float32), asking,
        np.zeros_like(asking), weights, np.zeros(TILE, np.float32),
    )  # fmt: skip


@compiled
def _received_buffers(tables: Any, width: Any) -> Any:
    """What the backward pass needs besides."""
    trees, branches, _ = tables
    keys, _, rows, _, _, weights, _ = _buffers(tables, width)
    longest = 0
    for tree in range(len(trees) - 1):
        tokens = branches[trees[tree + 1] - 1, END] - branches[trees[tree], START]
        longest = max(longest, tokens)
    tree_keys = np.zeros((longest, keys.shape[1]), np.float32)
    return (
        keys, np.zeros_like(keys), rows, weights, tree_keys, np.zeros_like(tree_keys),
    )  # fmt: skip


@compiled
def _flat(matrix: Any) -> Any:
    return matrix.reshape(matrix.size)
