"""Text that is streamed is the text that `generate` would give."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerBase

from hark.models.stop_strings import StopStrings
from hark.models.tokenizer import train_tokenizer
from hark.serving.response_text import ResponseText


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["the cat sat; here, there"] * 9, vocabulary_size=270)


def streamed(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], *, stop: tuple[str, ...] = (),
    stripped: bool = True,
) -> list[str]:  # fmt: skip
    text = ResponseText(tokenizer, stop=stop, stripped=stripped)
    return [*(text.add(token) for token in tokens), text.finish()]


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of each character by itself, several for those that are rare."""
    return [token for character in text for token in tokenizer(character).input_ids]


@pytest.mark.parametrize("stripped", [True, False])
def test_any_tokens_give_their_text(tokenizer: PreTrainedTokenizerBase, stripped: bool) -> None:
    draw = random.Random(0)
    for _ in range(200):
        # Random bytes: mostly no UTF-8 at all.
        tokens = [draw.randrange(2, len(tokenizer)) for _ in range(draw.randrange(1, 25))]
        text = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        pieces = streamed(tokenizer, tokens, stripped=stripped)
        assert "".join(pieces) == (text.strip() if stripped else text)


def test_any_stop_strings_cut_it_as_generate_does(tokenizer: PreTrainedTokenizerBase) -> None:
    draw = random.Random(1)
    cut = 0
    for _ in range(300):
        text = "".join(draw.choice(" \nabac猫🐈") for _ in range(draw.randrange(1, 12)))
        stop = tuple(
            "".join(draw.choice(" ab猫") for _ in range(draw.randrange(1, 4))) for _ in "xy"
        )
        tokens = ids(tokenizer, text)
        expected = StopStrings(tokenizer, stop).text_before(tokens)
        # The engine ends a response with the token that completes a stop string.
        ends = [
            n for n in range(len(tokens)) if StopStrings(tokenizer, stop).found(tokens[: n + 1])
        ]
        drawn = tokens[: ends[0] + 1] if ends else tokens
        assert "".join(streamed(tokenizer, drawn, stop=stop)) == expected
        cut += bool(ends)
    assert 50 < cut < 250


def test_only_what_is_certain_is_given_out(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = streamed(tokenizer, ids(tokenizer, "  a 猫b ST"), stop=("STOP",))
    given = [piece for piece in pieces[:-1] if piece]
    # White space waits for what follows it, the character for its last byte, "ST" for the end.
    assert given == ["a", " 猫", "b"]
    assert pieces[-1] == " ST"


def test_the_stop_string_that_was_found_is_told(tokenizer: PreTrainedTokenizerBase) -> None:
    text = ResponseText(tokenizer, stop=("zz", "b"), stripped=True)
    for token in ids(tokenizer, "cab"):
        text.add(token)
    assert text.finish() == ""
    assert text.stop_found() == "b"
    text = ResponseText(tokenizer, stop=("zz",), stripped=True)
    text.add(ids(tokenizer, "c")[0])
    assert text.stop_found() is None
