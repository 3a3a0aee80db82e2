from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hark.data.formats import write_comparisons, write_prompts
from hark.data.records import Prompt, ask, chosen_and_rejected
from hark.errors import HarkError
from hark.loop.online.place import Loop
from hark.loop.online.rounds import collections_of
from hark.loop.online.settings import LoopSettings


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of a loop whose files are there, told from their own directory."""
    monkeypatch.chdir(tmp_path)
    write_prompts(Path("prompts.jsonl"), [Prompt(prompt=ask("Why?"))])
    write_comparisons(Path("base.jsonl"), [chosen_and_rejected(ask("Why?"), "So.", "No.")])
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    Path("nothing").mkdir()
    return {
        "preference": {"model": "model"},
        "policy": {"model": "model", "data": ["prompts.jsonl"]},
        "static": {"data": ["base.jsonl"]},
        "collect": {"labels": 10},
        "measure": {"data": ["prompts.jsonl"]},
    }


def test_a_loop_is_made_once_and_its_settings_stay(given: dict[str, Any], tmp_path: Path) -> None:
    made = Loop.make(Path("loop"), LoopSettings.parse(given))
    assert made.settings.start == str(tmp_path / "model")
    assert Loop.make(Path("loop"), LoopSettings.parse(given)).settings == made.settings
    other = LoopSettings.parse({**given, "seed": 1})
    with pytest.raises(HarkError, match="never changed"):
        Loop.make(Path("loop"), other)
    with made.held(), pytest.raises(HarkError, match="another process"), made.held():
        pass
    with pytest.raises(HarkError, match="is no loop"):
        Loop.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"preference": {}}, "preference.model is missing"),
        ({"policy": {"model": "model", "preference_model": ["x"]}}, "the loop fills it in"),
        ({"collect": {}}, "say until when"),
        ({"collect": {"labels": 1, "task": "vote"}}, "a vote needs prompts"),
        ({"collect": {"labels": 1, "prompts": ["prompts.jsonl"]}}, "prompts would be ignored"),
        ({"server": {"url": "http://h", "port": 80}}, "would be ignored"),
        ({"static": {"data": ["gone.jsonl"]}}, "static.data: "),
        ({"measure": {"data": ["gone.jsonl"]}}, "measure.data: "),
        ({"policy": {"model": "./gone", "data": ["prompts.jsonl"]}}, "nothing at './gone'"),
        ({"policy": {"model": "nothing", "data": ["prompts.jsonl"]}}, "not a model directory"),
        ({"measure": {"data": ["prompts.jsonl"], "limit": 1, "replies": 2}}, "limit would be"),
        ({"nmae": "x"}, "unknown setting 'nmae'"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    given: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(HarkError, match=said):
        Loop.make(Path("loop"), LoopSettings.parse({**given, **changes}))
    assert not Path("loop").exists()


def test_the_newest_snapshots_answer_and_best_of_k_in_the_first_rounds(
    given: dict[str, Any],
) -> None:
    given |= {"name": "weekly", "rejection": {"best_of": 4, "labels": 5}}
    loop = Loop.make(Path("loop"), LoopSettings.parse(given))
    for number in range(3):
        loop.journal.append(number, "policy", {"run": f"policy-{number}"})
    rejection, online = collections_of(loop, 1)
    assert rejection.answering == {"weekly-start-best-of-4": loop.settings.start}
    assert list(online.answering) == ["weekly-start", "weekly-round-0"]
    [online] = collections_of(loop, 2)
    assert online.answering == {"weekly-round-0": "policy-0", "weekly-round-1": "policy-1"}
    assert (online.study, online.tranche) == ("weekly-round-2", "online-2")


def test_best_of_k_is_voted_on_whatever_the_rounds_ask_for(given: dict[str, Any]) -> None:
    collect = {"task": "ranking", "prompts": given["policy"]["data"], "responses": 5, "labels": 5}
    given |= {"collect": collect, "rejection": {"best_of": 4, "labels": 5}}
    loop = Loop.make(Path("loop"), LoopSettings.parse(given))
    loop.journal.append(0, "policy", {"run": "policy-0"})
    studies = [
        loop.settings.study(one.study, round=1, task=one.task) for one in collections_of(loop, 1)
    ]
    assert [one.task for one in studies] == ["vote", "ranking"]
    assert studies[0].instructions != studies[1].instructions


def test_settings_of_the_study_reach_it_but_not_those_of_the_loop(given: dict[str, Any]) -> None:
    study = {"title": "Mine", "overlap": 3}
    loop = LoopSettings.parse({**given, "collect": {"labels": 5, "study": study}})
    asked = loop.study("mine-round-2", round=2, task="dialogue", live=("a", "b"))
    assert (asked.title, asked.overlap, asked.round) == ("Mine", 3, 2)
    assert asked.snapshots == ("a", "b")
    wrong = LoopSettings.parse({**given, "collect": {"labels": 5, "study": {"round": 1}}})
    with pytest.raises(HarkError, match=r"collect.study.round would be ignored"):
        wrong.study("mine-round-2", round=2, task="dialogue", live=("a", "b"))
