"""Texts as one stream of token ids on the disk, mapped into memory: 100 M tokens need no RAM.

Each document is followed by the end token. Ids are 2 bytes wide where the vocabulary allows. The
description beside the stream is written last: without it the stream is not whole and made again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from hark.data.records import Text
from hark.errors import DataError
from hark.runs.files import explain_disk_errors, write_json
from hark.runs.progress import progress

DOCUMENTS_AT_ONCE = 256
"""Documents handed to the tokenizer together; it encodes them in parallel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The documents of one file, end to end."""

    name: str
    start: int
    """Index of its first token in the stream."""
    tokens: int
    documents: int


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A stream of token ids and where each source lies in it."""

    ids: npt.NDArray[np.unsignedinteger]
    """[tokens] mapped from the disk."""
    sources: tuple[Source, ...]
    bad_lines_skipped: int
    """Malformed rows left out when the texts were read."""

    def row(self, source: Source, index: int, row_tokens: int) -> npt.NDArray[np.int64]:
        """Row `index` of a source: `row_tokens` ids, of which the first is the last of the row
        before, so that every token but a source's first is predicted exactly once."""
        start = source.start + index * (row_tokens - 1)
        end = min(start + row_tokens, source.start + source.tokens)
        return self.ids[start:end].astype(np.int64)


def rows_of(source: Source, row_tokens: int, *, partial: bool = False) -> int:
    """Whole rows in a source; with `partial`, a last shorter one counts as well."""
    predicted = max(0, source.tokens - 1)
    whole, rest = divmod(predicted, row_tokens - 1)
    return whole + int(partial and rest > 0)


def read_token_file(path: Path) -> TokenFile | None:
    """Map a finished token file; None if there is none."""
    description = path.with_suffix(".json")
    if not description.exists():
        return None
    values = json.loads(description.read_text(encoding="utf-8"))
    ids = np.memmap(path, dtype=values["dtype"], mode="r")
    return TokenFile(
        ids=ids,
        sources=tuple(Source(**source) for source in values["sources"]),
        bad_lines_skipped=values["bad_lines_skipped"],
    )


def write_token_file(
    path: Path,
    texts: Sequence[tuple[str, Iterable[Text]]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    bad_lines_skipped: Callable[[], int] = lambda: 0,
) -> TokenFile:
    """Tokenise named streams of texts into `path`, or map it if this run finished it before.

    `bad_lines_skipped` says, once they are read, how many malformed rows the streams left out.
    Raises: DataError if a stream holds no text, RunError if the disk refuses.
    """
    if (whole := read_token_file(path)) is not None:
        return whole
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    sources: list[Source] = []
    start = 0
    with explain_disk_errors(path), path.open("wb") as file:
        for name, documents in texts:
            tokens = count = 0
            for ids in _encoded(documents, tokenizer, label=f"tokens of {Path(name).name}"):
                np.asarray(ids, dtype=dtype).tofile(file)
                tokens, count = tokens + len(ids), count + 1
            if tokens < 2:
                raise DataError(f"'{name}' holds no text; give a file that does")
            sources.append(Source(name=name, start=start, tokens=tokens, documents=count))
            start += tokens
    description = {
        "dtype": np.dtype(dtype).name,
        "bad_lines_skipped": bad_lines_skipped(),
        "sources": [asdict(source) for source in sources],
    }
    write_json(path.with_suffix(".json"), description)
    mapped = read_token_file(path)
    assert mapped is not None
    return mapped


def _encoded(
    documents: Iterable[Text], tokenizer: PreTrainedTokenizerBase, *, label: str
) -> Iterator[list[int]]:
    remaining = iter(documents)
    with progress(total=_size(documents), label=label, unit="document") as bar:
        while group := list(itertools.islice(remaining, DOCUMENTS_AT_ONCE)):
            texts = [document.text for document in group]
            encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            for ids in encoded:
                if ids:
                    yield [*ids, tokenizer.eos_token_id]
            bar.advance(len(group))


def _size(documents: Iterable[Text]) -> int | None:
    """How many there are, or None where that is not known before they are read."""
    return len(documents) if isinstance(documents, Sequence) else None
