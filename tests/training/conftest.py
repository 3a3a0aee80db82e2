"""A language model of width 32, its tokenizer, and small files to train on."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hark.data.records import Dialogue, Prompt, ask
from hark.models import flops
from hark.models.checkpoint import save_model
from hark.models.language_model import Architecture, new_language_model
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import padding_id, train_tokenizer
from hark.runs.run import Run
from hark.runs.settings import StageSettings
from hark.training import ppo, ppo_state
from hark.training.ppo_settings import PPOSettings
from hark.training.ppo_state import PPOState
from hark.training.rewards import Scorer

TEXTS = [
    f"The {animal} sat on the {place}. It was a {mood} day, and the {animal} was {mood} too."
    for animal in ("cat", "dog", "hen", "fox", "owl", "cow")
    for place in ("mat", "hill", "wall", "roof")
    for mood in ("sunny", "rainy", "windy")
]

TINY = Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=300)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a random language model with a context of 64 tokens."""
    directory = tmp_path_factory.mktemp("language-model") / "model"
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=300)
    model = new_language_model(
        TINY, vocabulary_size=len(tokenizer), context_length=64, seed=1,
        pad_token_id=padding_id(tokenizer), eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    save_model(directory, model, tokenizer)
    return directory


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[[str, Sequence[dict[str, Any]]], Path]:
    """Write rows of JSON to a file of that name."""

    def write(name: str, rows: Sequence[dict[str, Any]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def start_run(tmp_path: Path) -> Callable[..., Run]:
    """Start a run below the test's directory, or continue the interrupted one."""

    def start(stage: str, settings: StageSettings) -> Run:
        placed = settings.model_copy(update={"output": tmp_path / "runs"})
        return Run.start(stage=stage, settings=placed)

    return start


@dataclass(frozen=True)
class PPOWorld:
    """A small PPO run, up to the settings that a test changes."""

    directory: Path
    """Holds `sft/`, `preference/`, `texts.jsonl` and `prompts.jsonl`."""
    output: Path
    prompts: tuple[Prompt, ...] = tuple(
        Prompt(prompt=ask(text)) for text in ("a", "bc", "d e", "fgh", "i")
    )

    def settings(self, **given: Any) -> PPOSettings:
        """Steps of 16 episodes of up to 6 tokens, in two updates."""
        defaults = {
            "model": str(self.directory / "sft"),
            "preference_model": str(self.directory / "preference"),
            "data": self.directory / "prompts.jsonl",
            "output": self.output,
            "device": "cpu",
            "total_episodes": 64,
            "batch_episodes": 16,
            "minibatch_episodes": 8,
            "max_response_tokens": 6,
            "checkpoint_every": 1,
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
        }
        return PPOSettings.parse(defaults | given)

    def train(
        self,
        settings: PPOSettings,
        *,
        score: Scorer | None = None,
        prompts: Sequence[Prompt] | None = None,
        scorers: Sequence[flops.Shape] = (),
        evaluate: ppo.Evaluate | None = None,
    ) -> tuple[Run, dict[str, Any]]:
        """Start or continue the run of these settings and finish it."""
        with Run.start(stage="ppo", settings=settings) as run:
            results = ppo.train(
                settings, run, prompts=prompts or self.prompts, score=score or self.letters,
                scorers=scorers, evaluate=evaluate,
            )  # fmt: skip
            run.finish(results)
        return run, results

    @staticmethod
    def letters(dialogues: list[Dialogue]) -> Tensor:
        """How many lower-case letters each response has: the usual score."""
        texts = [dialogue[-1].content for dialogue in dialogues]
        return torch.tensor([float(sum("a" <= c <= "z" for c in text)) for text in texts])

    def state(self, settings: PPOSettings) -> PPOState:
        """The models at the start of a run."""
        with Run.start(stage="ppo", settings=settings) as run:
            return ppo_state.start(settings, run)


@pytest.fixture(scope="session")
def ppo_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that speak in bytes, of which about a tenth are lower-case letters."""
    directory = tmp_path_factory.mktemp("ppo-world")
    tokenizer = train_tokenizer(["a"], vocabulary_size=258)
    model = new_language_model(
        TINY, vocabulary_size=len(tokenizer), context_length=48, seed=1,
        pad_token_id=padding_id(tokenizer), eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    save_model(directory / "sft", model, tokenizer)
    save_model(directory / "preference", new_scalar_model(model, seed=2), tokenizer)
    lines = [json.dumps({"text": f"number {number} and so on"}) for number in range(20)]
    (directory / "texts.jsonl").write_text("\n".join(lines) + "\n")
    (directory / "prompts.jsonl").write_text("")
    return directory


@pytest.fixture
def ppo_world(ppo_directory: Path, tmp_path: Path) -> PPOWorld:
    return PPOWorld(directory=ppo_directory, output=tmp_path / "runs")


@pytest.fixture
def power_cut() -> Callable[..., AbstractContextManager[None]]:
    """Within the block the named function raises at its n-th call, and the block ends there."""

    @contextlib.contextmanager
    def cut(target: str, *, call: int) -> Iterator[None]:
        module, _, name = target.rpartition(".")
        real, calls = getattr(importlib.import_module(module), name), itertools.count(1)

        def failing(*arguments: Any, **named: Any) -> Any:
            if next(calls) == call:
                raise ConnectionError("power cut")
            return real(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(ConnectionError):
            patch.setattr(target, failing)
            yield

    return cut
