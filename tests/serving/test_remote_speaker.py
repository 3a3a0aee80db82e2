"""hark's own server wherever hark samples: the same replies as from the directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hark.cli.main import run
from hark.data.formats import write_demonstrations, write_prompts, write_texts
from hark.data.records import Demonstration, Prompt, Text, ask

WORDS = ["dog", "saw", "cat", "near", "old", "house", "ran", "home", "sleep", "all"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    write_prompts(path, [Prompt(prompt=ask(f"a {word}?")) for word in WORDS])
    return path


def outcome(capfd: pytest.CaptureFixture[str], output: Path, *options: str) -> dict[str, Any]:
    status = run([*options, "--output", str(output / "runs"), "--json"])
    told = capfd.readouterr()
    assert status == 0, told.err
    result: dict[str, Any] = json.loads(told.out.splitlines()[-1])
    return result


@pytest.mark.parametrize(
    "options",
    [
        ["--responses-per-prompt", "3"],
        ["--best-of", "4", "--scorer", "sentiment", "--sampling.temperature", "0.8"],
        ["--examples", "EXAMPLES", "--example-count", "8"],
    ],
)
def test_sample_gives_the_same_from_the_server_as_from_the_directory(
    served: Any,
    prompts: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    examples = tmp_path / "examples.jsonl"
    shown = [Demonstration(prompt=ask(word), response=word * 2) for word in WORDS]
    write_demonstrations(examples, shown)
    options = [str(examples) if option == "EXAMPLES" else option for option in options]

    def responses(model: str) -> str:
        found = outcome(
            capfd, tmp_path, "sample", "--model", model, "--data", str(prompts), *options,
            "--sampling.max-response-tokens", "12", "--seed", "5",
        )  # fmt: skip
        assert found["response_tokens"] > 1
        return Path(found["path"]).read_text()

    here = responses(str(served.models["first"]))
    assert responses(f"{served.url}#first") == here
    assert responses(f"{served.url}#second") != here


def test_a_prompt_too_long_for_the_server_is_told(
    served: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", "--model", f"{served.url}#first", "--prompt", "dog " * 100]
    assert run([*command, "--output", str(tmp_path)]) == 2
    assert "context of 'first' is 96 tokens" in capfd.readouterr().err


def test_a_win_rate_is_the_same_with_one_model_behind_an_endpoint(
    served: Any, prompts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def measured(model: str) -> dict[str, Any]:
        return outcome(
            capfd, tmp_path, "evaluate", "--model", model,
            "--baseline", str(served.models["first"]), "--judge", "sentiment",
            "--data", str(prompts), "--sampling.max-response-tokens", "12",
        )  # fmt: skip

    here, there = measured(str(served.models["second"])), measured(f"{served.url}#second")
    assert {**here, "run": ""} == {**there, "run": ""}
    assert there["n"] == len(WORDS)


def test_the_best_of_n_is_the_same_from_an_endpoint(
    served: Any, prompts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def measured(model: str, *options: str) -> dict[str, Any]:
        return outcome(
            capfd, tmp_path, "best-of", "--model", model, "--preference-model", "sentiment",
            "--judge", "sentiment", "--data", str(prompts), "--most", "4",
            "--sampling.max-response-tokens", "12", *options,
        )  # fmt: skip

    here = measured(str(served.models["second"]))
    there = measured(f"{served.url}#second", "--endpoint.attempts", "2")
    assert {**here, "run": ""} == {**there, "run": ""}
    assert there["prompts"] == len(WORDS)
    command = [
        "best-of",
        "--model",
        str(served.models["second"]),
        "--preference-model",
        "sentiment",
    ]
    command += ["--data", str(prompts), "--endpoint.attempts", "2", "--output", str(tmp_path)]
    assert run(command) == 2
    assert "endpoint would be ignored" in capfd.readouterr().err


def test_the_loss_of_an_endpoint_is_refused(
    served: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "texts.jsonl"
    write_texts(path, [Text(text="a dog")])
    command = ["evaluate", "--model", f"{served.url}#first", "--data", str(path)]
    assert run([*command, "--output", str(tmp_path / "runs")]) == 2
    assert "from which hark can only sample" in capfd.readouterr().err


def test_compare_shows_what_an_endpoint_cannot_give_as_not_measured(
    served: Any, prompts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.jsonl"
    write_texts(texts, [Text(text="a dog saw the big cat")])
    settings = {
        "policies": {
            "here": {"model": str(served.models["first"])},
            "other": {"model": str(served.models["second"])},
            "there": {"model": f"{served.url}#second", "endpoint": {"attempts": 2}},
        },
        "baseline": "here",
        "judge": "sentiment",
        "data": [str(prompts)],
        "text": [str(texts)],
        "sampling": {"max_response_tokens": 12},
    }
    config = tmp_path / "compare.yaml"
    config.write_text(yaml.safe_dump(settings))
    rows = outcome(capfd, tmp_path, "compare", "--config", str(config))["policies"]
    here, other, there = rows
    assert here["divergence"]["value"] == 0.0
    assert other["divergence"]["value"] > 0.0
    assert other["language_loss"]["value"] > 0.0
    assert there["divergence"] is None
    assert there["language_loss"] is None
    assert there["win_rate"] is not None

    assert run(["compare", "--config", str(config), "--output", str(tmp_path / "again")]) == 0
    assert "there" in capfd.readouterr().out
