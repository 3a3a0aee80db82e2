"""The table of who won how often against whom."""

from __future__ import annotations

from hark.evaluation.elo import Vote
from hark.evaluation.matchups import matchups


def test_rows_win_over_columns_and_ties_are_halves() -> None:
    votes = [
        Vote(first="A", second="B", outcome="first", labeler="x", prompt="1"),
        Vote(first="B", second="A", outcome="first", labeler="y", prompt="2"),
        Vote(first="B", second="A", outcome="second", labeler="z", prompt="3"),
        Vote(first="A", second="B", outcome="tie", labeler="x", prompt="4"),
    ]
    found = {(one.row, one.column): one.rate for one in matchups(votes, ["A", "B", "C"])}
    assert len(found) == 6
    ours, theirs = found["A", "B"], found["B", "A"]
    assert (ours.wins, ours.ties, ours.losses) == (2, 1, 1)
    assert (theirs.wins, theirs.ties, theirs.losses) == (1, 1, 2)
    assert ours.estimate.value == 2.5 / 4
    assert theirs.estimate.value == 1.5 / 4
    assert ours.estimate.has_interval
    assert found["A", "C"].estimate.state == "no observations"


def test_models_default_to_those_with_votes() -> None:
    votes = [Vote(first="B", second="A", outcome="first")]
    assert [(one.row, one.column) for one in matchups(votes)] == [("A", "B"), ("B", "A")]
