from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hark.data.records import Text
from hark.errors import DataError
from hark.models.tokenizer import load_tokenizer
from hark.training.token_file import Source, TokenFile, read_token_file, rows_of, write_token_file


def test_documents_end_to_end_with_end_tokens(language_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(language_model)
    texts = [("a", [Text(text="cat"), Text(text=""), Text(text="dog")]), ("b", [Text(text="hen")])]
    written = write_token_file(tmp_path / "tokens.bin", texts, tokenizer)
    decoded = tokenizer.decode(written.ids[: written.sources[1].start].tolist())
    assert decoded == "cat<|end|>dog<|end|>"
    assert written.ids.dtype == np.uint16
    assert [(s.name, s.documents) for s in written.sources] == [("a", 2), ("b", 1)]
    assert sum(source.tokens for source in written.sources) == len(written.ids)


def test_a_finished_file_is_not_made_again(language_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(language_model)
    path = tmp_path / "tokens.bin"
    first = write_token_file(
        path, [("a", [Text(text="cat")])], tokenizer, bad_lines_skipped=lambda: 7
    )

    def never() -> Iterator[Text]:
        raise AssertionError("read again")
        yield

    again = write_token_file(path, [("a", never())], tokenizer)
    assert np.array_equal(first.ids, again.ids)
    assert again.bad_lines_skipped == 7


def test_an_unfinished_file_is_made_again(language_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(language_model)
    path = tmp_path / "tokens.bin"

    def cut_short() -> Iterator[Text]:
        yield Text(text="cat")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_token_file(path, [("a", cut_short())], tokenizer)
    assert read_token_file(path) is None
    written = write_token_file(path, [("a", [Text(text="dog")])], tokenizer)
    assert tokenizer.decode(written.ids.tolist()) == "dog<|end|>"


def test_a_source_without_text_is_named(language_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(language_model)
    with pytest.raises(DataError, match="'empty.txt' holds no text"):
        write_token_file(tmp_path / "t.bin", [("empty.txt", [Text(text="")])], tokenizer)


def test_rows_predict_every_token_once() -> None:
    source = Source(name="s", start=2, tokens=8, documents=1)
    tokens = TokenFile(
        ids=np.arange(10, 20, dtype=np.uint16), sources=(source,), bad_lines_skipped=0
    )
    # 8 tokens, 7 of them predicted: rows of 4 predict 3 each; two whole rows and one of 1.
    assert rows_of(source, 4) == 2
    assert rows_of(source, 4, partial=True) == 3
    rows = [tokens.row(source, index, 4).tolist() for index in range(3)]
    assert rows == [[12, 13, 14, 15], [15, 16, 17, 18], [18, 19]]
