"""Argilla's records, as its SDK writes them and as its server answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hark.data.records import Message
from hark.feedback.imports import argilla
from hark.feedback.imports.fields import FieldNames
from hark.feedback.imports.findings import FoundRecord, LeftOut, Remark
from hark.feedback.tasks import TaskKind

FIELDS = {"prompt": "Name a fruit.", "response_1": "Apple", "response_2": "Stone"}
THREE = {**FIELDS, "response_3": "Pear"}
RANKING = [
    {"value": "response-3", "rank": 1}, {"value": "response-1", "rank": 1},
    {"value": "response-2", "rank": 3},
]  # fmt: skip


def by_sdk(fields: Any, **responses: Any) -> dict[str, Any]:
    return {
        "id": "r1", "fields": fields, "metadata": {}, "suggestions": {}, "responses": responses,
        "vectors": {}, "_server_id": "5c1e",
    }  # fmt: skip


def by_server(fields: Any, *responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "5c1e", "external_id": "r1", "status": "completed", "fields": fields,
        "metadata": {}, "responses": list(responses),
    }  # fmt: skip


def said(user: str, status: str = "submitted", **values: Any) -> dict[str, Any]:
    return {
        "id": f"response of {user}", "user_id": user, "status": status,
        "values": {name: {"value": value} for name, value in values.items()},
        "inserted_at": "2026-01-31T10:00:00", "updated_at": "2026-01-31T10:05:00",
    }  # fmt: skip


def read(
    tmp_path: Path, given: Any, kind: TaskKind = "vote"
) -> tuple[list[FoundRecord], list[LeftOut], list[Remark]]:
    path = tmp_path / "records.json"
    path.write_text(json.dumps(given))
    found = list(argilla.read(path, kind, FieldNames()))
    return (
        [one for one in found if isinstance(one, FoundRecord)],
        [one for one in found if isinstance(one, LeftOut)],
        [one for one in found if isinstance(one, Remark)],
    )


def test_a_ranking_keeps_its_ties(tmp_path: Path) -> None:
    page = {"items": [by_server(THREE, said("u1", order=RANKING))], "total": 1}
    (record,), left_out, remarks = read(tmp_path, page, "ranking")
    assert (left_out, remarks) == ([], [])
    assert (record.id, record.responses) == ("r1", ("Apple", "Stone", "Pear"))
    (label,) = record.labels
    assert (label.annotator, label.ranks) == ("u1", (1, 2, 1))
    assert label.written_at == "2026-01-31T10:05:00"


def test_drafts_and_discarded_responses_are_named(tmp_path: Path) -> None:
    record = by_server(
        THREE,
        said("u1", "draft", order=RANKING),
        said("u2", "discarded"),
        said("u3", order=RANKING),
    )
    (found,), left_out, _ = read(tmp_path, [record], "ranking")
    assert [label.annotator for label in found.labels] == ["u3"]
    assert [one.why for one in left_out] == [
        "is draft, not submitted", "is discarded, not submitted",
    ]  # fmt: skip
    assert left_out[0].where.endswith("records.json, record 1, record r1, user u1")


def test_the_sdk_tells_neither_status_nor_ties(tmp_path: Path) -> None:
    record = by_sdk(
        THREE,
        order=[{"value": ["response_3", "response_1", "response_2"], "user_id": "u1"}],
        why=[{"value": "sweet", "user_id": "u1"}],
    )
    (found,), left_out, remarks = read(tmp_path, [record], "ranking")
    assert left_out == []
    assert found.labels[0].ranks == (2, 3, 1)
    assert found.labels[0].notes == "sweet"
    assert [one.what for one in remarks] == [argilla.WITHOUT_STATUS, argilla.WITHOUT_RANKS]


def test_a_table_has_ranks_in_columns_and_a_status(tmp_path: Path) -> None:
    value = {"rank": [2, 1], "value": ["response_1", "response_2"]}
    answers = [
        {"user_id": "u1", "value": value, "status": "submitted"},
        {"user_id": "u2", "value": value, "status": "discarded"},
    ]
    (found,), left_out, remarks = read(tmp_path, [by_sdk(FIELDS, order=answers)])
    assert ([label.ranks for label in found.labels], remarks) == ([(2, 1)], [])
    assert [one.why for one in left_out] == ["is discarded, not submitted"]


@pytest.mark.parametrize(
    ("value", "ranks"), [("response_2", (2, 1)), ("tie", (1, 1)), ("first", (1, 2))]
)
def test_a_label_question_between_two_is_a_vote(
    tmp_path: Path, value: str, ranks: tuple[int, ...]
) -> None:
    (found,), _, _ = read(tmp_path, [by_server(FIELDS, said("u1", better=value))])
    assert found.labels[0].ranks == ranks


def test_ratings_belong_to_the_response_they_are_named_after(tmp_path: Path) -> None:
    record = by_server(THREE, said("u1", order=RANKING, response_1_rating=5, overall=3))
    (found,), (left_out,), _ = read(tmp_path, [record], "ranking")
    assert found.labels[0].ratings == {0: 5}
    assert left_out.why == "has an answer to 'overall' that cannot be expressed"


def test_ratings_alone_are_no_preference(tmp_path: Path) -> None:
    record = by_server(FIELDS, said("u1", response_1_rating=5, response_2_rating=2))
    (found,), (left_out,), _ = read(tmp_path, [record], "ranking")
    assert found.labels == ()
    assert left_out.why == "does not say which response is better"


def test_a_ranking_of_others_is_named(tmp_path: Path) -> None:
    wrong = [{"value": "response_1", "rank": 1}, {"value": "response_9", "rank": 2}]
    (found,), (left_out,), _ = read(tmp_path, [by_server(FIELDS, said("u1", order=wrong))])
    assert found.labels == ()
    assert "answer to 'order' that cannot be expressed" in left_out.why


def test_a_text_is_a_demonstration_and_a_chat_a_prompt(tmp_path: Path) -> None:
    chat = [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Name a fruit."},
    ]  # fmt: skip
    record = by_server({"chat": chat}, said("u1", answer="Plum."))
    (found,), left_out, _ = read(tmp_path, [record], "demonstration")
    assert found.prompt[1] == Message("assistant", "Hello")
    assert (found.labels[0].response, left_out) == ("Plum.", [])


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    records, left_out, _ = read(
        tmp_path, [{"text": "x"}, by_sdk({"prompt": "p", "response_1": "a"})]
    )
    assert records == []
    assert "export from Argilla 2 as JSON" in left_out[0].why
    assert "fewer than two responses" in left_out[1].why


@pytest.mark.parametrize("responses", [["x"], {"order": "x"}, 3, [{"user_id": "u", "values": 4}]])
def test_responses_of_another_form_are_named(tmp_path: Path, responses: Any) -> None:
    record = {"id": "r1", "fields": FIELDS, "responses": responses}
    records, (left_out,), _ = read(tmp_path, [record])
    assert records == []
    assert left_out.why == "has responses in a form that is not Argilla's"
