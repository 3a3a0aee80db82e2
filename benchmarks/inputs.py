"""The model and the data of a benchmark, as token ids that every contender reads alike.

A person's own, or random weights and the playground's dialogues, so that a benchmark runs anywhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.formats import read_comparisons, read_demonstrations, read_prompts
from hark.data.records import Comparison, Demonstration, Dialogue, answered
from hark.models.checkpoint import save_model
from hark.models.language_model import (
    Architecture,
    context_length,
    load_language_model,
    new_language_model,
)
from hark.models.packing import PromptTree
from hark.models.scalar_head import new_scalar_model
from hark.models.tokenizer import encode_prompt, encode_response, load_tokenizer, train_tokenizer
from hark.playground.demonstrations import demonstrations, mixed_comparisons
from hark.playground.text import pretraining_texts
from hark.runs.run import resolve_model

SIZE, VOCABULARY, CONTEXT = "8m", 8192, 512
"""Of the random-weight model."""
WORLD = 4000
"""Playground records to draw from."""
EARLIER_TURNS = (0, 1, 2, 3, 5)
"""Questions before the last one, equally often: prompts of 20 to 300 tokens."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A model, and where records come from."""

    directory: Path
    """The language model, with its tokenizer."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    files: tuple[str, ...]
    """Empty for the playground."""
    skipped: Path
    """Where malformed lines of the files are kept."""
    seed: int

    @classmethod
    def of(cls, asked: argparse.Namespace) -> Inputs:
        """What the command line asks for."""
        asked.work.mkdir(parents=True, exist_ok=True)
        given = asked.model is not None
        directory = resolve_model(asked.model) if given else random_model(asked.work / "model")
        return cls(
            directory=directory,
            model=load_language_model(directory),
            tokenizer=load_tokenizer(directory),
            files=tuple(asked.data),
            skipped=asked.work / "skipped",
            seed=asked.seed,
        )

    @property
    def context(self) -> int:
        return min(CONTEXT, context_length(self.model))

    def demonstrations(self, count: int) -> list[PromptTree]:
        """Dialogues with one response each, no longer than the context."""
        records: Iterable[Demonstration]
        if self.files:
            found = read_demonstrations(
                list(self.files), on_bad_line="skip", skipped_directory=self.skipped
            )
            records = self._shuffled(found)
        else:
            records = conversations(self.seed)
        trees = (self._tree(record.prompt, (record.response,)) for record in records)
        return self._fitting(trees, count, "demonstrations")

    def comparisons(self, count: int, *, responses: int) -> list[PromptTree]:
        """Prompts with `responses` responses, best first, each no longer than the context."""
        records = (self._best_first(record, responses) for record in self._comparisons(responses))
        trees = (self._tree(*record) for record in records if record is not None)
        return self._fitting(trees, count, f"comparisons of {responses}")

    def prompts(self, count: int, *, room: int) -> list[tuple[Dialogue, list[int]]]:
        """Prompts that leave `room` tokens of the context free: as written, and as tokens."""
        dialogues: Iterable[Dialogue]
        if self.files:
            found = read_prompts(
                list(self.files), on_bad_line="skip", skipped_directory=self.skipped
            )
            dialogues = (record.prompt for record in self._shuffled(found))
        else:
            dialogues = (record.prompt for record in conversations(self.seed))
        encoded = ((each, encode_prompt(self.tokenizer, each)) for each in dialogues)
        fitting = (pair for pair in encoded if len(pair[1]) <= self.context - room)
        return _take(fitting, count, "prompts")

    def _comparisons(self, responses: int) -> Iterable[Comparison]:
        if not self.files:
            made = mixed_comparisons(WORLD, self.seed, responses=responses)
            return (
                dataclasses.replace(record, prompt=earlier + record.prompt)
                for earlier, record in zip(openings(self.seed), made, strict=False)
            )
        found = read_comparisons(
            list(self.files), on_bad_line="skip", skipped_directory=self.skipped
        )
        return self._shuffled(found)

    def _best_first(
        self, record: Comparison, responses: int
    ) -> tuple[Dialogue, tuple[str, ...]] | None:
        """`responses` of a comparison in an order without ties: which one matters to no clock."""
        chosen = sorted(
            range(len(record.responses)), key=lambda i: (record.ranks[i] if record.ranks else 0, i)
        )[:responses]
        texts = tuple(record.responses[i] for i in chosen)
        enough = len(texts) == responses and all(text.strip() for text in texts)
        return (record.prompt, texts) if enough else None

    def _tree(self, prompt: Dialogue, responses: Sequence[str]) -> PromptTree | None:
        if not all(text.strip() for text in responses):
            return None
        return PromptTree(
            tuple(encode_prompt(self.tokenizer, prompt)),
            tuple(tuple(encode_response(self.tokenizer, prompt, text)) for text in responses),
        )

    def _fitting(
        self, trees: Iterator[PromptTree | None], count: int, what: str
    ) -> list[PromptTree]:
        fitting = (tree for tree in trees if tree and tree.longest_sequence <= self.context)
        return _take(fitting, count, what)

    def _shuffled(self, records: Sequence[object]) -> Iterator[object]:
        order = np.random.default_rng(self.seed).permutation(len(records))
        return (records[int(place)] for place in order)


def random_model(directory: Path, size: str | Architecture = SIZE) -> Path:
    """A Llama of random weights (8.4 M) with a tokenizer of the playground; made once."""
    if not (directory / "config.json").exists():
        texts = (text.text for text in pretraining_texts(WORLD, 0))
        tokenizer = train_tokenizer(texts, vocabulary_size=VOCABULARY)
        model = new_language_model(
            size, vocabulary_size=VOCABULARY, context_length=CONTEXT, seed=0,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        save_model(directory, model, tokenizer)
    return directory


def scalar_model(inputs: Inputs, directory: Path) -> Path:
    """The language model with a random scalar head, as a preference model starts."""
    save_model(directory, new_scalar_model(inputs.model, seed=inputs.seed), inputs.tokenizer)
    return directory


def conversations(seed: int) -> Iterator[Demonstration]:
    """Playground demonstrations after a few turns of others: dialogues of many lengths."""
    last = demonstrations(WORLD, seed + 1)
    for opening, record in zip(openings(seed), last, strict=False):
        yield dataclasses.replace(record, prompt=opening + record.prompt)


def openings(seed: int) -> Iterator[Dialogue]:
    """Beginnings of dialogues: no, one or several questions with their answers; endless."""
    draw = random.Random(f"{seed}/openings")
    records = itertools.cycle(demonstrations(WORLD, seed))
    while True:
        turns = (next(records) for _ in range(draw.choice(EARLIER_TURNS)))
        yield tuple(message for turn in turns for message in answered(turn.prompt, turn.response))


def _take(found: Iterator[object], count: int, what: str) -> list:
    taken = list(itertools.islice(found, count))
    if len(taken) < count:
        raise SystemExit(f"only {len(taken)} {what} fit the context, not {count}; give more data")
    return taken
