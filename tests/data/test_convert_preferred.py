from __future__ import annotations

from pathlib import Path

import pytest

from hark.data.convert import convert
from hark.data.formats import read_demonstrations, write_comparisons, write_prompts
from hark.data.records import Comparison, Prompt, ask
from hark.errors import DataError


def test_the_best_response_of_each_comparison_becomes_a_demonstration(tmp_path: Path) -> None:
    source, destination = tmp_path / "pairs.jsonl", tmp_path / "preferred.jsonl"
    write_comparisons(
        source,
        [
            Comparison(prompt=ask("One"), responses=("a", "b"), ranks=(2, 1), user="u", id="1"),
            Comparison(prompt=ask("Two"), responses=("c", "d", "e"), ranks=(3, 2, 1)),
            Comparison(prompt=ask("Three"), responses=("f", "g", "h"), ranks=(1, 1, 2)),
            Comparison(prompt=ask("Four"), responses=("i", "j"), probability=0.0),
            Comparison(prompt=ask("Five"), responses=("k", "l"), probability=0.9),
        ],
    )
    done = convert(source, destination, only_preferred=True)
    found = read_demonstrations(destination)
    assert [(one.prompt, one.response) for one in found] == [
        (ask("One"), "b"),
        (ask("Two"), "e"),
        (ask("Four"), "j"),
    ]
    assert (found[0].user, found[0].id) == ("u", "1")
    assert (done.kind, done.rows, done.untold) == ("demonstrations", 3, 2)


def test_comparisons_without_any_winner_make_no_demonstrations(tmp_path: Path) -> None:
    source, destination = tmp_path / "pairs.jsonl", tmp_path / "preferred.jsonl"
    write_comparisons(source, [Comparison(prompt=ask("Hi"), responses=("a", "b"), ranks=(1, 1))])
    with pytest.raises(DataError, match="better than all others; judge them first"):
        convert(source, destination, only_preferred=True)
    assert not destination.exists()


def test_only_comparisons_have_a_preferred_response(tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    write_prompts(source, [Prompt(prompt=ask("Hi"))])
    with pytest.raises(DataError, match="not comparisons"):
        convert(source, tmp_path / "out.jsonl", only_preferred=True)
