"""Attention as compiled for a CPU, against attention written out in float64."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from hark.models import cpu_tasks
from hark.models.tree_attention import Angles, TreeAttention, tree_layout

Trees = Sequence[Sequence[int]]

LONG_AND_SHORT = [(116, 60, 70), (40, 20), (1, 0), (200, 100, 90), (3, 5, 1, 64), (4, 0, 3, 0)]
"""Lengths about the 4 rows of a tile, its 16 lanes, and its 64 queries; responses of no token."""


def sees(trees: Trees) -> Tensor:
    """[T, T] bool, True where a token (row) attends to another (column)."""
    total = sum(map(sum, trees))
    seen = torch.zeros(total, total, dtype=torch.bool)
    start = 0
    for prompt, *responses in trees:
        end = start + prompt
        seen[start:end, start:end] = True
        for length in responses:
            seen[end : end + length, start : start + prompt] = True
            seen[end : end + length, end : end + length] = True
            end += length
        start = end
    return seen.tril()


def turned(x: Tensor, angles: Angles | None) -> Tensor:
    if angles is None:
        return x
    first, second = x.chunk(2, dim=-1)
    cosine, sine = (each[:, None].double() for each in angles)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def written_out(
    inputs: Sequence[Tensor],
    asking: Angles | None,
    asked: Angles | None,
    seen: Tensor,
    scale: float,
) -> Tensor:
    query, key, value = inputs
    copies = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(copies, dim=1) for each in (turned(key, asked), value))
    logits = torch.einsum("qhd,khd->hqk", turned(query, asking), key) * scale
    weights = logits.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)


def angles_of(count: int, half: int) -> Angles:
    phases = 6 * torch.rand(count, half)
    return Angles(phases.cos(), phases.sin())


def error(got: Tensor, expected: Tensor) -> float:
    return float(((got.double() - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-3)], ids=["float32", "bf16"]
)
@pytest.mark.parametrize("turns", [False, True], ids=["as they are", "turned"])
@pytest.mark.parametrize(
    ("heads", "groups", "width"), [(6, 6, 32), (4, 2, 20), (2, 1, 6), (1, 1, 80)]
)
def test_it_equals_attention_written_out(
    heads: int, groups: int, width: int, turns: bool, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    total = sum(map(sum, LONG_AND_SHORT))
    shapes = ((total, heads, width), (total, groups, width), (total, groups, width))
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    angles = angles_of(total, width // 2) if turns else None
    gradient = torch.randn(shapes[0]).to(dtype)
    output = TreeAttention.apply(*inputs, angles, angles, tree_layout(LONG_AND_SHORT), 0.3)
    output.backward(gradient)

    exact = [each.detach().double().requires_grad_() for each in inputs]
    expected = written_out(exact, angles, angles, sees(LONG_AND_SHORT), 0.3)
    expected.backward(gradient.double())
    assert output.dtype == dtype
    assert error(output, expected) < tolerance
    for got, right in zip(inputs, exact, strict=True):
        assert got.grad is not None
        assert right.grad is not None
        assert error(got.grad, right.grad) < tolerance


def test_tokens_that_are_not_read_ask_nothing() -> None:
    torch.manual_seed(0)
    total = sum(map(sum, LONG_AND_SHORT))
    # The ends of trees, of one no token at all, and of another more than a tile's.
    read = torch.tensor([100, 115, 175, 245, 307, *range(400, 480), 700, total - 1])
    layout = tree_layout(LONG_AND_SHORT, read).last
    assert layout is not None
    query = torch.randn(len(read), 2, 16, requires_grad=True)
    key, value = (torch.randn(total, 2, 16, requires_grad=True) for _ in range(2))
    asked = angles_of(total, 8)
    asking = Angles(*(each[read] for each in asked))
    output = TreeAttention.apply(query, key, value, asking, asked, layout, 0.25)
    output.sum().backward()
    exact = [each.detach().double().requires_grad_() for each in (query, key, value)]
    expected = written_out(exact, asking, asked, sees(LONG_AND_SHORT)[read], 0.25)
    expected.sum().backward()
    assert error(output, expected) < 1e-6
    for got, right in zip((query, key, value), exact, strict=True):
        assert got.grad is not None
        assert right.grad is not None
        assert error(got.grad, right.grad) < 1e-6


def test_logits_of_any_size_leave_probabilities() -> None:
    # Far apart: one probability is 1 and the others are 0. All alike and huge: the mean.
    query = torch.tensor([0.0, 1e4, -1e4, 0.0]).view(4, 1, 1).repeat(1, 1, 2)
    key = torch.tensor([1.0, 2.0, 3.0, 1e6]).view(4, 1, 1).repeat(1, 1, 2)
    value = torch.arange(1.0, 5.0).view(4, 1, 1).repeat(1, 1, 2)
    output = TreeAttention.apply(query, key, value, None, None, tree_layout([(4, 0)]), 1.0)
    assert output[:, 0, 0].tolist() == pytest.approx([1.0, 2.0, 1.0, 2.5])


def test_trees_do_not_see_each_other_even_where_one_is_not_a_number() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(90, 1, 16) for _ in range(3)]
    for each in inputs:
        each[:30] = float("nan")
    for each in inputs:
        each.requires_grad_()
    output = TreeAttention.apply(*inputs, None, None, tree_layout([(20, 10), (50, 5, 5)]), 0.25)
    output[30:].sum().backward()
    assert output[:30].isnan().all()
    assert output[30:].isfinite().all()
    assert all(each.grad is not None and each.grad[30:].isfinite().all() for each in inputs)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["query", "key", "value"])
def test_a_number_that_is_none_shows_wherever_it_is_seen(place: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(90, 1, 16) for _ in range(3)]
    inputs[place][70, 0, 3] = float("nan")
    output = TreeAttention.apply(*inputs, None, None, tree_layout([(40, 40), (5, 5)]), 0.25)
    shown = set(output.isnan().flatten(1).any(1).nonzero().flatten().tolist())
    # A query answers for itself alone; keys and values are seen by it and what follows. Products
    # may spread it over the tile (0 · NaN), but not to another tree.
    assert shown >= ({70} if place == 0 else set(range(70, 80)))
    assert shown <= set(range(64, 80))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_a_bit(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome() -> list[Tensor]:
        torch.manual_seed(0)
        total = sum(map(sum, LONG_AND_SHORT))
        inputs = [torch.randn(total, 3, 32).to(dtype).requires_grad_() for _ in range(3)]
        output = TreeAttention.apply(*inputs, None, None, tree_layout(LONG_AND_SHORT), 0.2)
        output.backward(torch.randn(total, 3, 32).to(dtype))
        return [output, *(each.grad for each in inputs if each.grad is not None)]

    threads = torch.get_num_threads()
    together = []
    openmp = cpu_tasks._openmp()
    assert openmp is not None
    monkeypatch.setattr(
        cpu_tasks, "_openmp", lambda: lambda *given: together.append(given[2]) or openmp(*given)
    )
    try:
        torch.set_num_threads(3)
        on_three = outcome()
        assert together == [3, 3]
        torch.set_num_threads(1)
        on_one = outcome()
        assert together == [3, 3]
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(cpu_tasks, "_openmp", lambda: None)
    without = outcome()
    for one, other, third in zip(on_three, on_one, without, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_where_nothing_can_be_kept_on_disk_it_is_compiled_all_the_same(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def refuse(*signature: object, cache: bool = False) -> Callable[[object], object]:
        if cache:
            raise error("no place for it")
        return lambda body: compiled.append(body) or body

    def body(data: object) -> None: ...

    monkeypatch.setattr(cpu_tasks, "cfunc", refuse)
    assert cpu_tasks._compile(body) is body
    assert compiled == [body]


def test_compiling_that_takes_long_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = threading.Event()
    monkeypatch.setattr(cpu_tasks.log, "warning", lambda text: said.set())
    monkeypatch.setattr(cpu_tasks, "PATIENCE_SECONDS", 0.0)

    def wait(*signature: object, cache: bool) -> Callable[[object], object]:
        return lambda body: said.wait(30) and body

    def body(data: object) -> None: ...

    monkeypatch.setattr(cpu_tasks, "cfunc", wait)
    cpu_tasks._say_that_it_compiles.cache_clear()
    assert cpu_tasks._compile(body) is body
