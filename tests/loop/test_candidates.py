from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.serving.tiny_models import save_taught_models

from hark.data.formats import write_prompts
from hark.data.records import Prompt, ask
from hark.errors import HarkError
from hark.feedback.item_files import read_items
from hark.loop.stages import STAGES, run_stage

SENTENCES = {"old": "a small cat ran home", "new": "the big dog saw a cat"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_taught_models(directory, SENTENCES)
    prompts = [Prompt(prompt=ask(f"Hello {number}")) for number in range(8)]
    write_prompts(directory / "prompts.jsonl", prompts)
    return directory


def items(world: Path, output: Path, **values: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    given = {
        "snapshots": {name: {"model": str(world / name)} for name in SENTENCES},
        "data": [world / "prompts.jsonl"],
        "sampling": {"temperature": 0.0, "max_response_tokens": 40},
        "device": "cpu",
        "output": output,
        **values,
    }
    done = run_stage("items", STAGES["items"].settings.parse(given), command=[])
    path = done.run_path / "data" / "items.jsonl"
    read_items(path)  # As `hark feedback create` does.
    return [json.loads(line) for line in path.read_text().splitlines()], done.results


def test_both_snapshots_answer_every_prompt_in_an_order_by_lot(world: Path, tmp_path: Path) -> None:
    rows, results = items(world, tmp_path)
    assert results["items"] == len(rows) == 8
    for row in rows:
        said = {one["snapshot"]: one["text"] for one in row["candidates"]}
        assert said == SENTENCES
    first = Counter(row["candidates"][0]["snapshot"] for row in rows)
    assert set(first) == set(SENTENCES)
    again, _ = items(world, tmp_path)
    assert again == rows, "ids and draws are functions of the settings"


def test_rounds_take_the_next_prompts_and_begin_again_after_the_last(
    world: Path, tmp_path: Path
) -> None:
    def asked(**values: Any) -> list[str]:
        rows, _ = items(world, tmp_path, **values)
        return [row["task"]["prompt"][0]["content"] for row in rows]

    assert asked(start=6, limit=4) == ["Hello 6", "Hello 7", "Hello 0", "Hello 1"]
    assert asked(start=8, limit=1) == ["Hello 0"]


def test_what_nobody_could_judge_is_left_out(world: Path, tmp_path: Path) -> None:
    one = {"snapshots": {"old": {"model": str(world / "old")}}}
    with pytest.raises(HarkError, match="8 with responses that are all the same"):
        items(world, tmp_path, **one)
    with pytest.raises(HarkError, match="8 with a response that was cut off"):
        items(world, tmp_path, sampling={"temperature": 0.0, "max_response_tokens": 2})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"responses": 3}, "a vote is between 2"),
        ({"scorer": "playground"}, "scorer would be ignored"),
        ({"snapshots": {"old": {"model": "x", "best_of": 4}}}, "needs a scorer"),
        ({"snapshots": {}}, "name at least one"),
    ],
)
def test_settings_that_cannot_be_meant(
    world: Path, tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(HarkError, match=said):
        items(world, tmp_path, **values)
