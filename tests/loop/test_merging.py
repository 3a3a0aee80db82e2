from __future__ import annotations

from pathlib import Path

import pytest

from hark.data.formats import read_comparisons, write_comparisons
from hark.data.records import Comparison, Message, ask, chosen_and_rejected
from hark.errors import HarkError
from hark.loop.merging import MergeSettings, capped, single_pair, split_by_request
from hark.loop.stages import run_stage


def pairs(count: int, *, source: str = "") -> list[Comparison]:
    return [
        chosen_and_rejected(ask(f"Question {n}?"), f"Good {source}", f"Bad {source}")
        for n in range(count)
    ]


def merged(tmp_path: Path, **values: object) -> tuple[Path, dict[str, dict[str, int]]]:
    settings = MergeSettings.parse({"output": tmp_path / "runs", **values})
    done = run_stage("merge", settings, command=[])
    return done.run_path / "data", {one["tranche"]: one for one in done.results["tranches"]}


def test_what_begins_with_the_same_request_is_on_the_same_side_in_every_tranche() -> None:
    first = pairs(400)
    later = [
        chosen_and_rejected(
            (*one.prompt, Message("assistant", "What?"), *ask("Again.")), "Yes.", "No."
        )
        for one in first
    ]
    held_out, kept = split_by_request(first, 0.25, seed=3)
    also_held_out, _ = split_by_request(later, 0.25, seed=3)
    assert {one.prompt[0] for one in held_out} == {one.prompt[0] for one in also_held_out}
    assert not {one.prompt for one in held_out} & {one.prompt for one in kept}
    assert 70 < len(held_out) < 130
    assert split_by_request(first, 0.25, seed=4)[0] != held_out
    assert split_by_request(first, 0.0, seed=3) == ([], first)


def test_a_larger_cap_takes_what_a_smaller_one_took() -> None:
    all_of_them = pairs(50)
    few, many = capped(all_of_them, 10, seed=0), capped(all_of_them, 30, seed=0)
    assert len(few) == 10
    assert len(many) == 30
    assert {one.prompt for one in few} < {one.prompt for one in many}
    assert capped(all_of_them, 50, seed=0) == all_of_them
    assert capped(all_of_them, None, seed=0) == all_of_them
    assert capped(all_of_them, 0, seed=0) == []


def test_tranches_are_weighted_capped_and_without_ties(tmp_path: Path) -> None:
    base, online = tmp_path / "base.jsonl", tmp_path / "online.jsonl"
    tie = Comparison(prompt=ask("Either?"), responses=("One", "Other"), ranks=(1, 1))
    write_comparisons(base, pairs(40, source="base"))
    write_comparisons(online, [*pairs(20, source="online"), tie])
    data, told = merged(
        tmp_path,
        tranches={
            "base": {"data": [base], "maximum": 12},
            "online": {"data": [online], "weight": 2.0},
        },
        held_out=0.2,
    )
    training = list(read_comparisons([data / "comparisons.jsonl"]))
    of = {name: [one for one in training if one.source == name] for name in told}
    assert len(of["base"]) == told["base"]["training"] == 12
    assert {one.weight for one in of["base"]} == {1.0}
    assert {one.weight for one in of["online"]} == {2.0}
    assert told["online"]["all_tied"] == 1
    held_out = list(read_comparisons([data / "online-heldout.jsonl"]))
    assert len(held_out) == told["online"]["held_out"]
    assert len(held_out) + len(of["online"]) == 20
    assert not {one.prompt for one in held_out} & {one.prompt for one in training}
    assert told["base"]["beyond_cap"] == 40 - told["base"]["held_out"] - 12


def ranking(prompt: str) -> Comparison:
    """Five replies, of which two are tied: nine pairs."""
    return Comparison(
        prompt=ask(prompt), responses=("a", "b", "c", "d", "e"), ranks=(2, 1, 4, 3, 3),
        models=("A", "B", "C", "D", "E"),
    )  # fmt: skip


def test_a_pair_of_a_ranking_is_drawn_by_lot_the_better_first() -> None:
    whole = ranking("0")
    allowed = {
        (whole.responses[better], whole.responses[worse]) for better, worse in whole.ordered_pairs()
    }
    drawn = [single_pair(ranking(str(n)), seed=0) for n in range(200)]
    assert {one.responses for one in drawn} == allowed
    assert {one.ranks for one in drawn} == {(1, 2)}
    assert all(one.models == tuple(text.upper() for text in one.responses) for one in drawn)
    assert single_pair(whole, seed=0) == single_pair(whole, seed=0)
    [soft] = pairs(1)
    assert single_pair(soft, seed=0) is soft


def test_rankings_count_as_their_pairs_unless_one_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "rankings.jsonl"
    write_comparisons(path, [ranking(f"Question {n}?") for n in range(20)])
    tranches = {"base": {"data": [path]}}
    for single, expected in ((False, 9), (True, 1)):
        settings = MergeSettings.parse(
            {"output": tmp_path / "runs", "tranches": tranches, "single_pairs": single}
        )
        done = run_stage("merge", settings, command=[])
        held_out = list(read_comparisons([done.run_path / "data" / "base-heldout.jsonl"]))
        assert {len(one.responses) for one in held_out} == {5}
        assert done.results["training"] == 20 - len(held_out)
        assert done.results["pairs"] == expected * done.results["training"]


def test_nothing_left_to_train_on_is_said(tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    write_comparisons(path, pairs(3))
    with pytest.raises(HarkError, match="raise their caps"):
        merged(tmp_path, tranches={"base": {"data": [path], "maximum": 0}})
