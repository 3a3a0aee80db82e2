"""What `hark data inspect` says of a file, worked by hand."""

from __future__ import annotations

from pathlib import Path

from hark.data.formats import write_comparisons, write_demonstrations, write_records, write_texts
from hark.data.inspect import Lengths, inspect
from hark.data.records import Comparison, Demonstration, Message, Question, Text, ask


def test_comparisons(tmp_path: Path) -> None:
    records = [
        Comparison(
            prompt=ask("four"), responses=("a", "bbb"), ranks=(2, 1), strength=2.0, labeler="x"
        ),
        Comparison(
            prompt=ask("Four"), responses=("a", "a"), ranks=(1, 1), strength=2.0, labeler="y"
        ),
        Comparison(prompt=ask("sixsix"), responses=("c", "d", "e"), ranks=(1, 2, 3), labeler="x"),
        Comparison(prompt=ask("eighteig"), responses=("f", "g"), probability=0.3, user="u"),
    ]
    write_comparisons(tmp_path / "c.jsonl", records)
    seen = inspect(tmp_path / "c.jsonl")
    assert (seen.kind, seen.count) == ("comparisons", 4)
    assert seen.lengths["prompts"] == Lengths(smallest=4, median=5, mean=5.5, largest=8)
    assert seen.people == {"users": 1, "labelers": 2}
    assert seen.judgements == {
        "unjudged": 0,
        "all tied": 1,
        "soft labels": 1,
        "of 2 responses": 3,
        "of 3 responses": 1,
    }
    assert seen.strengths == {2.0: 2}
    assert seen.warnings == [
        "1 of 4 records repeat the prompts of another",
        "1 comparisons hold the same response twice",
    ]
    assert seen.examples[0] == "four → a (rank 2) → bbb (rank 1)"
    text = "\n".join(seen.lines())
    assert "read 4 records (hark comparisons)" in text
    assert "strength: 2 (2)" in text


def test_length_bias_and_missing_labelers_are_pointed_out(tmp_path: Path) -> None:
    records = [
        Comparison(
            prompt=ask(f"Q{i}"),
            responses=("short", "much longer"),
            ranks=(1, 2) if i < 5 else (2, 1),
        )
        for i in range(20)
    ]
    write_comparisons(tmp_path / "c.jsonl", records)
    first, second = inspect(tmp_path / "c.jsonl").warnings
    assert first.startswith("the longer response wins 75% of the pairs")
    assert second.startswith("no comparison names its labeler")


def test_demonstrations_and_texts(tmp_path: Path) -> None:
    prompt = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "x" * 300))
    write_demonstrations(tmp_path / "d.jsonl", [Demonstration(prompt=prompt, response="Bye.")])
    seen = inspect(tmp_path / "d.jsonl")
    assert seen.lengths["responses"] == Lengths(smallest=4, median=4, mean=4, largest=4)
    assert seen.examples == ["[2 turns] " + "x" * 199 + "… → Bye."]
    write_texts(tmp_path / "t.txt", [Text(text="ab"), Text(text="ab")], format="txt")
    seen = inspect(tmp_path / "t.txt")
    assert (seen.kind, seen.count) == ("texts", 2)
    assert seen.warnings == ["1 of 2 records repeat the texts of another"]


def test_questions(tmp_path: Path) -> None:
    question = Question(context="One and", options=(" two", " three"), answer=1)
    write_records(tmp_path / "q.jsonl", [question, question], kind="questions")
    seen = inspect(tmp_path / "q.jsonl")
    assert (seen.kind, seen.count) == ("questions", 2)
    assert seen.lengths["contexts"] == Lengths(smallest=7, median=7, mean=7, largest=7)
    assert seen.lengths["options"] == Lengths(smallest=4, median=5, mean=5, largest=6)
    assert seen.examples[0] == "One and → two → three (answer 1)"
    assert seen.warnings == ["1 of 2 records repeat the questions of another"]
