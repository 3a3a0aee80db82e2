"""Tiny models, random or taught one sentence, and a server of them in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.records import Dialogue, Message, ask
from hark.models.checkpoint import save_model
from hark.models.language_model import Architecture, new_language_model
from hark.models.tokenizer import encode_prompt, train_tokenizer

WORDS = "a small dog saw the big cat near an old house and ran home to sleep all day long"
TINY = Architecture(width=32, layers=2, heads=2, mlp_width=48, named_vocabulary=280)
CONTEXT = 96
TURN = (Message("user", "Hello 0"), Message("assistant", "a small cat ran"))
QUESTIONS: tuple[Dialogue, ...] = (
    ask("Hello"), ask("What now?"), (*TURN, *ask("the big cat")), (*TURN, *TURN, *ask("Hello 2")),
)  # fmt: skip


def new_tiny_model(
    tokenizer: PreTrainedTokenizerBase, *, seed: int, context: int = CONTEXT
) -> PreTrainedModel:
    """A random model that is not indifferent to what it reads."""
    model = new_language_model(
        TINY, vocabulary_size=len(tokenizer), context_length=context, seed=seed,
        pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    for parameter in model.parameters():
        # The usual 0.02 would leave all tokens equally probable and all prompts alike.
        parameter.data.mul_(8.0 if parameter.ndim == 2 else 1.0)
    return model


def save_taught_models(directory: Path, sentences: Mapping[str, str]) -> dict[str, Path]:
    """Models that answer whatever they are asked with their sentence, and end."""
    tokenizer = train_tokenizer([WORDS] * 20, vocabulary_size=280)
    paths = {name: directory / name for name in sentences}
    for name, sentence in sentences.items():
        model = new_tiny_model(tokenizer, seed=0, context=512)
        _teach(model, tokenizer, sentence, QUESTIONS)
        save_model(paths[name], model, tokenizer)
    return paths


def _teach(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentence: str,
    questions: Sequence[Dialogue],
) -> None:
    response = [*tokenizer(sentence)["input_ids"], 1]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(100):
        prompt = encode_prompt(tokenizer, questions[step % len(questions)])
        tokens = torch.tensor([[*prompt, *response]])
        labels = torch.tensor([[-100] * len(prompt) + response])
        logits = model(tokens).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, labels[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@contextlib.contextmanager
def models_served(
    paths: Mapping[str, Path], *options: str, port: int = 0
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of a server of models, and its process."""
    command = [
        sys.executable, "-m", "hark", "serve-model",
        *(f"{name}={path}" for name, path in paths.items()),
        "--port", str(port), "--device", "cpu", "--json", *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["status"] == "ready"
        yield ready["url"], process
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
