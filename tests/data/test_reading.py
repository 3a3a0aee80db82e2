"""Bad files and rows: one sentence each, with the place and the way out."""

from __future__ import annotations

import gzip
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from hark.data.formats import (
    iterate_texts,
    kind_of,
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_questions,
    read_records,
    read_texts,
)
from hark.data.formats.reading import ReadReport
from hark.data.records import Question, Text, ask
from hark.errors import DataError, HarkError

GOOD = {"prompt": "Q", "response": "A"}


def lines(path: Path, *rows: Any) -> Path:
    written = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{row}\n" for row in written), encoding="utf-8")
    return path


def refused(read: Callable[[], object], *parts: str) -> str:
    """The message of the error, one line that has all the parts."""
    with pytest.raises(DataError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ('{"prompt": "Q", ', ["is not valid JSON", "one JSON object on each line"]),
        ("[1, 2]", ["is a JSON list, not an object"]),
        ('"text"', ["is a JSON string, not an object"]),
        ("3", ["is a JSON number, not an object"]),
        ("[" * 100_000, ["is not"]),
        ({"prompt": "Q"}, ["has no 'response'"]),
        ({"prompt": "Q", "response": 3}, ["'response' is 3, not a string", 'expected {"prompt"']),
        ({"prompt": "Q", "response": " "}, ["'response' is empty"]),
        ({"prompt": "Q", "response": None}, ["has no 'response'"]),
        ({"response": "A"}, ["no 'prompt'"]),
        ({"prompt": [], "response": "A"}, ["'prompt' is an empty list"]),
        ({"prompt": [{"role": "bot", "content": "x"}], "response": "A"}, ["role 'bot'", "user"]),
        ({"prompt": [{"role": "user"}], "response": "A"}, ["'prompt[0]' has no 'content'"]),
        (
            {"prompt": [{"role": "assistant", "content": "x"}], "response": "A"},
            ["ends with assistant, not with a user turn"],
        ),
        ('{"prompt": "Q", "response": "\\ud800"}', ["half of a surrogate pair"]),
        ({"prompt": "Q", "response": "A", "user": ["u"]}, ["'user' is a list, not a string"]),
    ],
)
def test_a_bad_row_stops_with_its_line(tmp_path: Path, row: Any, parts: list[str]) -> None:
    path = lines(tmp_path / "d.jsonl", GOOD, "", row)
    refused(lambda: read_demonstrations(path), "d.jsonl:3: ", *parts)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"responses": ["a"]}, "a comparison needs 2 or more responses, got 1"),
        ({"responses": "ab"}, "'responses' is 'ab', not a list"),
        ({"responses": ["a", ""]}, "'responses[1]' is empty"),
        ({"ranks": [1, 2, 3]}, "3 ranks for 2 responses"),
        ({"ranks": [0, 1]}, "'ranks' is [0, 1], not a list of whole numbers from 1"),
        ({"ranks": [1.0, 2]}, "'ranks' is [1.0, 2]"),
        ({"ranks": [True, 2]}, "'ranks' is [True, 2]"),
        ({"probability": 0.5}, "ranks or a probability, not both"),
        ({"ranks": None, "probability": 1.5}, "probability 1.5 is outside 0 to 1"),
        ({"ranks": None, "probability": True}, "'probability' is True, not a finite number"),
        ({"weight": -1}, "'weight' is -1, which is negative"),
        ({"weight": float("nan")}, "'weight' is nan, not a finite number"),
        ({"strength": "big"}, "'strength' is 'big', not a finite number"),
    ],
)
def test_bad_comparisons(tmp_path: Path, changes: dict[str, Any], part: str) -> None:
    row = {"prompt": "Q", "responses": ["a", "b"], "ranks": [1, 2]} | changes
    refused(lambda: read_comparisons(lines(tmp_path / "c.jsonl", row)), "c.jsonl:1: ", part)


def test_a_field_that_a_format_needs_is_named(tmp_path: Path) -> None:
    first = {"prompt": "Q", "chosen": "a", "rejected": "b"}
    path = lines(tmp_path / "c.jsonl", first, {"prompt": "Q", "chosen": "a"})
    refused(lambda: read_comparisons(path), "c.jsonl:2: has no 'rejected'; expected")


def test_unknown_fields_list_what_was_expected(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", {"conversations": ["a"]})
    refused(
        lambda: read_demonstrations(path),
        "d.jsonl:1: is in no known format (its fields: 'conversations')",
        '{"messages": [',
        '{"instruction": "…"',
    )
    refused(lambda: read_comparisons(path, format="hh"), "not format 'hh'", "Human:")
    refused(lambda: read_comparisons(path, format="hhh"), "'hhh' (did you mean 'hh'?)", "openai")


# ── kinds ────────────────────────────────────────────────────────────────────────────────────────


def test_the_wrong_kind_names_the_right_command(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", GOOD)
    refused(
        lambda: read_comparisons(path, on_bad_line="skip"),
        "looks like demonstrations",
        "comparisons are expected",
        "'hark sft'",
        '"responses"',
    )
    texts = lines(tmp_path / "t.jsonl", {"text": "x"})
    refused(lambda: read_prompts(texts), "looks like texts", "'hark pretrain'")
    pairs = lines(tmp_path / "c.jsonl", {"prompt": "Q", "chosen": "a", "rejected": "b"})
    refused(lambda: read_texts(pairs), "looks like comparisons (TRL", "'hark preference'")
    (tmp_path / "book.txt").write_text("x")
    refused(lambda: read_demonstrations(tmp_path / "book.txt"), "looks like texts (plain text)")


QUESTION = {"context": "One and", "options": [" two", " three"], "answer": 1}


def test_questions_are_read_and_are_no_other_kind(tmp_path: Path) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTION, {**QUESTION, "context": "", "id": 7})
    assert list(read_questions(path)) == [
        Question(context="One and", options=(" two", " three"), answer=1),
        Question(context="", options=(" two", " three"), answer=1, id="7"),
    ]
    refused(lambda: read_prompts(path), "looks like questions", "'hark evaluate'")
    refused(lambda: read_questions(lines(tmp_path / "d.jsonl", GOOD)), "questions are expected")
    assert kind_of(path) == "questions"
    assert kind_of(tmp_path / "d.jsonl") == "demonstrations"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer": 2}, "answer 2 is none of 2 options"),
        ({"answer": -1}, "answer -1 is none of 2 options"),
        ({"answer": True}, "'answer' is True, not the number of an option"),
        ({"answer": " two"}, "'answer' is ' two', not the number of an option"),
        ({"options": [" two"]}, "2 or more options, got 1"),
        ({"options": [" two", " two"]}, "two of its options are the same text"),
        ({"options": [" two", " "]}, "'options[1]' is empty"),
        ({"options": " two"}, "'options' is ' two', not a list"),
        ({"context": 3}, "'context' is 3, not a string"),
    ],
)
def test_malformed_questions_are_named(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = lines(tmp_path / "q.jsonl", QUESTION, {**QUESTION, **changes})
    refused(lambda: read_questions(path), "q.jsonl:2: ", said, '"answer": 0')


def test_files_of_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", GOOD)
    lines(tmp_path / "b.jsonl", {"text": "x"})
    refused(lambda: read_records(tmp_path), "a.jsonl' holds demonstrations", "b.jsonl' holds texts")
    one = lines(tmp_path / "m.jsonl", {"messages": [{"role": "user", "content": "Q"}]}, GOOD)
    refused(lambda: read_records(one), "m.jsonl:2: has no 'messages'")


# ── skipping ─────────────────────────────────────────────────────────────────────────────────────


def test_skipped_rows_are_counted_and_kept(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", "oops", GOOD, {"other": 1}, GOOD, {"prompt": "Q"})
    records = read_demonstrations(path, on_bad_line="skip")
    report = records.report
    assert (len(records), report.read, report.skipped) == (2, 2, 3)
    side = tmp_path / "d.jsonl.skipped.jsonl"
    assert report.skipped_files == [side]
    kept = [json.loads(line) for line in side.read_text().splitlines()]
    assert [(one["number"], one["row"]) for one in kept] == [
        (1, "oops"),
        (3, '{"other": 1}'),
        (5, '{"prompt": "Q"}'),
    ]
    assert kept[1]["problem"].startswith("has no 'prompt'; expected")
    assert "skipped 3 malformed rows, kept in" in report.summary()
    # A second reading of the directory sees neither the side file nor its rows twice.
    assert read_demonstrations(tmp_path, on_bad_line="skip").report.skipped == 3
    assert len(side.read_text().splitlines()) == 3


def test_skipped_rows_of_like_named_files_are_kept_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        lines(tmp_path / name / "d.jsonl", GOOD, f"bad {name}")
    kept = tmp_path / "kept"
    report = read_demonstrations(
        [tmp_path / "a", tmp_path / "b"], on_bad_line="skip", skipped_directory=kept
    ).report
    assert [path.name for path in report.skipped_files] == [
        "d.jsonl.skipped.jsonl",
        "d.jsonl.2.skipped.jsonl",
    ]
    assert "bad b" in report.skipped_files[1].read_text()


def test_a_file_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    path = lines(tmp_path / "d.jsonl", "oops", "again")
    refused(
        lambda: read_demonstrations(path, on_bad_line="skip"),
        "no usable record",
        "d.jsonl:1: is not",
    )


def test_streamed_texts_fill_the_report_they_are_given(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", {"text": "a"}, {"text": ""}, {"text": "b"})
    report = ReadReport()
    texts = iterate_texts(path, on_bad_line="skip", report=report)
    assert list(texts) == [Text(text="a"), Text(text="b")]
    assert (report.read, report.skipped) == (2, 1)


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_paths(tmp_path: Path) -> None:
    for name in ("b/x.jsonl", "a.jsonl", ".hidden.jsonl", "README.md", "b/y.jsonl.skipped.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        lines(tmp_path / name, {"prompt": name, "response": "A"})

    def found(paths: Any) -> list[str]:
        return [record.prompt[0].content for record in read_demonstrations(paths)]

    assert found(tmp_path) == ["a.jsonl", "b/x.jsonl"]
    assert found(str(tmp_path / "**" / "[ab]*.jsonl")) == ["a.jsonl"]
    assert found([tmp_path / "b" / "x.jsonl", tmp_path / "a.jsonl"]) == ["b/x.jsonl", "a.jsonl"]


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", GOOD)
    (tmp_path / "none").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n")
    read = read_demonstrations
    refused(lambda: read(tmp_path / "trian.jsonl"), "no such file", "did you mean 'train.jsonl'?")
    refused(lambda: read(tmp_path / "no" / "x.jsonl"), "directory", "does not exist either")
    refused(lambda: read(tmp_path / "none"), "has no data files; expected .jsonl")
    refused(lambda: read(tmp_path / "*.parquet"), "no data file matches")
    refused(lambda: read(tmp_path / "table.csv"), "an ending that is not read; expected .jsonl")
    refused(lambda: read([]), "no data path")


@pytest.mark.parametrize("name", ["e.jsonl", "e.json", "e.jsonl.gz", "e.txt"])
@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    refused(lambda: read_texts(path), f"{name}' is empty; expected at least one record")


def test_files_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(b'{"text": "ok"}\n{"text": "caf\xe9"}\n')
    refused(lambda: read_texts(path), "l.jsonl:2: is not UTF-8 text (byte 14 of the line)")
    assert len(read_texts(path, on_bad_line="skip")) == 1
    (tmp_path / "l.txt").write_bytes(b"one\ncaf\xe9\n")
    refused(lambda: read_texts(tmp_path / "l.txt"), "l.txt:2: is not UTF-8 text")
    (tmp_path / "a.json").write_bytes(b'[{"text": "caf\xe9"}]')
    refused(lambda: read_texts(tmp_path / "a.json"), "a.json' is not UTF-8 text")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "x"}\n')
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfx\n")
    assert read_texts(tmp_path) == [Text(text="x"), Text(text="x")]


def compressed(ending: str, content: bytes) -> bytes:
    if ending == ".zst":
        return pa.compress(content, codec="zstd", asbytes=True)
    return gzip.compress(content) if ending == ".gz" else lzma.compress(content)


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_damaged_compression(tmp_path: Path, ending: str) -> None:
    rows = b"".join(b'{"text": "%d"}\n' % (n * n) for n in range(8_000))
    whole = compressed(ending, rows)
    path = tmp_path / f"t.jsonl{ending}"
    path.write_bytes(whole)
    assert len(read_texts(path)) == 8_000
    path.write_bytes(whole[: len(whole) // 2])
    refused(lambda: read_texts(path), f"is cut short or is not a {ending} file")
    path.write_bytes(b"this was never compressed")
    refused(lambda: read_texts(path), f"is cut short or is not a {ending} file")


def test_json_arrays(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps([GOOD, {"prompt": "Q"}], indent=2))
    refused(lambda: read_demonstrations(path), "d.json, record 2: has no 'response'")
    assert len(read_demonstrations(path, on_bad_line="skip")) == 1
    path.write_text('\n[\n{"prompt": "Q"},\n{"prompt"')
    refused(lambda: read_demonstrations(path), "d.json:4: is not valid JSON")
    path.write_text(json.dumps(GOOD, indent=2))
    refused(lambda: read_demonstrations(path), "d.json:1: is not valid JSON")


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    refused(lambda: read_texts(tmp_path / "t.parquet"), "is not a readable Parquet file")


# ── the Hub ──────────────────────────────────────────────────────────────────────────────────────


def test_hub_names_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(HarkError, match=r"pip install 'hark\[hub\]'"):
        read_texts("hub:someone/something")


def test_hub_names_are_loaded_by_name_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> Iterator[dict[str, Any]]:
        asked.append((name, split))
        if name == "no/such":
            raise RuntimeError("Dataset 'no/such' doesn't exist\nmore")
        return iter([{"prompt": "Q", "chosen": "a", "rejected": "b", "extra": None}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    (pair,) = read_comparisons("hub:org/pairs:test")
    assert pair.prompt == ask("Q")
    read_comparisons([Path("hub:org/pairs")])
    assert asked == [("org/pairs", "test"), ("org/pairs", "train")]
    refused(lambda: read_texts("hub:no/such"), "cannot load 'hub:no/such'", "doesn't exist")
