"""Pages change hands as rows grow, end, move and begin anew."""

from __future__ import annotations

import random

import torch
from transformers import DynamicCache, PreTrainedModel

from hark.models.decoders import PagedDecoder, supports_slots
from hark.models.key_value_pages import KeyValuePages, PageTable
from hark.models.paged_attention import PAGE
from hark.models.prefill import ReadPrompt
from hark.models.tree_attention import attends_by_tree


def test_pages_are_numbered_in_order_and_holes_taken_first() -> None:
    table = PageTable(rows=3, capacity=4 * PAGE)
    assert table.take(0, 2) == [1, 2]
    assert table.take(1, 3) == [3, 4, 5]
    assert table.take(2, 1) == [6]
    table.release(0)
    assert sorted(table.take(2, 2)) == [1, 2]
    assert table.take(2, 1) == [7]
    assert table.used == 8
    layout = table.layout(3, 4)
    first, second = table.of_row[2][1:3]
    assert layout.pages.tolist() == [0, 0, 0, 0, 3, 4, 5, 0, 6, first, second, 7]
    assert layout.row_of_page.tolist() == [0, 2, 2, 1, 1, 1, 2, 2]
    assert layout.receiver_of_page.tolist() == [3, 2, 2, 1, 1, 1, 2, 2]
    # Row 2 begins at place 2 · 4.
    assert layout.place_of_page[[3, 4, 5, 6, first, second, 7]].tolist() == [4, 5, 6, 8, 9, 10, 11]


def test_the_last_pages_fill_the_holes_once_those_are_many() -> None:
    table = PageTable(rows=3, capacity=12 * PAGE)
    table.take(0, 1)
    table.take(1, 8)
    table.take(2, 2)
    table.release(0)
    # One hole of twelve pages in use, page 0 among them: at most an eighth.
    assert table.close_holes() == ([], [])
    table.move(2, 0)
    table.release(1)
    # Pages 1 to 9 are free, 10 and 11 belong to what was row 2.
    source, target = table.close_holes()
    assert (source, sorted(target), table.used) == ([10, 11], [1, 2], 3)
    assert table.of_row == [target, [], []]
    assert table.layout(1, 2).pages.tolist() == target


def test_any_history_leaves_each_page_to_one_row() -> None:
    draw, table = random.Random(0), PageTable(rows=6, capacity=5 * PAGE)
    content: dict[int, tuple[int, int]] = {}
    held = [0] * 6
    for number in range(400):
        row, other = draw.sample(range(6), 2)
        action = draw.choice(["take", "take", "release", "move", "close"])
        if action == "take" and held[row] < 5:
            for page in table.take(row, 1):
                content[page] = (number, held[row])
            held[row] += 1
        elif action == "release":
            table.release(row)
            held[row] = 0
        elif action == "move":
            table.move(row, other)
            held[other], held[row] = held[row], 0
        else:
            before = [[content[page] for page in own] for own in table.of_row]
            content |= {new: content[old] for old, new in zip(*table.close_holes(), strict=True)}
            assert [[content[page] for page in own] for own in table.of_row] == before
        pages = [page for own in table.of_row for page in own]
        assert [len(own) for own in table.of_row] == held
        assert len(set(pages)) == len(pages)
        assert all(0 < page < table.used for page in pages)
        layout = table.layout(6, 5)
        holes = set(range(table.used)) - set(pages)
        assert layout.receiver_of_page[sorted(holes)].eq(6).all()
        assert layout.place_of_page.lt(30).all()
        for own, row_pages in enumerate(table.of_row):
            assert layout.receiver_of_page[row_pages].eq(own).all()
            assert layout.row_of_page[row_pages].eq(own).all()
            assert layout.pages.view(6, 5)[own].tolist() == row_pages + [0] * (5 - held[own])
    assert table.used <= 31


def test_what_an_ended_row_left_behind_is_not_read() -> None:
    cache = KeyValuePages(rows=1, capacity=2 * PAGE)
    states = DynamicCache()
    states.update(*[torch.full((1, 1, PAGE + 3, 4), torch.nan)] * 2, 0)
    cache.write([0], [ReadPrompt(states, 0, 0, PAGE + 3)])
    cache.table.release(0)
    cache.at(torch.tensor([0]), longest=0)
    keys, values = cache.layers[0].update(*[torch.ones(1, 1, 1, 4)] * 2)
    page = cache.table.of_row[0][0]
    assert keys[page].sum() == values[page].sum() == 4


@torch.inference_mode()
def test_every_family_continues_rows_that_grow_move_and_end(family_model: PreTrainedModel) -> None:
    if not attends_by_tree(family_model):
        assert family_model.config.model_type == "gemma2"
        return
    texts = [[2 + (7 * row + 3 * place) % 59 for place in range(50)] for row in range(5)]
    known = [30, 31, 0, 40, 12]
    decoder = PagedDecoder(family_model, slots=5, capacity=50)
    which = torch.arange(5)
    prompts = [text[:length] for text, length in zip(texts, known, strict=True)]
    decoder.admit(decoder.prefill(prompts), which, which)
    expected = family_model(torch.tensor(texts), use_cache=False).logits
    rows = list(range(5))

    def steps(count: int) -> None:
        for _ in range(count):
            lengths = torch.tensor([known[row] for row in rows])
            tokens = torch.tensor([texts[row][known[row]] for row in rows])
            logits = decoder.step(tokens, lengths, longest=int(lengths.max()))
            wanted = expected[torch.tensor(rows), lengths]
            torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)
            for row in rows:
                known[row] += 1

    steps(3)
    # Row 3 takes the place of row 0, which has ended, and row 4 ends too.
    decoder.move(torch.tensor([3]), torch.tensor([0]), longest=43)
    rows = [3, 1, 2]
    steps(2)
    # Text 0 begins again in the place of text 1.
    known[0] = 35
    decoder.admit(decoder.prefill([texts[0][:35]]), torch.tensor([0]), torch.tensor([1]))
    rows = [3, 0, 2]
    steps(4)


@torch.inference_mode()
def test_autocast_decodes_from_pages(family_model: PreTrainedModel) -> None:
    if not attends_by_tree(family_model):
        return
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert supports_slots(family_model)
        decoder = PagedDecoder(family_model, slots=1, capacity=4)
        decoder.admit(decoder.prefill([[3, 5]]), torch.tensor([0]), torch.tensor([0]))
        logits = decoder.step(torch.tensor([7]), torch.tensor([2]), longest=2)
        plain = family_model(torch.tensor([[3, 5, 7]]), use_cache=False).logits[0, -1]
    spread = float(plain.max() - plain.min())
    torch.testing.assert_close(logits[0].float(), plain.float(), atol=0.05 * spread, rtol=0)
