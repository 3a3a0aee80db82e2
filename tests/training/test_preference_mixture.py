"""Shares, weights and labelers decide which comparisons are learned from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hark.errors import DataError, HarkError, SettingsError
from hark.training.examples import RecordReader
from hark.training.preference_mixture import (
    TrainingComparisons,
    read_held_out,
    read_training_comparisons,
)
from hark.training.preference_settings import PreferenceSettings


def pairs(path: Path, count: int, *, labelers: int = 0) -> Path:
    rows = [
        {
            "prompt": f"{path.stem} {n}",
            "responses": ["yes", "no"],
            "ranks": [1, 2],
            **({"labeler": f"labeler {n % labelers}"} if labelers else {}),
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [pairs(tmp_path / "harmless.jsonl", 30), pairs(tmp_path / "helpful.jsonl", 20)]


def settings(files: list[Path], **values: Any) -> PreferenceSettings:
    return PreferenceSettings.parse({"model": "m", "data": list(map(str, files)), **values})


def read(files: list[Path], **values: Any) -> TrainingComparisons:
    reader = RecordReader(on_bad_line="stop", skipped_directory=files[0].parent)
    return read_training_comparisons(settings(files, **values), reader)


def prompts(found: TrainingComparisons) -> set[str]:
    return {each.record.prompt[0].content for each in found.comparisons}


@pytest.mark.parametrize(
    ("shares", "counts"), [([0.0], [0, 10]), ([0.3], [3, 7]), ([0.5, 0.5], [5, 5]), ([1], [10, 0])]
)
def test_shares_of_a_fixed_total(files: list[Path], shares: list[float], counts: list[int]) -> None:
    found = read(files, comparisons=10, shares=shares)
    assert list(found.by_file.values()) == counts
    names = [each.split()[0] for each in prompts(found)]
    assert [names.count("harmless"), names.count("helpful")] == counts


def test_a_smaller_total_is_part_of_a_larger_one_and_seeds_draw_others(files: list[Path]) -> None:
    few, more = (read(files, comparisons=n, seed=1) for n in (8, 16))
    assert prompts(few) < prompts(more)
    assert len(prompts(more)) == 16
    assert prompts(read(files, comparisons=8, seed=2)) != prompts(few)
    assert len(read(files).comparisons) == 50


def test_loss_weights_multiply_each_files_comparisons(files: list[Path]) -> None:
    found = read(files, loss_weights=[10, 1])
    weights = {each.record.prompt[0].content.split()[0]: each.record.weight
               for each in found.comparisons}  # fmt: skip
    assert weights == {"harmless": 10.0, "helpful": 1.0}


def test_each_labeler_is_left_out_of_exactly_one_fold(tmp_path: Path) -> None:
    path = pairs(tmp_path / "pairs.jsonl", 40, labelers=7)
    folds = [read([path], labeler_folds=3, held_out_fold=fold) for fold in range(3)]
    left_out = [fold.held_out_labelers for fold in folds]
    assert sorted(name for names in left_out for name in names) == [
        f"labeler {n}" for n in range(7)
    ]
    for fold in folds:
        learned = {each.record.labeler for each in fold.comparisons}
        assert learned | fold.held_out_labelers == {f"labeler {n}" for n in range(7)}
        assert not learned & fold.held_out_labelers


def test_held_out_comparisons_are_the_same_for_every_seed(files: list[Path]) -> None:
    reader = RecordReader(on_bad_line="stop", skipped_directory=files[0].parent)
    drawn = [
        read_held_out(
            settings(files, evaluation_data=files, evaluation_comparisons=5, seed=seed), reader
        )
        for seed in (0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0].files == [str(files[0])] * 5 + [str(files[1])] * 5


def test_more_than_there_is_is_refused(files: list[Path]) -> None:
    with pytest.raises(
        DataError, match=r"25 comparisons are asked of '.*helpful.jsonl', which has 2"
    ):
        read(files, comparisons=25, shares=[0.0])
    with pytest.raises(DataError, match="60 comparisons are asked"):
        read(files, comparisons=60)
    with pytest.raises(SettingsError, match="50 of 50 comparisons do not say who judged"):
        read(files, labeler_folds=2, held_out_fold=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shares": [0.5]}, "set comparisons as well"),
        ({"comparisons": 5, "shares": [0.5, 0.2, 0.3]}, "3 shares for 2 files"),
        ({"comparisons": 5, "shares": [1.5]}, "must be between 0 and 1"),
        ({"comparisons": 5, "shares": [0.5, 0.2]}, "add up to 0.7, not to 1"),
        ({"loss_weights": [1]}, "1 loss_weights for 2 files"),
        ({"loss_weights": [1, -1]}, "must not be negative"),
        ({"labeler_folds": 5}, "need each other"),
        ({"labeler_folds": 5, "held_out_fold": 5}, "held_out_fold 5 is none of 5"),
        ({"evaluation_comparisons": 5}, "would be ignored without evaluation_data"),
    ],
)
def test_settings_that_contradict_are_refused(
    files: list[Path], values: dict[str, Any], said: str
) -> None:
    with pytest.raises(HarkError, match=said):
        settings(files, **values)


def test_two_exports_of_one_study_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": f"label {n}", "prompt": f"Why {n}?", "responses": ["yes", "no"], "ranks": [1, 2]}
        for n in range(5)
    ]
    exports = [tmp_path / "earlier.jsonl", tmp_path / "later.jsonl"]
    for path, count in zip(exports, (3, 5), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[:count]))
    read(exports)
    told = capsys.readouterr().err
    assert "3 comparisons are in the data more than once" in told
    assert "name the newest alone" in told
    read(exports[1:])
    assert not capsys.readouterr().err
