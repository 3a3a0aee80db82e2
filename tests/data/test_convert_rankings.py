from __future__ import annotations

from pathlib import Path

import pytest

from hark.data.convert import Rankings, convert
from hark.data.formats import read_comparisons, write_comparisons, write_prompts
from hark.data.records import Comparison, Prompt, ask
from hark.errors import DataError


def test_pairs_against_one_reference_become_rankings(tmp_path: Path) -> None:
    source, destination = tmp_path / "pairs.jsonl", tmp_path / "rankings.jsonl"
    pairs = [
        Comparison(prompt=ask("Hi"), responses=("reference", reply), ranks=ranks)
        for reply, ranks in (("a", (2, 1)), ("b", (1, 2)), ("c", (1, 1)))
    ]
    write_comparisons(source, pairs)
    convert(source, destination, rankings=Rankings(responses=4))
    (ranking,) = read_comparisons(destination)
    order = dict(zip(ranking.responses, ranking.ranks or (), strict=True))
    assert order["a"] < order["reference"] == order["c"] < order["b"]


def test_too_few_responses_for_a_ranking_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "pairs.jsonl"
    write_comparisons(source, [Comparison(prompt=ask("Hi"), responses=("a", "b"), ranks=(1, 2))])
    with pytest.raises(DataError, match="fewer responses"):
        convert(source, tmp_path / "out.jsonl", rankings=Rankings(responses=4))


def test_only_comparisons_make_rankings(tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    write_prompts(source, [Prompt(prompt=ask("Hi"))])
    with pytest.raises(DataError, match="not comparisons"):
        convert(source, tmp_path / "out.jsonl", rankings=Rankings(responses=4))
