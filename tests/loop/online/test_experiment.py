from __future__ import annotations

import pytest

from hark.loop.online.experiment import equal_shares, spread


def test_both_arms_have_as_many_comparisons() -> None:
    """The paper's: 44,000 of base against about 15,000 of each."""
    each = {"static": 44_000, "rejection": 54_000, "online": 22_000}
    assert equal_shares(each, base="static") == (43_998, dict.fromkeys(each, 14_666))
    few = {"static": 900, "online": 100}
    assert equal_shares(few, base="static") == (200, {"static": 100, "online": 100})


@pytest.mark.parametrize(
    ("total", "room", "parts"),
    [
        (9, [5, 5, 5], [3, 3, 3]),
        (10, [2, 9, 9], [2, 4, 4]),
        (10, [9, 0, 9], [5, 0, 5]),
        (12, [3, 4, 5], [3, 4, 5]),
        (0, [3, 4], [0, 0]),
    ],
)
def test_a_share_is_spread_as_evenly_as_there_is_room(
    total: int, room: list[int], parts: list[int]
) -> None:
    assert sorted(spread(total, room)) == sorted(parts)
    assert all(part <= most for part, most in zip(spread(total, room), room, strict=True))
    assert sum(spread(total, room)) == total
