"""HH's transcripts as labelled pairs."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from hark.data.records import ask
from hark.feedback.imports import hh
from hark.feedback.imports.findings import FoundRecord, LeftOut


def pair(question: str, chosen: str, rejected: str) -> str:
    asked = f"\n\nHuman: {question}\n\nAssistant: "
    return json.dumps({"chosen": asked + chosen, "rejected": asked + rejected}) + "\n"


def test_pairs_are_labels_in_an_order_that_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(pair(f"Question {n}?", f"good {n}", f"bad {n}") for n in range(60))
    found = [one for one in hh.read(path) if isinstance(one, FoundRecord)]
    assert len(found) == 60
    assert found[0].prompt == ask("Question 0?")
    for record in found:
        (label,) = record.labels
        assert label.ranks is not None
        assert record.responses[label.ranks.index(1)].startswith("good")
    first = sum(one.responses[0].startswith("good") for one in found)
    assert 15 < first < 45
    assert len({one.id for one in found}) == 60


def test_the_same_pair_again_and_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    parted = json.dumps(
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
    )
    path.write_text(pair("a", "b", "c") * 2 + parted + "\n{broken\n")
    found, *left_out = hh.read(path)
    assert isinstance(found, FoundRecord)
    told = [(one.where, one.why) for one in left_out if isinstance(one, LeftOut)]
    assert told[0] == (f"{path}:2", "is the same pair as an earlier one")
    assert told[1][0] == f"{path}:3"
    assert "part at turn 1" in told[1][1]
    assert told[2][0] == f"{path}:4"
    assert "not valid JSON" in told[2][1]
