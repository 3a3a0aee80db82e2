"""A tiny random model, and a server of it in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import OpenAI

from hark.models.checkpoint import save_model
from hark.models.language_model import Architecture, new_language_model
from hark.models.tokenizer import train_tokenizer

WORDS = "a small dog saw the big cat near an old house and ran home to sleep all day long"
TINY = Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=280)
CONTEXT = 96
ROWS = 8


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    models: dict[str, Path]
    rows: int = ROWS
    context: int = CONTEXT

    def client(self) -> OpenAI:
        return OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=30)

    @property
    def health(self) -> str:
        return self.url.removesuffix("/v1") + "/health"


@pytest.fixture(scope="session")
def model_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models with one tokenizer and different weights."""
    directory = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer([WORDS] * 20, vocabulary_size=280)
    for seed, name in enumerate(("first", "second")):
        model = new_language_model(
            TINY, vocabulary_size=len(tokenizer), context_length=CONTEXT, seed=seed,
            pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        for parameter in model.parameters():
            # The usual 0.02 would leave all tokens equally probable and all prompts alike.
            parameter.data.mul_(8.0 if parameter.ndim == 2 else 1.0)
        save_model(directory / name, model, tokenizer)
    return {name: directory / name for name in ("first", "second")}


@pytest.fixture(scope="session")
def served(model_paths: dict[str, Path]) -> Iterator[Served]:
    command = [
        sys.executable, "-m", "hark", "serve-model",
        *(f"{name}={path}" for name, path in model_paths.items()),
        "--port", "0", "--rows", str(ROWS), "--device", "cpu", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["status"] == "ready"
        yield Served(url=ready["url"], models=model_paths)
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
