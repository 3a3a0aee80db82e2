from __future__ import annotations

from hark.playground.questions import questions
from hark.playground.reading import read_response


def test_the_right_option_alone_makes_a_true_statement() -> None:
    for question in questions(60, 3):
        for place, option in enumerate(question.options):
            read = read_response(f"{question.context}{option}")
            said = [(each.kind, each.true) for each in read.readings]
            assert said == [("fact", place == question.answer)], question


def test_a_function_of_the_seed() -> None:
    assert questions(5, 1) == questions(8, 1)[:5]
    assert questions(5, 1) != questions(5, 2)
    answers = [question.answer for question in questions(400, 0)]
    assert all(60 < answers.count(place) < 140 for place in range(4))
