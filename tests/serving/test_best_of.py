"""The best of n, chosen by a preference model where the responses are drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from hark.data.records import answered, ask
from hark.models.checkpoint import save_model
from hark.models.language_model import load_language_model
from hark.models.scalar_head import ModelScorer, load_scalar_model, new_scalar_model
from hark.models.tokenizer import load_tokenizer
from hark.serving.application import build_application
from hark.serving.ranker import Ranker
from hark.serving.served_model import ServedModel

ASKED: dict[str, Any] = {
    "model": "first", "messages": [{"role": "user", "content": "a dog"}], "seed": 3,
    "max_tokens": 6, "temperature": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def scorer_path(model_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scorer") / "model"
    model = new_scalar_model(load_language_model(model_paths["second"]), initial_std=1.0, seed=0)
    save_model(path, model, load_tokenizer(model_paths["second"]))
    return path


@pytest.fixture(scope="module")
def client(model_paths: dict[str, Path], scorer_path: Path) -> Iterator[TestClient]:
    models = {"first": ServedModel.load("first", model_paths["first"], device="cpu")}
    with TestClient(build_application(models, Ranker.load(str(scorer_path), device="cpu"))) as one:
        yield one


def ask_for(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/chat/completions", json={**ASKED, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_response_that_scores_highest_is_told_alone(
    client: TestClient, scorer_path: Path
) -> None:
    all_drawn = [one["message"]["content"] for one in ask_for(client, n=8)["choices"]]
    score = ModelScorer(load_scalar_model(scorer_path), load_tokenizer(scorer_path))
    scores = score([answered(ask("a dog"), text) for text in all_drawn]).tolist()
    expected = all_drawn[scores.index(max(scores))]
    assert expected != all_drawn[0], "else the first would do"
    best = ask_for(client, best_of=8, logprobs=True)
    [choice] = best["choices"]
    assert (choice["index"], choice["message"]["content"]) == (0, expected)
    assert len(choice["logprobs"]["content"]) <= 6
    assert best["usage"]["completion_tokens"] > 6, "all that were drawn are counted"


def test_a_stream_tells_the_same_response(client: TestClient) -> None:
    whole = ask_for(client, best_of=8)["choices"][0]["message"]["content"]
    answer = client.post("/v1/chat/completions", json={**ASKED, "best_of": 8, "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line)["choices"][0] for line in lines]
    assert "".join(one["delta"].get("content", "") for one in chunks) == whole
    assert chunks[-1]["finish_reason"] in ("stop", "length")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"best_of": 2, "n": 2}, "leave out n"),
        ({"best_of": 2, "temperature": 0.0}, "among equals"),
        ({"best_of": 0}, "greater than or equal to 1"),
    ],
)
def test_what_leaves_nothing_to_choose_is_refused(
    client: TestClient, fields: dict[str, Any], reason: str
) -> None:
    answer = client.post("/v1/chat/completions", json={**ASKED, **fields})
    assert (answer.status_code, reason in answer.text) == (400, True), answer.text


def test_without_a_scorer_the_best_of_several_is_refused_and_of_one_is_not(
    model_paths: dict[str, Path],
) -> None:
    models = {"first": ServedModel.load("first", model_paths["first"], device="cpu")}
    with TestClient(build_application(models)) as client:
        answer = client.post("/v1/chat/completions", json={**ASKED, "best_of": 2})
        assert answer.status_code == 400
        assert "start the server with --scorer PATH" in answer.json()["error"]["message"]
        assert ask_for(client, best_of=1) | {"id": 0, "created": 0} == ask_for(client) | {
            "id": 0,
            "created": 0,
        }
