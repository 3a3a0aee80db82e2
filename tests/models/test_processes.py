from __future__ import annotations

import pytest

from hark.models import processes
from hark.models.processes import gather_pieces, own_piece


def pieces(monkeypatch: pytest.MonkeyPatch, items: list[str], *, size: int) -> list[list[str]]:
    """What each of `size` processes is dealt."""
    monkeypatch.setattr(processes, "world_size", lambda: size)
    dealt = []
    for rank in range(size):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        dealt.append(list(own_piece(items)))
    return dealt


def test_neighbours_are_dealt_together(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two samples of each of four prompts: each prompt is read by one process only.
    assert pieces(monkeypatch, [*"aabbccdd"], size=2) == [[*"aabb"], [*"ccdd"]]


def test_pieces_are_nearly_equal_and_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    dealt = pieces(monkeypatch, [*"abcdefg"], size=3)
    assert [len(piece) for piece in dealt] == [2, 2, 3]
    monkeypatch.setattr(processes, "gather", lambda own: dealt)
    assert gather_pieces(dealt[0]) == [*"abcdefg"]
    assert pieces(monkeypatch, ["a"], size=3) == [[], [], ["a"]]
