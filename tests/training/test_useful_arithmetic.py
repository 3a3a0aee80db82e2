"""What each stage's `useful_flops_per_second` counts, by hand from the lengths of its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hark.data.records import ask
from hark.models.tokenizer import encode_prompt, encode_response, load_tokenizer
from hark.runs.metrics import read_metrics
from hark.runs.run import Run
from hark.training import preference, pretrain, sft
from hark.training.preference_settings import PreferenceSettings
from hark.training.pretrain import PretrainSettings
from hark.training.sft import SFTSettings

StartRun = Callable[..., Run]
WriteLines = Callable[[str, list[dict[str, Any]]], Path]

# The model of `conftest.TINY`: width 32, two layers of four maps of attention and three of an MLP
# of width 48. The vocabulary is what the tokenizer has.
LAYERS = 2
MATRICES = LAYERS * (4 * 32 * 32 + 3 * 32 * 48)
PROMPT, REPLIES = "The cat?", ("It sat on the mat.", "No.", "The fox was sunny.")


def operations(run: Run) -> float:
    """Of the only step, from its rate."""
    [record] = read_metrics(run.path / "timing.jsonl")
    seconds = record["step_seconds"] - record.get("evaluation_seconds", 0.0)
    return record["useful_flops_per_second"] * seconds


def attention(seen: int) -> int:
    """A product with keys and one with values, of width 32, for each token that a token sees."""
    return LAYERS * 2 * 2 * 32 * seen


def lengths(language_model: Path) -> tuple[int, list[int]]:
    tokenizer = load_tokenizer(language_model)
    dialogue = ask(PROMPT)
    replies = [len(encode_response(tokenizer, dialogue, reply)) for reply in REPLIES]
    return len(encode_prompt(tokenizer, dialogue)), replies


def test_sft_predicts_responses_only(
    language_model: Path, start_run: StartRun, write_lines: WriteLines
) -> None:
    data = write_lines("data.jsonl", [{"prompt": PROMPT, "response": REPLIES[0]}])
    settings = SFTSettings.parse(
        {"model": str(language_model), "data": data, "evaluation_data": data, "epochs": 1}
    )
    with start_run("sft", settings) as run:
        sft.train(settings, run)
    prompt, (reply, *_) = lengths(language_model)
    vocabulary = len(load_tokenizer(language_model))
    length = prompt + reply
    forward = 2 * MATRICES * length + attention(length * (length + 1) // 2)
    forward += 2 * 32 * vocabulary * reply
    assert operations(run) == pytest.approx(3 * forward)


def test_a_ranking_has_its_prompt_once(
    language_model: Path, start_run: StartRun, write_lines: WriteLines
) -> None:
    row = {"prompt": PROMPT, "responses": list(REPLIES), "ranks": [1, 2, 3]}
    data = write_lines("data.jsonl", [row])
    settings = PreferenceSettings.parse({"model": str(language_model), "data": data})
    with start_run("preference", settings) as run:
        preference.train(settings, run)
    prompt, replies = lengths(language_model)
    seen = prompt * (prompt + 1) // 2
    seen += sum(reply * prompt + reply * (reply + 1) // 2 for reply in replies)
    # The head that scores is one more row of 32 weights, and there are no logits.
    forward = 2 * (MATRICES + 32) * (prompt + sum(replies)) + attention(seen)
    assert operations(run) == pytest.approx(3 * forward)


def test_pretraining_predicts_all_but_the_first_token_of_a_row(
    language_model: Path, start_run: StartRun, write_lines: WriteLines
) -> None:
    data = write_lines("data.jsonl", [{"text": "The hen sat on the wall. " * 20}])
    settings = PretrainSettings.parse(
        {
            "model": str(language_model), "data": [str(data)], "context_length": 8,
            "batch_tokens": 24, "micro_batch_tokens": 16, "steps": 1,
        }
    )  # fmt: skip
    with start_run("pretrain", settings) as run:
        pretrain.train(settings, run)
    vocabulary = len(load_tokenizer(language_model))
    # Three rows of 8 tokens, in two passes: 36 seen in each, 7 predicted.
    row = 2 * MATRICES * 8 + attention(36) + 2 * 32 * vocabulary * 7
    assert operations(run) == pytest.approx(3 * 3 * row)
