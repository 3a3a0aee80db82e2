"""Ratings on the page: what is said of them, and that what is drawn is there."""

from __future__ import annotations

from typing import Any

import pytest

from hark.evaluation.elo import Vote, rate
from hark.evaluation.intervals import Estimate
from hark.evaluation.matchups import matchups
from hark.evaluation.score_elo import score_elo
from hark.report.page import render
from hark.report.ratings import JudgedModels, critical_residual, matrix_rows, transitivity
from hark.report.run_pages import report_for_runs


def cast(wins: dict[tuple[str, str], int], losses: int = 2) -> list[Vote]:
    return [
        Vote(first=first, second=second, outcome=outcome, labeler=str(labeler))  # type: ignore[arg-type]
        for (one, other), count in wins.items()
        for labeler in range(12)
        for first, second, won, lost in ((one, other, "first", "second"),
                                         (other, one, "second", "first"))
        for outcome in [won] * (count + labeler % 2) + [lost] * losses
    ]  # fmt: skip


ORDERED = {("C", "B"): 3, ("B", "A"): 3, ("C", "A"): 5}
CIRCLE = {("C", "B"): 8, ("B", "A"): 8, ("A", "C"): 8}


def judged(name: str, votes: list[Vote], **more: Any) -> dict[str, Any]:
    ratings = rate(votes, anchor="A", ties="half")
    table = matchups(votes, ratings=ratings, resamples=50)
    return {
        "judge": name, **ratings.to_json(), "matchups": [one.to_json() for one in table], **more,
    }  # fmt: skip


def test_a_circle_is_marked_and_an_order_is_not() -> None:
    ordered = JudgedModels.read(judged("crowd", cast(ORDERED)))
    assert transitivity(ordered) == "By crowd, all pairs fare as the ratings predict, up to chance"
    circle = JudgedModels.read(judged("crowd", cast(CIRCLE)))
    assert "more than the ratings predict" in transitivity(circle)
    assert critical_residual(circle) > 2.4  # 5 % shared by three pairs


def test_the_matrix_in_words_has_each_pair_once() -> None:
    rows = dict(matrix_rows(JudgedModels.read(judged("crowd", cast(ORDERED)))))
    assert set(rows) == {"C against B", "C against A", "B against A"}
    assert rows["C against A"].startswith("73.3 % (")
    assert "of 180, 0 ties; predicted" in rows["C against A"]


def test_a_tournament_is_reported_with_its_primary_comparison_first(make_run: Any) -> None:
    primary = {
        "model": "C", "against": "B", "wins": 1, "ties": 0, "losses": 0,
        "estimate": Estimate(value=0.6, low=0.5, high=0.7, n=9, clusters=3).to_json(),
        "finding": "C is preferred to B: 60 % (50 to 70 %).",
    }  # fmt: skip
    predicted = score_elo({"A": [0.0, 0.1], "B": [1.0, 1.2], "C": [3.0, 2.5]}, [0, 1], anchor="A")
    results = {
        "prompts": 2,
        "judges": [
            judged("crowd", cast(ORDERED), primary=primary), judged("gold", cast(CIRCLE)),
        ],
        "predictions": [
            {"preference_model": "PM", "ratings": [one.to_json() for one in predicted]},
        ],
        "over_estimates": {"PM": {}},
    }  # fmt: skip
    report = report_for_runs([make_run("1-t", stage="tournament", results=results)])
    assert report.summary[0] == "crowd: C is preferred to B: 60 % (50 to 70 %)."
    assert report.summary[1].startswith("crowd ranks C highest, ")
    assert [figure.name for figure in report.figures] == [
        "elo", "matrix-0", "matrix-1", "predicted-PM",
    ]  # fmt: skip
    assert report.figures[-1].title.startswith("PM promises C ")
    assert [facts.title for facts in report.facts] == [
        "tournament", "tournament, crowd: pairs", "tournament, gold: pairs",
    ]  # fmt: skip
    assert "C against A" in render(report)


@pytest.mark.parametrize("votes", [[], [Vote(first="A", second="B", outcome="first")]])
def test_little_is_shown_without_a_failure(make_run: Any, votes: list[Vote]) -> None:
    ratings = rate(votes, models=["A", "B"])
    values = {"judge": "votes", **ratings.to_json(), "matchups": []}
    report = report_for_runs([make_run("1-r", stage="rate", results={"judges": [values]})])
    assert [figure.name for figure in report.figures] == ["elo", "matrix-0"]
    assert render(report)
