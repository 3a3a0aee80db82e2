"""Label Studio's exports, in the shapes its controls write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hark.data.records import ask
from hark.feedback.imports import label_studio
from hark.feedback.imports.fields import FieldNames
from hark.feedback.imports.findings import FoundRecord, LeftOut
from hark.feedback.tasks import TaskKind

PAIR = {"prompt": "Name a fruit.", "answer1": "An apple.", "answer2": "A stone."}
LIST = {
    "prompt": "Name a fruit.",
    "replies": [
        {"id": "m1", "title": "first", "body": "An apple.", "model": "small"},
        {"id": "m2", "title": "second", "body": "A stone."},
        {"id": "m3", "title": "third", "body": "A pear."},
    ],
}
PAIRWISE = {
    "id": "x1", "from_name": "pw", "to_name": "txt-1,txt-2", "type": "pairwise",
    "value": {"selected": "right"},
}  # fmt: skip


def result(type_: str, value: dict[str, Any], name: str = "control") -> dict[str, Any]:
    return {"id": "r", "from_name": name, "to_name": "text", "type": type_, "value": value}


def annotation(*results: dict[str, Any], number: int = 7, **fields: Any) -> dict[str, Any]:
    return {
        "id": number, "completed_by": 3, "result": list(results), "was_cancelled": False,
        "ground_truth": False, "created_at": "2026-01-31T10:00:00.000000Z", "lead_time": 12.34,
        **fields,
    }  # fmt: skip


def read(
    tmp_path: Path,
    *tasks: Any,
    kind: TaskKind = "vote",
    names: FieldNames | None = None,
) -> tuple[list[FoundRecord], list[LeftOut]]:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    found = list(label_studio.read(path, kind, names or FieldNames()))
    records = [one for one in found if isinstance(one, FoundRecord)]
    return records, [one for one in found if isinstance(one, LeftOut)]


def task(data: Any, *annotations: Any, number: int = 1) -> dict[str, Any]:
    return {"id": number, "data": data, "annotations": list(annotations), "predictions": []}


def test_a_pairwise_annotation_is_a_label(tmp_path: Path) -> None:
    given = annotation(PAIRWISE, result("textarea", {"text": ["the other is no fruit"]}))
    ((record,), left_out) = read(tmp_path, task(PAIR, given))
    assert left_out == []
    assert (record.id, record.prompt) == ("1", ask("Name a fruit."))
    assert (record.responses, record.shown) == (("An apple.", "A stone."), (0, 1))
    (label,) = record.labels
    assert (label.id, label.annotator, label.ranks) == ("7", "3", (2, 1))
    assert (label.milliseconds, label.notes) == (12340, "the other is no fruit")
    assert label.written_at == "2026-01-31T10:00:00.000000Z"


@pytest.mark.parametrize(
    ("choice", "ranks", "both_bad"),
    [
        ("answer1", (1, 2), False), ("Answer 2", (2, 1), False), ("left", (1, 2), False),
        ("B", (2, 1), False), ("Tie", (1, 1), False), ("Both bad", (1, 1), True),
        ("tie (both bad)", (1, 1), True),
    ],
)  # fmt: skip
def test_choices_between_two(
    tmp_path: Path, choice: str, ranks: tuple[int, ...], both_bad: bool
) -> None:
    ((record,), _) = read(
        tmp_path, task(PAIR, annotation(result("choices", {"choices": [choice]})))
    )
    assert (record.labels[0].ranks, record.labels[0].both_bad) == (ranks, both_bad)


@pytest.mark.parametrize("ranker", [["m3", "m1", "m2"], {"rank": ["m3", "m1", "m2"], "_": []}])
def test_a_ranker_orders_the_items_of_a_list(tmp_path: Path, ranker: Any) -> None:
    rated = result("rating", {"rating": 6}, name="m3")
    given = annotation(result("ranker", {"ranker": ranker}), rated)
    ((record,), left_out) = read(tmp_path, task(LIST, given), kind="ranking")
    assert left_out == []
    assert record.responses == ("An apple.", "A stone.", "A pear.")
    assert record.models == ("small", None, None)
    assert record.labels[0].ranks == (2, 3, 1)
    assert record.labels[0].ratings == {2: 6}


def test_buckets_are_no_order(tmp_path: Path) -> None:
    buckets = {"good": ["m1", "m3"], "bad": ["m2"], "_": []}
    given = annotation(result("ranker", {"ranker": buckets}))
    ((record,), (left_out,)) = read(tmp_path, task(LIST, given), kind="ranking")
    assert record.labels == ()
    assert "type 'ranker' that cannot be expressed" in left_out.why


def test_a_text_area_is_a_demonstration(tmp_path: Path) -> None:
    given = annotation(result("textarea", {"text": ["Plums are fruits."]}))
    ((record,), left_out) = read(
        tmp_path, task({"prompt": "Name a fruit."}, given), kind="demonstration"
    )
    assert (record.labels[0].response, left_out) == ("Plums are fruits.", [])


def test_what_is_no_label_is_named(tmp_path: Path) -> None:
    records, left_out = read(
        tmp_path,
        task(
            PAIR,
            annotation(PAIRWISE, was_cancelled=True, number=1),
            annotation(number=2),
            annotation(result("rectanglelabels", {"x": 1}), number=3),
            annotation(PAIRWISE, result("number", {"number": 4}), number=4, completed_by=None),
            annotation(PAIRWISE, result("choices", {"choices": ["left"]}), number=5),
            annotation(PAIRWISE, result("number", {"number": 4}), number=6),
        ),
        task({"audio": "a.wav"}, number=2),
        "no task",
    )
    assert [label.id for label in records[0].labels] == ["6"]
    place = f"{tmp_path / 'export.json'}, record 1, task 1, annotation"
    assert [(one.where, one.why.split(";")[0]) for one in left_out[:6]] == [
        (f"{place} 1", "was skipped by its annotator (was_cancelled)"),
        (f"{place} 2", "is empty: its annotator submitted nothing"),
        (f"{place} 3", "has a result of type 'rectanglelabels' that cannot be expressed"),
        (f"{place} 4", "does not say who made it (completed_by)"),
        (f"{place} 5", "has two results that contradict each other"),
        (f"{place} 6", "has a result of type 'number' that cannot be expressed"),
    ]
    assert "has no prompt among its fields (audio)" in left_out[6].why
    assert "is a JSON string" in left_out[7].why


def test_other_exports_are_named(tmp_path: Path) -> None:
    row = {"id": 1, "prompt": "p", "annotator": 1, "annotation_id": 4, "pw": "left"}
    records, (left_out,) = read(tmp_path, row)
    assert records == []
    assert "export from Label Studio as JSON, not as JSON-MIN" in left_out.why


def test_unusual_fields_are_named_by_whoever_imports(tmp_path: Path) -> None:
    data = {"frage": "Eine Frucht?", "eins": "Apfel", "zwei": "Stein", "text1": "nothing"}
    names = FieldNames(prompt="frage", responses=("zwei", "eins"))
    ((record,), _) = read(tmp_path, task(data, annotation(PAIRWISE)), names=names)
    assert record.responses == ("Stein", "Apfel")
    _, (left_out,) = read(
        tmp_path, task(data), names=FieldNames(prompt="frage", responses=("eins", "drei"))
    )
    assert left_out.why == "has no text in its field 'drei'"


def test_annotators_may_be_objects_and_ground_truth_is_kept(tmp_path: Path) -> None:
    given = annotation(PAIRWISE, completed_by={"id": 9, "email": "a@b.c"}, ground_truth=True)
    ((record,), _) = read(tmp_path, task(PAIR, given))
    assert (record.labels[0].annotator, record.labels[0].ground_truth) == ("9", True)


def test_odd_values_are_named_and_not_fatal(tmp_path: Path) -> None:
    odd = [
        result("choices", {"choices": "A"}), result("ranker", {"ranker": {"rank": 3}}),
        result("pairwise", {"selected": None}), result("rating", {"rating": "5"}), 7,
    ]  # fmt: skip
    given = [annotation(one, number=n, lead_time=math.inf) for n, one in enumerate(odd)]
    ((record,), left_out) = read(tmp_path, task(PAIR, *given, annotation(PAIRWISE, lead_time="x")))
    assert [label.milliseconds for label in record.labels] == [None]
    assert len(left_out) == len(odd)
