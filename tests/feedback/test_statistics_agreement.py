"""Who agrees with whom, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hark.feedback.gold import Gold
from hark.feedback.statistics_agreement import (
    Opinion,
    against,
    among,
    gold_mark,
    gold_opinions,
    model_agreement,
    opinions,
    with_others,
)
from hark.feedback.statistics_columns import Columns, answers_of
from hark.feedback.statistics_labels import Label


def label(author: str, kind: str, answer: dict[str, Any], **fields: Any) -> Label:
    values: dict[str, Any] = {
        "id": "e",
        "kind": kind,
        "author": author,
        "item_id": "i",
        "assignment_id": "a",
        "created_at": 0.0,
        "use": "train",
        "late": False,
        "answer": answer,
        "candidate_ids": ("x", "y"),
        "snapshots": ("m", "n"),
        "display_order": (0, 1),
        "ranks": None,
        "phase": "",
        "seconds": None,
        "read_characters": 0,
        "written_characters": 0,
        "pasted_characters": 0,
    }
    return Label(**{**values, **fields})


def vote(author: str, item: str, sign: int, **fields: Any) -> Label:
    """1: the first of the item is better; 0: a tie; −1: the second."""
    ranks = {1: (1, 2), 0: (1, 1), -1: (2, 1)}[sign]
    chosen = {1: "x", 0: None, -1: "y"}[sign]
    return label(author, "vote", {"chosen": chosen}, item_id=item, ranks=ranks, **fields)


def test_votes_are_compared_item_by_item() -> None:
    # Items 1 and 2 agree, item 3 does not, item 4 has one vote and is left out.
    labels = [
        vote("a", "1", 1), vote("b", "1", 1), vote("a", "2", -1), vote("b", "2", -1),
        vote("a", "3", 1), vote("b", "3", -1), vote("a", "4", 1),
    ]  # fmt: skip
    (found,) = among(Columns.of(labels).answers(np.ones(len(labels), bool)), between="labelers")
    assert (found.question, found.level) == ("preference", "nominal")
    assert found.percent.value == pytest.approx(2 / 3)
    # Values 1 three times, −1 three times: D_e = 2·3·3/(6·5) = 0.6; D_o = 2/6; α = 1 − 0.5556.
    assert found.alpha.value == pytest.approx(1 - (1 / 3) / 0.6)
    assert found.alpha.units == 3


def test_one_answer_each_is_undefined_with_its_reason() -> None:
    (found,) = among(
        answers_of(opinions([vote("a", "1", 1), vote("b", "2", 1)])), between="labelers"
    )
    assert found.percent.value is None
    assert found.alpha.state == "nothing to compare"


def test_a_ranking_is_a_preference_a_scale_and_flags() -> None:
    answer = {
        "ranking": [["x"], ["y"]],
        "likert": {"x": 7, "y": 2},
        "flags": {"x": {"harmful_advice": False}, "y": {"harmful_advice": True}},
    }
    assert opinions([label("a", "ranking", answer, ranks=(1, 2))]) == [
        Opinion("preference", "nominal", ("i", 0, 1), "a", 1.0),
        Opinion("overall quality, 1 to 7", "ordinal", ("i", 0), "a", 7.0),
        Opinion("overall quality, 1 to 7", "ordinal", ("i", 1), "a", 2.0),
        Opinion("flag: harmful advice", "nominal", ("i", 0), "a", 0.0),
        Opinion("flag: harmful advice", "nominal", ("i", 1), "a", 1.0),
    ]


def test_the_nine_points_of_a_summary_have_a_sign() -> None:
    answer = {"chosen": "y", "strength": 3, "axes": {"x": {"coverage": 4}, "y": {"coverage": 6}}}
    said = opinions([label("a", "summary", answer, ranks=(2, 1))])
    assert Opinion("confidence, 9 points", "ordinal", "i", "a", -3.0) in said
    assert Opinion("coverage, 1 to 7", "ordinal", ("i", 1), "a", 6.0) in said


def test_reviews_audits_and_answers_are_questions_of_their_own() -> None:
    review = label("a", "review", {"success": 3})
    audit = label("a", "audit", {"matching": None, "relevance": 5})
    answered = label("a", "qa_answer", {"choice": 2}, phase="alone")
    late = label("a", "qa_answer", {"choice": None}, phase="assisted")
    said = {(one.question, one.value) for one in opinions([review, audit, answered, late])}
    assert said == {
        ("success of the attack, 0 to 4", 3.0),
        ("harmful (3 or more)", 1.0),
        ("which answer matches", -1.0),
        ("relevance, 1 to 5", 5.0),
        ("answer (alone)", 2.0),
    }


def test_live_dialogues_have_nothing_in_common() -> None:
    assert opinions([label("a", "comparison", {"chosen": "x"}, ranks=(1, 2))]) == []


def test_labelers_are_held_against_what_most_researchers_say() -> None:
    ours = opinions([vote("a", "1", 1), vote("a", "2", 1), vote("a", "3", 1)])
    theirs = opinions(
        [
            vote("r", "1", 1), vote("s", "1", 1), vote("t", "1", -1),  # most say 1
            vote("r", "2", -1),
            vote("r", "3", 1), vote("s", "3", -1),  # no most
        ]
    )  # fmt: skip
    (found,) = against(answers_of(ours), answers_of(theirs), between="labelers and researchers")
    assert found.percent.value == 0.5
    assert found.percent.units == 2


def test_a_preference_model_is_held_against_choices_and_never_ties() -> None:
    labels = [vote("a", "1", 1), vote("b", "1", -1), vote("c", "1", 0)]
    assert [one.ranks for one in labels] == [(1, 2), (2, 1), (1, 1)]
    found = model_agreement("pm", np.array([1, -1, 0]), np.array([[2.0, 1.0]] * 3))
    assert found.between == "labelers and pm"
    assert found.percent.value == 0.5
    assert found.percent.units == 2


def test_a_model_that_says_nothing_of_these_candidates_is_undefined() -> None:
    found = model_agreement("pm", np.array([1]), np.array([[2.0, np.nan]]))
    assert found.percent.state == "nothing to compare"


def test_a_labeler_is_the_same_as_others_in_a_share_of_pairs() -> None:
    labels = [
        vote("a", "1", 1), vote("b", "1", 1), vote("c", "1", -1),
        vote("a", "2", 0), vote("b", "2", 0), vote("d", "3", 1),
    ]  # fmt: skip
    columns = Columns.of(labels)
    (said,) = columns.answers(np.ones(len(labels), bool))
    found = with_others(said, columns.authors)
    assert found["a"].value == pytest.approx(2 / 3)  # b yes, c no; b yes
    assert found["c"].value == 0.0
    assert found["d"].value is None
    assert found["d"].state == "nothing to compare"


def test_gold_is_marked_with_a_tie_as_one_half() -> None:
    known = {"1": ("gold", Gold(chosen="0")), "2": ("screening", Gold(chosen="0"))}
    labels = [vote("a", "1", 1), vote("b", "1", 0), vote("c", "1", -1), vote("a", "2", 1)]
    assert [gold_mark(one, Gold(chosen="0")) for one in labels[:3]] == [1.0, 0.5, 0.0]
    marks = Columns.of(labels, known).marks
    assert (marks["row"].tolist(), marks["value"].tolist()) == ([0, 1, 2], [1.0, 0.5, 0.0])


def test_known_answers_of_a_screening_test_count_as_a_researcher() -> None:
    known = {
        "1": ("screening", Gold(chosen="1")),
        "2": ("screening", Gold(ranking=(("2",), ("0", "1")))),
        "3": ("gold", Gold(chosen="0")),
    }
    assert gold_opinions(known, use="screening") == [
        Opinion("preference", "nominal", ("1", 0, 1), "gold", -1.0),
        Opinion("preference", "nominal", ("2", 0, 2), "gold", -1.0),
        Opinion("preference", "nominal", ("2", 1, 2), "gold", -1.0),
    ]
