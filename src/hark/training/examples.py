"""Demonstrations and comparisons as token ids that fit the context.

What does not fit is cut by `hark.models.fitting`, and every cut is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Self, TypeVar

from transformers import PreTrainedTokenizerBase

from hark.data.formats import OnBadLine, ReadReport, Records, iterate_texts
from hark.data.records import Dialogue, Text
from hark.errors import DataError
from hark.models.fitting import CutCounts, LongResponses, cut_to_context
from hark.models.packing import PromptTree
from hark.models.tokenizer import encode_prompt, encode_response
from hark.runs.run import Run
from hark.settings import Paths as Paths
from hark.training.trainer import TrainingSettings

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located(Generic[Record]):
    """A record and where it came from, for messages."""

    record: Record
    where: str
    """`record 17 of 'pairs.jsonl'`, counted from 1 over the records that were read."""


@dataclass(slots=True, kw_only=True)
class RecordReader:
    """Reads a stage's files of records and counts the malformed rows that were skipped."""

    on_bad_line: OnBadLine
    skipped_directory: Path
    """Where skipped rows are kept."""
    bad_lines_skipped: int = 0

    @classmethod
    def of(cls, settings: TrainingSettings, run: Run) -> Self:
        return cls(on_bad_line=settings.on_bad_line, skipped_directory=run.skipped_path)

    def read(
        self, read: Callable[..., Records[Record]], paths: Sequence[Path]
    ) -> list[Located[Record]]:
        """Read every path in turn. Raises: DataError if together they hold no record."""
        found: list[Located[Record]] = []
        for path in paths:
            records = read(
                str(path), on_bad_line=self.on_bad_line, skipped_directory=self.skipped_directory
            )
            self.bad_lines_skipped += records.report.skipped
            found += [
                Located(record=record, where=f"record {number} of '{path}'")
                for number, record in enumerate(records, start=1)
            ]
        if not found:
            raise DataError("no data to learn from; give --data a file of records")
        return found

    def stream_texts(self, paths: Sequence[Path | str]) -> list[tuple[str, Iterator[Text]]]:
        """The documents of each path, read when they are asked for, under the path's name."""
        return [(str(path), self._texts(str(path))) for path in paths]

    def _texts(self, path: str) -> Iterator[Text]:
        report = ReadReport()
        yield from iterate_texts(
            path,
            on_bad_line=self.on_bad_line,
            skipped_directory=self.skipped_directory,
            report=report,
        )
        self.bad_lines_skipped += report.skipped


def encode_tree(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Dialogue,
    responses: Sequence[str],
    *,
    context: int,
    long_responses: LongResponses,
    where: str,
    allow_empty: bool,
) -> tuple[PromptTree | None, CutCounts]:
    """Encode a prompt with its responses; None if the record is dropped for a long response.

    Empty responses are allowed where `allow_empty` says so: they are the end token alone.
    Raises: DataError, which starts with `where`, for a response without tokens or a dialogue that
    the chat template cannot render.
    """
    try:
        prompt_ids = encode_prompt(tokenizer, prompt)
        response_ids = [
            encode_response(tokenizer, prompt, response, allow_empty=allow_empty)
            for response in responses
        ]
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return cut_to_context(prompt_ids, response_ids, context=context, long_responses=long_responses)
