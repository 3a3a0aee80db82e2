from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from hark.data.formats import read_comparisons, write_comparisons
from hark.data.records import Comparison, ask
from hark.errors import DataError, SettingsError
from hark.loop import labelling
from hark.loop.labelling import LabelSettings, run_label, without_ties
from hark.runs.run import Run

PROMPT = ask("What is the capital of France?")


def comparison(*ranks: int) -> Comparison:
    replies = tuple(f"reply {number}" for number in range(len(ranks)))
    return Comparison(prompt=PROMPT, responses=replies, ranks=ranks)


def test_breaking_ties_keeps_the_order_and_leaves_none() -> None:
    broken = without_ties(comparison(2, 1, 2, 4), seed=0)
    assert broken.ranks is not None
    assert sorted(broken.ranks) == [1, 2, 3, 4]
    assert broken.ranks[1] == 1
    assert broken.ranks[3] == 4


def test_ties_are_broken_either_way_by_chance() -> None:
    firsts = [without_ties(comparison(1, 1), seed=seed).ranks for seed in range(40)]
    assert 8 <= firsts.count((1, 2)) <= 32


def label(tmp_path: Path, *comparisons: Comparison, **values: object) -> tuple[Run, dict[str, int]]:
    data = tmp_path / "unjudged.jsonl"
    write_comparisons(data, comparisons)
    settings = LabelSettings.parse({"data": [data], "output": tmp_path / "runs", **values})
    with Run.start(stage="label", settings=settings) as run:
        return run, run_label(settings, run)


def test_held_out_prompts_and_counts(tmp_path: Path) -> None:
    replies = ("The capital of France is Paris.", "I do not care.", "Rome.")
    several = [
        Comparison(prompt=ask(f"What is the capital of {name}?"), responses=replies)
        for name in ("France", "Italy", "Spain", "Norway")
    ]
    run, results = label(tmp_path, *several, held_out=0.25)
    assert results["comparisons"] == 4
    assert results["held_out"] == 1
    kept = read_comparisons([run.data_path("comparisons.jsonl")])
    held_out = read_comparisons([run.data_path("comparisons-heldout.jsonl")])
    assert len(kept) == 3
    assert {each.prompt for each in kept}.isdisjoint(each.prompt for each in held_out)


def test_nothing_but_ties_is_an_error(tmp_path: Path) -> None:
    same = Comparison(prompt=PROMPT, responses=("Paris.", "Paris. "))
    with pytest.raises(DataError, match="ties"):
        label(tmp_path, same, labeler="tests_labelling_constant:score")


@pytest.fixture(autouse=True)
def constant_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests_labelling_constant.py").write_text(
        "import torch\ndef score(dialogues): return torch.zeros(len(dialogues))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_labelers.py").write_text(
        "import dataclasses\n"
        "def last(comparison):\n"
        "    ranks = tuple(range(len(comparison.responses), 0, -1))\n"
        "    return dataclasses.replace(comparison, ranks=ranks, labeler='last')\n"
        "def careless(comparison):\n"
        "    return comparison\n"
        "def broken(dialogues):\n"
        "    return 1 / 0\n"
        "asked = []\n"
        "def longest(dialogues):\n"
        "    asked.append(len(dialogues))\n"
        "    return [float(len(dialogue[-1].content)) for dialogue in dialogues]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_labelers", raising=False)
    return "own_labelers"


def test_a_function_of_a_comparison_is_a_labeler(tmp_path: Path, own_module: str) -> None:
    unjudged = Comparison(prompt=PROMPT, responses=("Rome.", "Paris."))
    run, _ = label(tmp_path, unjudged, labeler=f"{own_module}:last", held_out=0)
    [judged] = read_comparisons([run.data_path("comparisons.jsonl")])
    assert (judged.ranks, judged.labeler) == ((2, 1), "last")


def test_a_scorer_is_given_many_comparisons_at_a_time(
    tmp_path: Path, own_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "AT_ONCE", 3)
    unjudged = [
        Comparison(prompt=ask(f"Question {number}?"), responses=("a" * number, "b" * 5, "c"))
        for number in range(1, 5)
    ]
    run, _ = label(tmp_path, *unjudged, labeler=f"{own_module}:longest", held_out=0)
    judged = read_comparisons([run.data_path("comparisons.jsonl")])
    assert [each.ranks for each in judged] == [(2, 1, 2), (2, 1, 3), (2, 1, 3), (2, 1, 3)]
    assert importlib.import_module(own_module).asked == [9, 3]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("careless", "'own_labelers:careless' returned Comparison without a judgement"),
        ("broken", r"'own_labelers:broken' failed at .*own_labelers.py:8: ZeroDivisionError"),
    ],
)
def test_what_a_persons_own_function_does_wrong_is_told_as_theirs(
    tmp_path: Path, own_module: str, function: str, said: str
) -> None:
    unjudged = Comparison(prompt=PROMPT, responses=("Rome.", "Paris."))
    with pytest.raises(SettingsError, match=said):
        label(tmp_path, unjudged, labeler=f"{own_module}:{function}")
