from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from hark.models.stop_strings import StopStrings
from hark.models.tokenizer import train_tokenizer

TRANSCRIPT = "\n\nHuman: hello there\n\nAssistant: hi"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([TRANSCRIPT] * 5, vocabulary_size=280)


def first_stop(stop: StopStrings, tokens: list[int]) -> int | None:
    """How many tokens are drawn when the engine would stop, looking as it does."""
    for count in range(1, len(tokens) + 1):
        if stop.may_complete(tokens[count - 1]) and stop.found(tokens[:count]):
            return count
    return None


@pytest.mark.parametrize("string", ["\n\nHuman:", "there", "\n", "o t", "é", "€!", "日本"])
def test_the_first_token_that_completes_a_string_is_found(
    tokenizer: PreTrainedTokenizerFast, string: str
) -> None:
    text = f"well é{TRANSCRIPT} café €! 日本語"
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    expected = next(
        count for count in range(len(tokens) + 1) if string in tokenizer.decode(tokens[:count])
    )
    stop = StopStrings(tokenizer, ("never", string))
    assert first_stop(stop, tokens) == expected
    assert stop.text_before(tokens) == text[: text.index(string)].strip()


def test_some_tokens_span_several_characters_and_most_are_not_decoded(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokens = tokenizer(TRANSCRIPT, add_special_tokens=False)["input_ids"]
    assert len(tokens) < len(TRANSCRIPT) - 8
    stop = StopStrings(tokenizer, ("Human:",))
    assert sum(stop.may_complete(token) for token in tokens) <= 2


def test_text_is_cut_before_the_earliest_string(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer(" one. two! three", add_special_tokens=False)["input_ids"]
    assert StopStrings(tokenizer, ("!", ".")).text_before(tokens) == "one"
    assert StopStrings(tokenizer, ()).text_before(tokens) == "one. two! three"
    assert StopStrings(tokenizer, ("?",)).text_before(tokens) == "one. two! three"


def test_special_tokens_are_not_part_of_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer("Human", add_special_tokens=False)["input_ids"]
    tokens += [0, *tokenizer(":", add_special_tokens=False)["input_ids"]]
    assert StopStrings(tokenizer, ("Human:",)).found(tokens)
