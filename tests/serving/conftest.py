"""A tiny random model, and a server of it in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from openai import OpenAI
from tests.serving.tiny_models import CONTEXT, WORDS, models_served, new_tiny_model

from hark.models.checkpoint import save_model
from hark.models.tokenizer import train_tokenizer

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
        save_model(directory / name, new_tiny_model(tokenizer, seed=seed), tokenizer)
    return {name: directory / name for name in ("first", "second")}


@pytest.fixture(scope="session")
def served(model_paths: dict[str, Path]) -> Iterator[Served]:
    with models_served(model_paths, "--rows", str(ROWS)) as (url, _):
        yield Served(url=url, models=model_paths)
