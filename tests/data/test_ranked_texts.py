"""Votes and edits become comparisons in the stated direction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hark.data.formats import read_comparisons
from hark.data.ranked_texts import (
    AnsweredQuestion,
    Edit,
    VotedAnswer,
    binarised,
    pairs,
    question_row,
    ranked_comparisons,
    ranking,
    read_ranked,
    unbinarised,
    vote_score,
    write_ranked,
)
from hark.data.records import Comparison, ask, chosen_and_rejected
from hark.errors import DataError


@pytest.mark.parametrize(
    ("votes", "accepted", "score"),
    [
        (0, False, 0),
        (1, False, 1),  # log₂ 2
        (2, False, 2),  # log₂ 3 = 1.58
        (4, False, 2),  # log₂ 5 = 2.32
        (5, False, 3),  # log₂ 6 = 2.58
        (10, True, 4),  # log₂ 11 = 3.46, and one more
        (1000, False, 10),  # log₂ 1001 = 9.97
        (-3, False, -1),
        (-3, True, 0),
    ],
)
def test_the_score_is_the_order_of_magnitude_of_the_votes(
    votes: int, accepted: bool, score: int
) -> None:
    assert vote_score(votes, accepted=accepted) == score


def question(*votes: int) -> AnsweredQuestion:
    return AnsweredQuestion(
        prompt=ask("Why?"),
        answers=tuple(VotedAnswer(text=f"answer of {each}", votes=each) for each in votes),
    )


def test_answers_are_ranked_by_score_and_equal_scores_tie() -> None:
    found = ranking(question(3, -2, 4, 100))
    assert found is not None
    assert found.ranks == (2, 3, 2, 1)  # scores 2, −1, 2, 7
    assert [each.responses for each in pairs(found)] == [
        ("answer of 3", "answer of -2"),
        ("answer of 100", "answer of 3"),
        ("answer of 4", "answer of -2"),
        ("answer of 100", "answer of -2"),
        ("answer of 100", "answer of 4"),
    ]
    assert ranking(question(3, 4)) is None


def test_binarised_calls_the_better_good_and_the_worse_bad() -> None:
    for pair in (
        chosen_and_rejected(ask("Why?"), "A", "B"),
        Comparison(prompt=ask("Why?"), responses=("B", "A"), ranks=(2, 1)),
    ):
        of_better, of_worse = binarised(pair)
        assert (of_better.responses, of_better.ranks) == (("GOOD:A", "BAD:A"), (1, 2))
        assert (of_worse.responses, of_worse.ranks) == (("BAD:B", "GOOD:B"), (1, 2))
        assert unbinarised(of_better) == ("A", True)
        assert unbinarised(of_worse) == ("B", False)
    with pytest.raises(DataError, match="are not one text after 'GOOD:' and 'BAD:'"):
        unbinarised(chosen_and_rejected(ask("Why?"), "GOOD:A", "BAD:B"))


def test_the_restored_version_is_better_than_the_reverted_one() -> None:
    edit = Edit(prompt=ask("Moles"), restored="Moles dig.", reverted="MOLES LOL")
    (made,) = ranked_comparisons([edit])
    assert made.responses == ("Moles dig.", "MOLES LOL")
    assert made.ranks == (1, 2)
    same = Edit(prompt=ask("Moles"), restored="x", reverted="x")
    assert list(ranked_comparisons([same])) == []


def test_so_many_pairs_of_each_question() -> None:
    questions = [question(0, 1, 3, 10), question(0, 1)]
    assert [len(each.responses) for each in ranked_comparisons(questions)] == [4, 2]
    some = list(ranked_comparisons(questions, pairs_per_question=2, seed=1))
    assert len(some) == 2 + 1
    assert some == list(ranked_comparisons(questions, pairs_per_question=2, seed=1))
    assert len(list(ranked_comparisons(questions, binarise=True))) == 2 * (6 + 1)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_files_of_questions_and_edits(tmp_path: Path) -> None:
    source = write(
        tmp_path / "texts.jsonl",
        question_row(question(0, 8)),
        question_row(question(3, 3)),
        {"prompt": "Moles", "restored": "Moles dig.", "reverted": "LOL"},
    )
    assert read_ranked(str(source))[0] == question(0, 8)
    done = write_ranked(str(source), tmp_path / "pmp.jsonl", binarise=True)
    assert (done.read, done.left_out, done.written) == (3, 1, 4)
    written = read_comparisons(str(tmp_path / "pmp.jsonl"))
    assert [unbinarised(each)[1] for each in written] == [True, False, True, False]
    with pytest.raises(DataError, match="exists already"):
        write_ranked(str(source), tmp_path / "pmp.jsonl")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "Why?"}, "texts.jsonl:1: has neither 'answers' with votes"),
        ({"question": "Why?", "answers": ["a"]}, "not a list of two answers or more"),
        (
            {"question": "Why?", "answers": [{"text": "a", "votes": 1}, {"text": "b"}]},
            r"'answers\[1\].votes' is None, not a whole number",
        ),
        ({"prompt": "Moles", "restored": "x"}, "has no 'reverted'"),
        (question_row(question(3, 3)), "none of 1 questions has answers of different scores"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, row: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        write_ranked(str(write(tmp_path / "texts.jsonl", row)), tmp_path / "pmp.jsonl")
