"""The teacher of context distillation: reads and answers after a context, and is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hark.data.formats import read_prompts
from hark.data.mixing import permutation
from hark.data.records import Prompt
from hark.errors import DataError
from hark.models.generation import generate
from hark.models.language_model import (
    check_match,
    context_length,
    load_language_model,
    output_embedding,
)
from hark.models.logprobs import CHUNK_LOGITS, LEAST_CHUNK_TOKENS, hidden_states
from hark.models.packing import PackedBatch, PromptTree, pack_for, plan_batches
from hark.models.tokenizer import encode_prompt
from hark.runs.progress import progress
from hark.runs.run import Run
from hark.training.distill_settings import DistillSettings
from hark.training.examples import Located, RecordReader
from hark.training.teacher_file import Taught, TeacherFile
from hark.training.token_file import TokenFile, write_token_file
from hark.training.top_classes import TopClasses, top_classes
from hark.training.trainer import seed_of

BLOCK_EXAMPLES = 64
"""Sequences that the teacher reads, and the file takes in, at once."""


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """All that the teacher wrote down for a run."""

    texts: TeacherFile
    answers: TeacherFile | None
    held_out: TeacherFile | None
    context_tokens: int
    prompts_skipped: int
    """Questions too long for the model's context with a longest answer."""
    bad_lines_skipped: int

    def __len__(self) -> int:
        return len(self.texts) + (len(self.answers) if self.answers else 0)

    def __getitem__(self, number: int) -> Taught:
        if number < len(self.texts):
            return self.texts[number]
        assert self.answers is not None
        return self.answers[number - len(self.texts)]


def encode_context(tokenizer: PreTrainedTokenizerBase, path: Path) -> list[int]:
    """The context's tokens, with the tokenizer's own first token where it writes one.

    Raises: DataError if the file is empty or cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read the context '{path}' ({error}); give a UTF-8 text file"
        ) from None
    if not text.strip():
        raise DataError(f"the context '{path}' is empty: there is nothing to distil")
    return list(tokenizer(text.rstrip("\n"), verbose=False)["input_ids"])


def after_context(context: Sequence[int], tree: PromptTree, begin: int | None) -> PromptTree:
    """What the teacher reads of what the student reads as `tree`: the same after the context.

    begin: the token that begins texts, which only the context keeps.
    """
    own = tree.prompt[1:] if begin is not None and tree.prompt[:1] == (begin,) else tree.prompt
    return PromptTree((*context, *own), tree.responses)


def write_lessons(
    settings: DistillSettings,
    run: Run,
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
) -> Lessons:
    """Let the teacher read, answer and predict; what an interrupted run has is taken up.

    Raises: HarkError for data or a context that cannot be used.
    """
    reader = RecordReader.of(settings, run)
    teacher = load_language_model(source, device=device, dtype=settings.dtype)
    check_match(teacher, tokenizer)
    school = School(
        settings=settings, run=run, model=teacher, tokenizer=tokenizer,
        context=tuple(encode_context(tokenizer, settings.context)),
    )  # fmt: skip
    wanted = settings.tokens
    answers, skipped = None, 0
    if settings.question_data:
        wanted = round(settings.tokens * settings.text_share)
        questions, skipped = school.that_fit(reader.read(read_prompts, settings.question_data))
        answers = school.answer(questions, tokens=settings.tokens - wanted)
    texts = write_token_file(
        run.data_path("tokens.bin"), reader.stream_texts(settings.data), tokenizer
    )
    held_out = None
    if settings.evaluation_data:
        found = reader.stream_texts(settings.evaluation_data)
        held_out = write_token_file(run.data_path("evaluation-tokens.bin"), found, tokenizer)
    return Lessons(
        texts=school.read("texts", texts, tokens=wanted),
        answers=answers,
        held_out=school.read("evaluation", held_out) if held_out else None,
        context_tokens=len(school.context),
        prompts_skipped=skipped,
        bad_lines_skipped=reader.bad_lines_skipped,
    )


@dataclass(frozen=True, kw_only=True)
class School:
    """The teacher and how it reads: always after the context."""

    settings: DistillSettings
    run: Run
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: tuple[int, ...]

    @property
    def room(self) -> int:
        """Tokens the context leaves for a piece of text. Raises: DataError if there are none."""
        room = context_length(self.model) - len(self.context)
        if room < 2:
            raise DataError(
                f"the context '{self.settings.context}' has {len(self.context)} tokens, which "
                f"leaves nothing of the model's {context_length(self.model)}; shorten it"
            )
        return min(room, self.settings.row_tokens or room)

    def that_fit(self, questions: Sequence[Located[Prompt]]) -> tuple[list[list[int]], int]:
        """The questions' tokens, and how many are too long with the context and an answer."""
        encoded = [encode_prompt(self.tokenizer, each.record.prompt) for each in questions]
        room = context_length(self.model) - len(self.context)
        room -= self.settings.sampling.max_response_tokens
        kept = [tokens for tokens in encoded if len(tokens) <= room]
        if not kept:
            raise DataError(
                f"none of the {len(encoded)} questions fits the model's context of "
                f"{context_length(self.model)} tokens after a context of {len(self.context)} with "
                "an answer of sampling.max_response_tokens "
                f"{self.settings.sampling.max_response_tokens}; lower that or shorten the context"
            )
        return kept, len(encoded) - len(kept)

    def answer(self, questions: Sequence[Sequence[int]], *, tokens: int) -> TeacherFile:
        """Answers to the questions in a random order, until there are `tokens` of them."""
        order = permutation(len(questions), seed=self.settings.seed, stream=1)

        def block(places: Sequence[int]) -> list[PromptTree]:
            chosen = [PromptTree(tuple(questions[int(order[place])]), ((0,),)) for place in places]
            asked = [self._as_read(tree).prompt for tree in chosen]
            drawn = generate(
                self.model, self.tokenizer, asked, self.settings.sampling,
                seed=seed_of(self.settings.seed, 1), sequence_ids=list(places),
            )  # fmt: skip
            return [
                PromptTree(tree.prompt, (reply.tokens,))
                for tree, reply in zip(chosen, drawn, strict=True)
            ]

        return self._write("answers", len(questions), block, tokens=tokens)

    def read(self, name: str, texts: TokenFile, *, tokens: int | None = None) -> TeacherFile:
        """Pieces of the texts in a random order, until there are `tokens` of them."""
        ends = np.flatnonzero(np.asarray(texts.ids) == self.tokenizer.eos_token_id)
        pieces = list(_pieces(ends, self.room))
        order = permutation(len(pieces), seed=self.settings.seed, stream=0)

        def block(places: Sequence[int]) -> list[PromptTree]:
            spans = (pieces[int(order[place])] for place in places)
            rows = (texts.ids[start:stop].tolist() for start, stop in spans)
            return [PromptTree((row[0],), (tuple(row[1:]),)) for row in rows]

        return self._write(name, len(pieces), block, tokens=tokens)

    @torch.no_grad()
    def _write(
        self,
        name: str,
        count: int,
        block: Callable[[Sequence[int]], list[PromptTree]],
        *,
        tokens: int | None,
    ) -> TeacherFile:
        """Blocks of examples, each a function of its place, after those that are there already."""
        classes = min(self.settings.classes, self.vocabulary)
        file = TeacherFile.open(
            self.run.data_path(f"teacher-{name}.bin"), classes=classes, vocabulary=self.vocabulary
        )
        with progress(total=tokens, label=f"teacher: {name}", unit="token") as bar:
            bar.advance(file.predicted_tokens)
            while len(file) < count and (tokens is None or file.predicted_tokens < tokens):
                before = file.predicted_tokens
                trees = block(range(len(file), min(len(file) + BLOCK_EXAMPLES, count)))
                file.append(self._taught(trees, classes))
                bar.advance(file.predicted_tokens - before)
        return file

    @property
    def vocabulary(self) -> int:
        """Tokens the model has a logit for."""
        return int(self.model.config.get_text_config().vocab_size)

    def _as_read(self, tree: PromptTree) -> PromptTree:
        begin = self.tokenizer.bos_token_id
        return after_context(self.context, tree, begin if self.context[:1] == (begin,) else None)

    def _taught(self, trees: Sequence[PromptTree], classes: int) -> list[Taught]:
        read = [self._as_read(tree) for tree in trees]
        taught: list[Taught | None] = [None] * len(trees)
        for group in plan_batches(read, self.settings.pass_tokens(self.model.device)):
            packed = pack_for(self.model, [read[place] for place in group])
            found = predictions(self.model, packed.to(self.model.device), classes)
            for place, own in zip(group, _split(found, packed.lengths.tolist()), strict=True):
                taught[place] = Taught(tree=trees[place], classes=own)
        return [each for each in taught if each is not None]


def _pieces(ends: Sequence[int] | np.ndarray[Any, Any], room: int) -> Iterator[tuple[int, int]]:
    """Where documents, each with its end token, begin and end, cut to `room` tokens."""
    start = 0
    for end in ends:
        for first in range(start, int(end) + 1, room):
            stop = min(first + room, int(end) + 1)
            if stop - first > 1:
                yield first, stop
        start = int(end) + 1


def predictions(model: PreTrainedModel, batch: PackedBatch, k: int) -> TopClasses:
    """The k likeliest classes, and the rest, of every response token of a batch, on the CPU."""
    hidden = hidden_states(model, batch, batch.predictors)
    parts = [
        top_classes(output_embedding(model)(rows), k) for rows in hidden.split(chunk_tokens(model))
    ]
    return TopClasses(
        ids=torch.cat([part.ids for part in parts]).cpu(),
        logprobs=torch.cat([part.logprobs for part in parts]).cpu(),
        rest=torch.cat([part.rest for part in parts]).cpu(),
    )


def chunk_tokens(model: PreTrainedModel) -> int:
    """Predictions whose logits are computed at once."""
    vocabulary = model.config.get_text_config().vocab_size
    return max(LEAST_CHUNK_TOKENS, CHUNK_LOGITS // int(vocabulary))


def _split(classes: TopClasses, lengths: Sequence[int]) -> Iterator[TopClasses]:
    for ids, logprobs, rest in zip(
        classes.ids.split(list(lengths)), classes.logprobs.split(list(lengths)),
        classes.rest.split(list(lengths)), strict=True,
    ):  # fmt: skip
        yield TopClasses(ids=ids, logprobs=logprobs, rest=rest)
