"""`hark data inspect` and `hark data convert` on files of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hark.cli.main import run
from hark.data.formats import read_comparisons

PAIRS = [
    {"prompt": "Say hi.", "chosen": " Hi.", "rejected": " No."},
    {"prompt": "Name a colour, please.", "chosen": " Red.", "rejected": " Seven."},
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return path


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_inspect_counts_and_shows_the_first_record(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "inspect", str(pairs), "--json"]) == 0
    found = last_json(capsys)
    assert found["status"] == "complete"
    (described,) = found["files"]
    assert (described["kind"], described["count"], described["skipped"]) == ("comparisons", 2, 0)
    assert described["judgements"]["of 2 responses"] == 2
    # "Say hi." has 7 characters, "Name a colour, please." has 22.
    assert described["lengths"]["prompts"] == {
        "smallest": 7,
        "median": 14.5,
        "mean": 14.5,
        "largest": 22,
    }
    assert len(described["examples"]) == 2


def test_inspect_is_readable_without_json(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "inspect", str(pairs)]) == 0
    out = capsys.readouterr().out
    assert "comparisons" in out
    assert "Name a colour" in out


def test_convert_keeps_the_records(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "pairs.parquet"
    assert (
        run(["data", "convert", str(pairs), "--to", str(to), "--to-format", "trl", "--json"]) == 0
    )
    assert last_json(capsys)["rows"] == 2
    assert list(read_comparisons(to)) == list(read_comparisons(pairs))


def test_convert_warns_of_fields_without_a_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "ranked.jsonl"
    record = {"prompt": "Hi", "responses": ["a", "b"], "ranks": [2, 1], "labeler": "ann"}
    source.write_text(json.dumps(record) + "\n")
    to = tmp_path / "hh.jsonl"
    assert run(["data", "convert", str(source), "--to", str(to), "--to-format", "hh"]) == 0
    assert "no place for: labeler (1)" in capsys.readouterr().out


def test_convert_overwrites_nothing(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = pairs.read_text()
    assert run(["data", "convert", str(pairs), "--to", str(pairs)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert pairs.read_text() == before


def test_a_malformed_line_stops_or_is_skipped(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pairs.open("a") as file:
        file.write('{"prompt": "no answers"}\n')
    assert run(["data", "inspect", str(pairs)]) == 2
    assert f"{pairs}:3" in capsys.readouterr().err
    assert run(["data", "inspect", str(pairs), "--on-bad-line", "skip", "--json"]) == 0
    (described,) = last_json(capsys)["files"]
    assert (described["count"], described["skipped"]) == (2, 1)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["inspect", "nowhere.jsonl"], "no such file"),
        (["inspect"], "data"),
        (["inspekt", "x"], "did you mean 'inspect'"),
    ],
)
def test_bad_requests_are_one_sentence(
    tokens: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", *tokens]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_ranked_texts_become_comparisons_to_pretrain_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [{"text": "Yes.", "votes": 40, "accepted": True}, {"text": "No.", "votes": -2}]
    source, target = tmp_path / "questions.jsonl", tmp_path / "pmp.jsonl"
    source.write_text(json.dumps({"question": "Is it so?", "answers": answers}) + "\n")
    assert run(["data", "ranked", str(source), "--to", str(target), "--binarise", "--json"]) == 0
    found = last_json(capsys)
    assert (found["read"], found["left_out"], found["written"]) == (1, 0, 2)
    written = read_comparisons(str(target))
    assert [each.responses for each in written] == [
        ("GOOD:Yes.", "BAD:Yes."),
        ("BAD:No.", "GOOD:No."),
    ]
    assert run(["data", "ranked", str(source), "--to", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
