from __future__ import annotations

from pathlib import Path

import pytest

from hark.errors import DataError
from hark.loop.online.journal import Journal


def test_a_step_is_done_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    done: list[str] = []

    def do() -> dict[str, int]:
        done.append("merged")
        return {"training": 3}

    assert Journal(path).once(1, "merged", do) == {"training": 3}
    bytes_then = path.read_bytes()
    again = Journal(path)
    assert again.once(1, "merged", do) == {"training": 3}
    assert done == ["merged"]
    assert path.read_bytes() == bytes_then
    assert again.find(2, "merged") is None


def test_a_torn_last_line_was_not_written_and_is_cut_by_the_next_writer_only(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append(0, "merged", {"name": "Zoë"})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 2, "ti')
    journal = Journal(path)
    assert [entry.step for entry in journal.entries] == ["merged"]
    assert path.read_bytes() != whole, "whoever only looks leaves the file alone"
    journal.append(0, "finished", {})
    assert [entry.step for entry in Journal(path).entries] == ["merged", "finished"]
    assert path.read_bytes().startswith(whole)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.append(number, "finished", {})
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"{}", *lines[2:]]))
    with pytest.raises(DataError, match=r"journal.jsonl:2"):
        Journal(path)
    path.write_bytes(b"\n".join([lines[0], *lines[2:]]))
    with pytest.raises(DataError, match="has number 3"):
        Journal(path)
    path.write_bytes(b"\n".join([lines[0], b"\xff", *lines[2:]]))
    with pytest.raises(DataError, match=r"journal.jsonl:2 is no entry"):
        Journal(path)


def test_rounds_are_finished_without_gaps(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.rounds_finished == -1
    journal.append(0, "finished", {})
    journal.append(2, "finished", {})
    assert journal.rounds_finished == 0
    journal.append(1, "finished", {})
    assert journal.rounds_finished == 2
