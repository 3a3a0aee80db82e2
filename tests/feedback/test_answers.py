"""What a label of each kind must hold, and what makes it none."""

from __future__ import annotations

from typing import Any

import pytest

from hark.feedback.answers import ANSWERS, read_answer
from hark.feedback.events import LABELS
from hark.feedback.gold import Gold, score
from hark.feedback.items import NewItem
from hark.feedback.records import Candidate
from hark.feedback.refusals import InvalidLabelError
from hark.feedback.tasks import HARM_TAGS, RANKING_FLAGS, SUMMARY_AXES, TASK

USER = [{"role": "user", "content": "hi"}]
TASKS: dict[str, dict[str, Any]] = {
    "dialogue": {"kind": "dialogue"},
    "redteam": {"kind": "dialogue", "mode": "redteam"},
    "ranking": {"kind": "ranking", "prompt": USER},
    "demonstration": {"kind": "demonstration", "prompt": USER},
    "few_shot": {"kind": "demonstration", "style": "few_shot"},
    "draft": {"kind": "demonstration", "prompt": USER, "draft": "Hi"},
    "summary": {"kind": "summary", "post": "A long post."},
    "axes": {"kind": "summary", "asks": "axes", "post": "A long post."},
    "vote": {"kind": "vote", "prompt": USER},
    "review": {"kind": "review", "transcript": USER * 2},
    "audit": {"kind": "audit", "behaviour": "b", "question": "q", "answers": ["Yes", "No"]},
    "question": {"kind": "question", "question": "q", "options": ["x", "y"], "answer": 1},
}
NO_FLAGS = dict.fromkeys(RANKING_FLAGS, False)
RANKING = {
    "likert": {"a": 7, "b": 1, "c": 4, "d": 4},
    "flags": dict.fromkeys("abcd", NO_FLAGS),
    "ranking": [["a"], ["c", "d"], ["b"]],
}
RATINGS = dict.fromkeys(SUMMARY_AXES, 5)
SUMMARY = {
    "chosen": "a",
    "strength": 4,
}
GOOD: list[tuple[str, str, str, dict[str, Any]]] = [
    ("dialogue", "comparison", "ab", {"chosen": "b", "strength": 4}),
    ("redteam", "description", "", {"text": "get a recipe"}),
    ("redteam", "redteam", "", {"success": 0}),
    ("ranking", "ranking", "abcd", RANKING),
    ("demonstration", "demonstration", "", {"response": "Hello"}),
    (
        "few_shot",
        "demonstration",
        "",
        {
            "response": "z",
            "prompt": "p",
            "examples": [{"query": "q", "response": "r"}],
            "query": "y",
        },
    ),
    ("draft", "edit", "", {"response": "Hi!"}),
    ("summary", "notes", "ab", {"notes": {"a": "dogs", "b": "cats"}}),
    ("summary", "summary", "ab", SUMMARY),
    ("summary", "summary", "ab", {**SUMMARY, "axes": dict.fromkeys("ab", RATINGS)}),
    ("axes", "axes", "a", {"ratings": RATINGS}),
    ("summary", "summary", "ab", {**SUMMARY, "chosen": None, "strength": 0}),
    ("vote", "vote", "ab", {"chosen": None, "both_bad": True}),
    ("review", "review", "", {"success": 3, "tags": ["fraud"], "agrees": True}),
    ("audit", "audit", "", {"matching": 0, "relevance": 5}),
    ("question", "qa_answer", "", {"choice": 1, "confidence": 42}),
    ("question", "message", "", {"text": "Why?"}),
    ("question", "reset", "", {}),
]
BAD: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("dialogue", "comparison", "ab", {"chosen": "z", "strength": 1}, "'z' is none of those shown"),
    ("dialogue", "comparison", "ab", {"chosen": "a", "strength": 5}, "'strength'.*got 5"),
    ("dialogue", "comparison", "ab", {"chosen": "a", "strength": True}, "'strength'.*got True"),
    ("dialogue", "comparison", "ab", {"chosen": "a", "strength": 1.0}, "'strength'"),
    ("dialogue", "comparison", "ab", {"strength": 1}, "'chosen' is required"),
    ("dialogue", "comparison", "ab", {"chosen": "a", "strength": 1, "x": 0}, "unknown field 'x'"),
    ("redteam", "redteam", "", {"success": 5}, "'success'"),
    ("redteam", "description", "", {"text": "  "}, "is blank"),
    (
        "ranking",
        "ranking",
        "abcd",
        {**RANKING, "ranking": [["a"], ["b"], ["c"]]},
        "rank is missing",
    ),
    ("ranking", "ranking", "abcd", {**RANKING, "ranking": [list("abcd"), ["a"]]}, "ranked twice"),
    ("ranking", "ranking", "abcd", {**RANKING, "ranking": [list("abcd"), []]}, "group.*is empty"),
    ("ranking", "ranking", "abcd", {**RANKING, "likert": {"a": 7}}, "rating is missing for 'b'"),
    (
        "ranking",
        "ranking",
        "abcd",
        {**RANKING, "flags": {n: {} for n in "abcd"}},
        "flag is missing",
    ),
    (
        "ranking",
        "ranking",
        "abcd",
        {**RANKING, "flags": {name: {**NO_FLAGS, "rude": True} for name in "abcd"}},
        "a flag is given for 'rude'",
    ),
    ("demonstration", "demonstration", "", {"response": " \n"}, "is blank"),
    ("demonstration", "demonstration", "", {"response": "a\0b"}, "NUL"),
    ("demonstration", "demonstration", "", {"response": "\ud800"}, "'response'"),
    ("demonstration", "demonstration", "", {"response": "x" * 100_001}, "at most 100000"),
    ("demonstration", "demonstration", "", {"response": "x", "prompt": "p"}, "prompt is given"),
    ("few_shot", "demonstration", "", {"response": "x", "prompt": "p"}, "1 or more examples"),
    ("few_shot", "demonstration", "", {"response": "x"}, "needs a prompt of yours"),
    (
        "few_shot",
        "demonstration",
        "",
        {"response": "x", "prompt": "p", "examples": [{"query": "q", "response": "r"}]},
        "needs the query",
    ),
    ("demonstration", "demonstration", "", {"response": "x", "query": "q"}, "a query of its own"),
    ("summary", "notes", "ab", {"notes": {"a": "dogs"}}, "note is missing for 'b'"),
    ("summary", "summary", "ab", {**SUMMARY, "strength": 0}, "the middle of the scale"),
    ("summary", "summary", "ab", {**SUMMARY, "chosen": None}, "the middle of the scale"),
    ("summary", "summary", "ab", {**SUMMARY, "axes": {"b": RATINGS}}, "ratings is missing for 'a'"),
    ("axes", "axes", "a", {"ratings": {**RATINGS, "overall": 8}}, "ratings.overall"),
    ("axes", "axes", "a", {"ratings": {}}, "rating is missing for 'overall'"),
    ("axes", "axes", "a", {"ratings": {**RATINGS, "style": 2}}, "'style', which is none of"),
    ("vote", "vote", "ab", {"chosen": "a", "both_bad": True}, "said of a tie"),
    ("review", "review", "", {"success": 3, "tags": ["frod"]}, "did you mean 'fraud'"),
    ("review", "review", "", {"success": 3, "tags": list(HARM_TAGS[:3])}, "3 tags; give up to 2"),
    ("review", "review", "", {"success": 3, "tags": ["fraud"] * 2}, "2 tags"),
    ("audit", "audit", "", {"matching": 2, "relevance": 5}, "'matching'"),
    ("question", "qa_answer", "", {"choice": 2, "confidence": 42}, "option 2 is none of 2"),
    ("question", "qa_answer", "", {"choice": 1, "confidence": 50}, "'confidence'"),
    ("question", "qa_answer", "", {"choice": None, "confidence": 42}, "choose an option"),
    ("vote", "votes", "ab", {"chosen": "a"}, "did you mean 'vote'"),
]


def read(task: str, kind: str, ids: str, answer: dict[str, Any], **options: Any) -> Any:
    shown = [Candidate(id=name, text=f"response {name}") for name in ids]
    return read_answer(kind, answer, TASK.validate_python(TASKS[task]), shown, **options)


@pytest.mark.parametrize(("task", "kind", "ids", "answer"), GOOD)
def test_a_complete_answer_is_read_and_written_back(
    task: str, kind: str, ids: str, answer: dict[str, Any]
) -> None:
    written = read(task, kind, ids, answer).to_json()
    assert {name: written[name] for name in answer} == answer
    assert read(task, kind, ids, written).to_json() == written


@pytest.mark.parametrize(("task", "kind", "ids", "answer", "message"), BAD)
def test_an_answer_that_is_none_says_why(
    task: str, kind: str, ids: str, answer: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidLabelError, match=message):
        read(task, kind, ids, answer)


def test_an_error_does_not_repeat_a_book() -> None:
    with pytest.raises(InvalidLabelError) as caught:
        read("demonstration", "demonstration", "", {"response": "x" * 1_000_000})
    assert len(str(caught.value)) < 700


def test_nothing_is_said_of_a_broken_response() -> None:
    shown = [Candidate(id="a", text="ok"), Candidate(id="b", text="cut", finish="length")]
    with pytest.raises(InvalidLabelError, match="'b' is cut off or failed"):
        read_answer("vote", {"chosen": "a"}, TASK.validate_python(TASKS["vote"]), shown)


def test_time_that_ran_out_needs_no_choice() -> None:
    answer = {"choice": None, "confidence": None}
    assert read("question", "qa_answer", "", answer, time_is_over=True).choice is None


def test_every_label_has_its_record() -> None:
    assert set(ANSWERS) == LABELS | {"message", "reset"}
    assert {kind for _, kind, _, _ in GOOD} == set(ANSWERS)


# Tasks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"kind": "chat"}, "chat"),
        ({"kind": "vote", "prompt": []}, "'task.vote.prompt'"),
        ({"kind": "demonstration"}, "if, and only if, its style is 'given'"),
        ({"kind": "demonstration", "style": "use_case"}, "a use case belongs"),
        ({"kind": "demonstration", "style": "plain", "draft": "x"}, "a draft answers a prompt"),
        ({**TASKS["question"], "answer": 2}, "answer 2 is none of 2 options"),
        ({**TASKS["question"], "phases": ["assisted", "alone"]}, "in this order"),
        ({**TASKS["vote"], "colour": "red"}, "colour"),
    ],
)
def test_malformed_tasks_are_refused(task: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidLabelError, match=f"items.jsonl:3: .*{message}"):
        NewItem.read({"task": task}, what="items.jsonl:3")


def test_the_steps_of_each_task() -> None:
    """Events in order → what may follow; an empty set is the end."""
    redteam = TASK.validate_python({**TASKS["redteam"], "maximum_turns": 2})
    said = ["description", "message", "comparison"]
    assert redteam.next_steps([]) == {"description"}
    assert redteam.next_steps(said[:1]) == {"message"}
    assert redteam.next_steps(said[:2]) == {"comparison"}
    assert redteam.next_steps(said) == {"message", "redteam"}
    assert redteam.next_steps([*said, "message", "comparison"]) == {"redteam"}
    assert redteam.next_steps([*said, "redteam"]) == frozenset()
    assert not redteam.may_finish(said)
    helpful = TASK.validate_python({**TASKS["dialogue"], "maximum_turns": 1})
    assert helpful.next_steps([]) == {"message"}
    assert not helpful.may_finish([])
    assert not helpful.may_finish(["message"])
    assert helpful.may_finish(["message", "comparison"])
    assert helpful.next_steps(["message", "comparison"]) == frozenset()
    question = TASK.validate_python(TASKS["question"])
    assert question.next_steps([]) == {"qa_answer"}
    assert question.next_steps(["qa_answer"]) == {"qa_answer", "message", "reset"}
    assert question.next_steps(["qa_answer", "message", "qa_answer"]) == frozenset()


def test_what_a_labeler_may_see_comes_with_the_steps() -> None:
    summary = TASK.validate_python({**TASKS["summary"], "title": "T"})
    assert not {"post", "title", "community"} & summary.shown([]).keys()
    assert summary.shown(["notes"])["post"] == "A long post."
    question = TASK.validate_python(TASKS["question"])
    assert "answer" not in question.shown([])
    assert "answer" not in question.shown(["qa_answer"])
    assert question.shown(["qa_answer", "qa_answer"])["answer"] == 1
    silent = TASK.validate_python({**TASKS["question"], "reveals": False})
    assert "answer" not in silent.shown(["qa_answer", "qa_answer"])


# Gold --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "answer", "preference", "flags"),
    [
        ({"chosen": "1"}, {"chosen": "b"}, 1.0, None),
        ({"chosen": "1"}, {"chosen": "a"}, 0.0, None),
        ({"chosen": "1"}, {"chosen": None}, 0.5, None),
        # Gold a > b > c; ours is a > (b, c): ab 1, ac 1, bc ½.
        ({"ranking": [["0"], ["1"], ["2"]]}, {"ranking": [["a"], ["b", "c"]]}, 2.5 / 3, None),
        # Ties of gold say nothing: of (a, b) > c only ac and bc count; ours is a > c > b.
        ({"ranking": [["0", "1"], ["2"]]}, {"ranking": [["a"], ["c"], ["b"]]}, 0.5, None),
        ({"choice": 1}, {"choice": 1}, 1.0, None),
        ({"choice": 1}, {"choice": None}, 0.0, None),
        # Both on the harmful side of 3, or not.
        ({"success": 4}, {"success": 3}, 1.0, None),
        ({"success": 4}, {"success": 2}, 0.0, None),
        (
            {"flags": {"0": {"rude": True, "false": False}}},
            {"flags": {"a": {"rude": True, "false": True}, "b": {"rude": True}}},
            None,
            0.5,
        ),
    ],
)
def test_gold_scores_worked_by_hand(
    gold: dict[str, Any], answer: dict[str, Any], preference: float | None, flags: float | None
) -> None:
    got = score(answer, Gold.model_validate(gold), ["a", "b", "c"])
    assert got.preference == (None if preference is None else pytest.approx(preference))
    assert got.flags == flags
