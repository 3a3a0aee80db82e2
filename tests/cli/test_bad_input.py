"""Whatever a person gets wrong ends in one sentence and exit status 2, without a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hark.cli.main import run
from hark.models.checkpoint import save_model
from hark.models.language_model import new_language_model
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import train_tokenizer

CONTEXT = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base` and `preference`, and `other`, whose tokenizer knows more tokens than base."""
    directory = tmp_path_factory.mktemp("models")
    words = "a small dog saw the big cat near an old house and ran home to sleep all day long"
    for name, vocabulary in (("base", 280), ("other", 300)):
        tokenizer = train_tokenizer([words] * 20, vocabulary_size=vocabulary)
        model = new_language_model(
            "0.5m", vocabulary_size=len(tokenizer), context_length=CONTEXT, seed=0,
            pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        save_model(directory / name, model, tokenizer)
        if name == "base":
            save_model(directory / "preference", new_scalar_model(model), tokenizer)
    shutil.copytree(directory / "base", directory / "mismatched")
    for file in (directory / "other").glob("token*"):
        shutil.copy(file, directory / "mismatched")
    shutil.copytree(directory / "base", directory / "poisoned")
    weights = load_file(directory / "base" / "model.safetensors")
    name = next(iter(weights))
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, directory / "poisoned" / "model.safetensors", metadata={"format": "pt"})
    return directory


def lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def demonstration(prompt: str = "Hi", response: str = "Hello.") -> dict[str, object]:
    return {"prompt": [{"role": "user", "content": prompt}], "response": response}


def comparison(ranks: list[int]) -> dict[str, object]:
    replies = [f"reply {number}" for number in range(len(ranks))]
    return {
        "prompt": [{"role": "user", "content": "Hi"}],
        "responses": replies,
        "ranks": ranks,
    }


Case = Callable[[Path, Path], list[str]]

CASES: dict[str, tuple[Case, str]] = {
    "missing file": (
        lambda models, files: ["sft", "--model", f"{models}/base", "--data", f"{files}/none.jsonl"],
        "none.jsonl",
    ),
    "empty file": (
        lambda models, files: [
            *("sft", "--model", f"{models}/base", "--data", lines(files / "empty.jsonl")),
        ],
        "empty.jsonl",
    ),
    "wrong kind of data": (
        lambda models, files: [
            *("preference", "--model", f"{models}/base"),
            *("--data", lines(files / "d.jsonl", demonstration())),
        ],
        "demonstration",
    ),
    "malformed line": (
        lambda models, files: [
            *("sft", "--model", f"{models}/base"),
            *("--data", lines(files / "d.jsonl", demonstration(), {"prompt": 3})),
        ],
        "d.jsonl:2",
    ),
    "prompt longer than the context": (
        lambda models, files: [
            *("ppo", "--model", f"{models}/base", "--preference-model", f"{models}/preference"),
            *("--data", lines(files / "d.jsonl", demonstration("dog " * 200))),
            *("--max-response-tokens", "8", "--batch-episodes", "8", "--total-episodes", "8"),
            *("--minibatch-episodes", "8"),
        ],
        "context of 64",
    ),
    "response of no tokens": (
        lambda models, files: [
            *("sft", "--model", f"{models}/base"),
            *("--data", lines(files / "d.jsonl", demonstration(response=""))),
        ],
        "response",
    ),
    "all-tied ranking": (
        lambda models, files: [
            *("preference", "--model", f"{models}/base"),
            *("--data", lines(files / "c.jsonl", comparison([1, 2]), comparison([1, 1, 1]))),
        ],
        "c.jsonl",
    ),
    "not-a-number in the weights": (
        lambda models, files: [
            *("sft", "--model", f"{models}/poisoned"),
            *("--data", lines(files / "d.jsonl", demonstration())),
        ],
        "finite",
    ),
    "tokenizer of another model": (
        lambda models, files: [
            *("sft", "--model", f"{models}/mismatched"),
            *("--data", lines(files / "d.jsonl", demonstration())),
        ],
        "token",
    ),
    "no model there": (
        lambda models, files: [
            *("sample", "--model", f"{files}/nowhere", "--prompt", "Hi"),
        ],
        "nowhere",
    ),
    "unknown option": (
        lambda models, files: ["sft", "--epoch", "3"],
        "--epochs",
    ),
    "unknown setting in a file": (
        lambda models, files: ["sft", "--config", settings_file(files, "epoch: 3")],
        "did you mean 'epochs'",
    ),
    "setting that would be ignored": (
        lambda models, files: [
            *("ppo", "--model", f"{models}/base", "--preference-model", f"{models}/preference"),
            *("--data", lines(files / "d.jsonl", demonstration())),
            *("--pretraining-coefficient", "3"),
        ],
        "would be ignored",
    ),
    "setting out of range": (
        lambda models, files: [
            *("sft", "--model", f"{models}/base", "--epochs", "0"),
            *("--data", lines(files / "d.jsonl", demonstration())),
        ],
        "epochs",
    ),
    "unknown recipe": (lambda models, files: ["run", "instructgtp"], "instructgpt"),
    "unknown scorer": (
        lambda models, files: [
            *("ppo", "--model", f"{models}/base", "--preference-model", "sentimet"),
            *("--data", lines(files / "d.jsonl", demonstration()), "--critic", "shared"),
        ],
        "did you mean 'sentiment'",
    ),
    "win rate without a judge": (
        lambda models, files: [
            *("evaluate", "--model", f"{models}/base", "--baseline", f"{models}/base"),
            *("--data", lines(files / "d.jsonl", demonstration())),
        ],
        "judge",
    ),
}


def settings_file(directory: Path, text: str) -> str:
    path = directory / "settings.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", list(CASES))
def test_one_sentence_and_status_two(
    name: str, models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case, expected = CASES[name]
    command = case(models, tmp_path)
    output = [] if command[0] == "run" else ["--output", str(tmp_path / "runs")]
    status = run([*command, *output])
    told = capfd.readouterr()
    assert status == 2, told.err
    assert "Traceback" not in told.err
    message = told.err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert expected in told.err


def test_with_json_the_last_line_is_the_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["sft", "--model", "x", "--data", str(tmp_path / "none"), "--json"]) == 2
    last = capfd.readouterr().out.strip().splitlines()[-1]
    assert "none" in json.loads(last)["error"]
