"""Strange prompts are refused before any model is asked, and the server counts them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from hark.cli.serve_model import serve_model
from hark.data.records import ask
from hark.errors import HarkError
from hark.models.outlier_detector import OutlierDetector, OutlierGuard
from hark.serving.application import build_application
from hark.serving.gatekeeper import Gatekeeper
from hark.serving.served_model import ServedModel

ORDINARY, STRANGE = "a dog", "the big cat saw an old house and ran home"
REFUSAL = "I would rather not."


@pytest.fixture(scope="module")
def run(model_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector whose threshold lies between the two prompts."""
    path = tmp_path_factory.mktemp("outliers")
    plain: dict[str, Any] = {
        "method": "mahalanobis", "layer": 1, "pooling": "mean", "centre": np.zeros(32),
        "quadratic": np.zeros((32, 32)), "linear": np.ones(32), "threshold": 0.0,
        "false_refusal_rate": 0.125, "model": str(model_paths["first"]),
    }  # fmt: skip
    OutlierDetector(**plain).save(path / "detector")
    low, high = OutlierGuard.load(path, device="cpu").scores([ask(ORDINARY), ask(STRANGE)])
    sign = 1.0 if high > low else -1.0
    threshold = sign * (low + high) / 2
    plain |= {"linear": sign * np.ones(32), "threshold": float(threshold)}
    OutlierDetector(**plain).save(path / "detector")
    return path


@pytest.fixture(scope="module")
def client(model_paths: dict[str, Path], run: Path) -> Iterator[TestClient]:
    models = {"first": ServedModel.load("first", model_paths["first"], device="cpu")}
    keeper = Gatekeeper.load(run, text=REFUSAL, device="cpu")
    with TestClient(build_application(models, gatekeeper=keeper)) as one:
        yield one


def ask_for(client: TestClient, prompt: str, **fields: Any) -> Any:
    body = {"model": "first", "messages": [{"role": "user", "content": prompt}], "max_tokens": 4}
    return client.post("/v1/chat/completions", json=body | fields)


def test_a_strange_prompt_is_refused_and_an_ordinary_one_answered(client: TestClient) -> None:
    before = client.get("/health").json()["gatekeeper"]
    drawn = client.get("/health").json()["models"]["first"]["drawn_tokens"]
    strange = ask_for(client, STRANGE, n=2).json()
    messages = [choice["message"] for choice in strange["choices"]]
    assert messages == [{"role": "assistant", "content": REFUSAL, "refusal": REFUSAL}] * 2
    assert [choice["finish_reason"] for choice in strange["choices"]] == ["stop", "stop"]
    assert strange["usage"]["completion_tokens"] == 0
    assert client.get("/health").json()["models"]["first"]["drawn_tokens"] == drawn
    ordinary = ask_for(client, ORDINARY).json()["choices"][0]
    assert ordinary["message"]["refusal"] is None
    after = client.get("/health").json()["gatekeeper"]
    assert after["seen"] - before["seen"] == 2
    assert after["refused"] - before["refused"] == 1
    assert after["false_refusal_rate"] == 0.125


def test_a_stream_tells_the_refusal_too(client: TestClient) -> None:
    text = ask_for(client, STRANGE, stream=True).text
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == REFUSAL
    assert deltas[-1]["refusal"] == REFUSAL
    assert text.strip().endswith("data: [DONE]")


def test_bare_texts_do_not_pass_by_the_gate(client: TestClient) -> None:
    answer = client.post("/v1/completions", json={"model": "first", "prompt": STRANGE})
    assert answer.status_code == 400
    assert "use /v1/chat/completions" in answer.json()["error"]["message"]


def test_settings_that_do_not_fit_are_refused(model_paths: dict[str, Path], tmp_path: Path) -> None:
    path = [str(model_paths["first"])]
    with pytest.raises(HarkError, match="--refusal would be ignored"):
        serve_model(path, port=0, refusal="No.")
    with pytest.raises(HarkError, match="holds no detector of outliers"):
        serve_model(path, port=0, device="cpu", refuse_out_of_distribution=tmp_path)
