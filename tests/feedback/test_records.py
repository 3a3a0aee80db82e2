"""What is said of a record that cannot be read: the field, and the one that was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from hark.errors import DataError
from hark.feedback.item_files import read_items
from hark.feedback.items import NewItem
from hark.feedback.refusals import InvalidLabelError
from hark.settings import describe_validation_error

VOTE: dict[str, Any] = {"kind": "vote", "prompt": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"task": VOTE, "candiates": []}, "unknown field 'candiates' (did you mean 'candidates'?)"),
        ({"task": VOTE | {"promt": []}}, "'task.vote': unknown field 'promt' (did you mean 'prom"),
        ({"task": VOTE | {"kind": "vot"}}, "'task': unknown kind 'vot' (did you mean 'vote'?); ex"),
        ({"task": {}}, "'task': 'kind' is required: it says which kind this is"),
        ({"task": VOTE, "use": "tain"}, "'use': Input should be 'train', 'test', 'gold' or 'scree"),
        ({"task": VOTE, "use": "tain"}, "'screening' (did you mean 'train'?) (got 'tain')"),
        ({"task": VOTE, "\ud800": 1}, "unknown field '?'; expected: task, candidates,"),
        ({"use": "test"}, "'task' is required"),
    ],
)
def test_the_field_is_named_with_the_one_that_was_meant(item: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidLabelError) as caught:
        NewItem.read(item, what="items.jsonl:3")
    assert str(caught.value).startswith("items.jsonl:3: ")
    assert message in str(caught.value)
    assert "Extra inputs" not in str(caught.value)


def test_a_file_of_items_says_where(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"task": {"kind": "vote", "prompts": []}}\n')
    with pytest.raises(DataError, match=r"items\.jsonl:1: .*'prompts' \(did you mean 'prompt'\?\)"):
        read_items(path)


def test_json_that_is_read_at_once_is_refused_in_the_same_words() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[NewItem]).validate_json('[{"tasks": {}}]')
    said = describe_validation_error(caught.value, where="the items")
    assert "'0': unknown field 'tasks' (did you mean 'task'?)" in said
