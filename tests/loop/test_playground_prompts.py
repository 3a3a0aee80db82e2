from __future__ import annotations

from pathlib import Path

import pytest

from hark.data.formats import read_prompts, write_prompts
from hark.data.records import Message, Prompt, ask
from hark.errors import HarkError
from hark.loop.playground_prompts import PlaygroundPromptsSettings
from hark.loop.stages import run_stage

LONG = "Make this shorter: The old and tired baker sleeps quietly in the kitchen."
PLAIN = "What is the capital of Peru?"


def parted(
    tmp_path: Path, prompts: list[Prompt], family: str
) -> tuple[dict[str, int], dict[str, list[Prompt]]]:
    """Results, and the records of each file by its name."""
    data = tmp_path / "prompts.jsonl"
    write_prompts(data, prompts)
    settings = PlaygroundPromptsSettings.parse(
        {"data": [data], "family": family, "output": tmp_path / "runs"}
    )
    done = run_stage("playground-prompts", settings, command=[])
    files = (done.run_path / "data").glob("*.jsonl")
    return done.results, {file.stem: list(read_prompts([file])) for file in files}


def test_every_record_is_unchanged_in_one_of_two_files(tmp_path: Path) -> None:
    turned = (*ask(PLAIN), Message("assistant", "Lima."), *ask(LONG))
    turned_away = (*ask(LONG), Message("assistant", "The baker sleeps."), *ask(PLAIN))
    prompts = [
        Prompt(prompt=ask(PLAIN), user="user-1", source="playground", id="a"),
        Prompt(prompt=ask(f"Hello! {LONG} Thank you."), user="user-2", id="b"),
        Prompt(prompt=turned_away, id="c"),
        Prompt(prompt=ask("What nobody of the world would ask"), id="d"),
        Prompt(prompt=turned, source="elsewhere", id="e"),
    ]
    counts, files = parted(tmp_path, prompts, "shorter")
    assert files == {
        "prompts-shorter": [prompts[1], prompts[4]],
        "prompts-not-shorter": [prompts[0], prompts[2], prompts[3]],
    }
    assert counts == {"prompts-shorter": 2, "prompts-not-shorter": 3}


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("story", "none of the 2 prompts is of the family 'story'"),
        ("shorter", "every one of the 2 prompts is of the family 'shorter'"),
    ],
)
def test_an_empty_part_is_refused(tmp_path: Path, family: str, said: str) -> None:
    prompts = [Prompt(prompt=ask(LONG), id="a"), Prompt(prompt=ask(f"{LONG} Thanks a lot."))]
    with pytest.raises(HarkError, match=said):
        parted(tmp_path, prompts, family)
    assert not list((tmp_path / "runs").glob("*/data/*.jsonl"))


def test_an_unknown_family_is_refused_with_the_closest() -> None:
    with pytest.raises(HarkError, match=r"unknown \(did you mean 'shorter'\?\); known: country"):
        PlaygroundPromptsSettings.parse({"data": ["prompts.jsonl"], "family": "short"})
