import math

import pytest

from hark.data.records import ask
from hark.errors import DataError, RunError
from hark.evaluation.samples import (
    Sample,
    read_samples,
    samples_of,
    side_by_side,
    write_samples,
)

PROMPTS = [ask("Où est Paris ?\u2028Say."), ask("2 + 2?")]


def test_samples_come_back_as_they_went(tmp_path):
    written = samples_of(
        "sft", PROMPTS, ["In France.\n", ""], {"gold": [0.5, -1.0]}, ["end", "length"]
    )
    write_samples(tmp_path / "deep" / "samples.jsonl", written)
    assert read_samples(tmp_path / "deep" / "samples.jsonl") == written
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["samples.jsonl"]


def test_policies_are_laid_side_by_side_by_prompt():
    samples = samples_of("sft", PROMPTS, ["a", "b"]) + samples_of("ppo", PROMPTS, ["c", "d"])
    grouped = side_by_side(samples)
    assert [prompt for prompt, _ in grouped] == PROMPTS
    assert [[each.response for each in row] for _, row in grouped] == [["a", "c"], ["b", "d"]]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"prompt": "text", "policy": "p", "response": "r"}',
        '{"prompt": [{"role": "robot", "content": "x"}], "policy": "p", "response": "r"}',
        '{"prompt": [], "response": "r"}',
        '{"prompt": [], "policy": "p", "response": 3}',
    ],
)
def test_a_line_that_is_no_sample_is_named(tmp_path, line):
    path = tmp_path / "samples.jsonl"
    good = '{"prompt": [{"role": "user", "content": "x"}], "policy": "p", "response": "r"}'
    path.write_text(f"{good}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"samples\.jsonl:2: not a sample: expected"):
        read_samples(path)


def test_files_that_cannot_be_read_or_written_are_explained(tmp_path):
    with pytest.raises(DataError, match="cannot read samples from .*No such file"):
        read_samples(tmp_path / "none.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_samples(tmp_path / "file" / "samples.jsonl", [])


def test_scores_that_are_not_numbers_are_not_written(tmp_path):
    bad = Sample(prompt=PROMPTS[0], policy="ppo", response="x", scores={"gold": math.nan})
    with pytest.raises(DataError, match="the score 'gold' of a sample of 'ppo' is nan"):
        write_samples(tmp_path / "samples.jsonl", [bad])
    assert not (tmp_path / "samples.jsonl").exists()
