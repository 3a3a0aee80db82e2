"""A path that is not the run, model, loop or file it ought to be: one sentence, exit status 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hark.cli.main import run

VOTE = {
    "prompt": [{"role": "user", "content": "Hi"}],
    "responses": ["a", "b"],
    "models": ["x", "y"],
    "ranks": [1, 2],
}
QUESTION = {"question": "q", "answers": [{"text": "a", "votes": 3}, {"text": "b", "votes": 0}]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`rated`, a run of `hark rate`, and `unfinished`, the same without results; an empty file, an
    empty directory, votes and questions."""
    directory = tmp_path_factory.mktemp("place")
    for name, rows in (
        ("empty.jsonl", []),
        ("votes.jsonl", [{**VOTE, "labeler": f"l{number}"} for number in range(4)]),
        ("questions.jsonl", [QUESTION]),
    ):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / name).write_text(text)
    (directory / "nothing").mkdir()
    runs = directory / "runs"
    assert run(["rate", "--data", f"{directory}/votes.jsonl", "--output", str(runs)]) == 0
    (made,) = runs.glob("*-rate")
    shutil.copytree(made, directory / "rated")
    shutil.copytree(made, directory / "unfinished")
    (directory / "unfinished" / "results.json").unlink()
    return directory


def loop(place: Path, model: str) -> str:
    votes = place / "votes.jsonl"
    settings = {
        "preference": {"model": model},
        "policy": {"model": model, "data": [str(votes)]},
        "static": {"data": [str(votes)]},
        "collect": {"labels": 1},
        "measure": {"data": [str(votes)]},
    }
    (place / "loop.yaml").write_text(json.dumps(settings))
    return str(place / "loop.yaml")


Case = Callable[[Path], list[str]]

CASES: dict[str, tuple[Case, str]] = {
    "run instead of data": (
        lambda place: ["rate", "--data", f"{place}/rated"],
        "is a run directory, not data; name a file in its 'data'",
    ),
    "run without a model": (
        lambda place: [
            *("outliers", "--model", f"{place}/rated", "--data", f"{place}/votes.jsonl"),
        ],
        "of hark rate is complete and has no model; name a run that trains one",
    ),
    "study of runs of another stage": (
        lambda place: ["study", "--analysis", "tax", "--runs", f"{place}/rated"],
        "is a run of hark rate; this analysis reads runs of hark compare",
    ),
    "study of no run": (
        lambda place: ["study", "--analysis", "tax", "--runs", f"{place}/nothing"],
        "is not a run directory",
    ),
    "replication of another stage": (
        lambda place: ["replication", f"{place}/rated", "--title", "T", "--into", f"{place}/page"],
        "give runs of hark study",
    ),
    "tranche that would be written elsewhere": (
        lambda place: ["merge", "--tranches", f'{{"../a": {{data: ["{place}/votes.jsonl"]}}}}'],
        "'../a' names a file",
    ),
    "no tranche": (lambda place: ["merge", "--tranches", "{}"], "no tranche is named"),
    "setting of a tranche as an option": (
        lambda place: ["merge", "--tranches.a", "x"],
        "--tranches.a",
    ),
    "infinite spread": (lambda place: ["rehearse", "--labeler-spread", "inf"], "labeler_spread"),
    "infinite rating": (
        lambda place: ["rehearse", "--ratings.A", "inf", "--ratings.B", "1"],
        "the rating inf of 'A' is beyond",
    ),
    "infinite penalty": (
        lambda place: ["rate", "--data", f"{place}/votes.jsonl", "--ridge", "inf"],
        "'ridge'",
    ),
    "seed below 0": (lambda place: ["rehearse", "--seed", "-1"], "'seed'"),
    "no pairs of a question": (
        lambda place: [
            *("data", "ranked", f"{place}/questions.jsonl", "--to", f"{place}/pairs.jsonl"),
            *("--pairs-per-question", "-1"),
        ],
        "--pairs-per-question",
    ),
    "trace of nothing": (
        lambda place: ["trace", f"{place}/nowhere"],
        "does not exist",
    ),
    "trace of what no run made": (
        lambda place: ["trace", f"{place}/votes.jsonl"],
        "is in no run directory or export of labels",
    ),
    "loop in the place of a file": (
        lambda place: ["loop", "init", loop(place, "somebody/model"), f"{place}/empty.jsonl"],
        "is a file; name a directory for the loop",
    ),
    "loop from no model": (
        lambda place: ["loop", "init", loop(place, f"{place}/nothing"), f"{place}/loop"],
        "has no config.json",
    ),
    "loop from a run without a model": (
        lambda place: ["loop", "init", loop(place, f"{place}/rated"), f"{place}/loop"],
        "of hark rate is complete and has no model",
    ),
    "no loop": (lambda place: ["loop", "report", f"{place}/rated"], "is no loop"),
    "guard that is no detector": (
        lambda place: [
            *("sample", "--model", f"{place}/nothing", "--prompt", "Hi"),
            *("--refuse-out-of-distribution", f"{place}/rated"),
        ],
        "holds no detector of outliers",
    ),
}
STAGES = {"rate", "outliers", "study", "merge", "rehearse", "sample"}


@pytest.mark.parametrize("name", list(CASES))
def test_one_sentence_and_status_two(
    name: str, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case, expected = CASES[name]
    command = case(place)
    output = ["--output", str(tmp_path / "runs")] if command[0] in STAGES else []
    status = run([*command, *output])
    told = capfd.readouterr()
    assert status == 2, told.err
    (message,) = told.err.strip().splitlines()
    assert message.startswith("error: ")
    assert expected in message


def test_an_unfinished_run_is_not_studied(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((place / "unfinished" / "manifest.json").read_text())
    compare = {**manifest, "stage": "compare", "status": "failed"}
    (place / "unfinished" / "manifest.json").write_text(json.dumps(compare))
    study = ["study", "--analysis", "tax", "--runs", f"{place}/unfinished"]
    assert run([*study, "--output", str(tmp_path)]) == 2
    assert "it is not complete; give the command that began it again" in capfd.readouterr().err
