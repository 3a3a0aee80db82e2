from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from hark.data.records import Demonstration, Message, ask
from hark.errors import ModelError
from hark.models.few_shot import few_shot_prompt, few_shot_settings, few_shot_text
from hark.models.sampling import SamplingSettings
from hark.models.stop_strings import StopStrings
from hark.models.tokenizer import train_tokenizer

EXAMPLES = [
    Demonstration(prompt=ask(" Capital of France? "), response="Paris.\n"),
    Demonstration(prompt=ask("Two plus two?"), response="Four."),
]
REQUEST = ask("Name a colour.")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["Human: a\n\nAssistant: b"], vocabulary_size=300)


def test_the_prompt_is_one_transcript_that_asks_to_be_continued() -> None:
    assert few_shot_text(EXAMPLES, REQUEST, instruction="A helpful assistant answers. ") == (
        "A helpful assistant answers.\n\n"
        "Human: Capital of France?\n\nAssistant: Paris.\n\n"
        "Human: Two plus two?\n\nAssistant: Four.\n\n"
        "Human: Name a colour.\n\nAssistant:"
    )


def test_earlier_turns_and_system_turns_are_kept() -> None:
    request = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello."),
        Message("user", "Bye"),
    )
    assert few_shot_text([], request) == (
        "System: Be brief.\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye\n\nAssistant:"
    )


def test_tokens_are_the_plain_text_without_an_end_token(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokens = few_shot_prompt(tokenizer, EXAMPLES, REQUEST, max_prompt_tokens=500)
    assert tokenizer.decode(tokens, skip_special_tokens=False) == few_shot_text(EXAMPLES, REQUEST)
    assert tokenizer.eos_token_id not in tokens


def test_the_earliest_examples_are_left_out_where_they_do_not_fit(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    def length(examples: list[Demonstration]) -> int:
        return len(few_shot_prompt(tokenizer, examples, REQUEST, max_prompt_tokens=500))

    for kept in range(3):
        room = length(EXAMPLES[2 - kept :])
        tokens = few_shot_prompt(tokenizer, EXAMPLES, REQUEST, max_prompt_tokens=room)
        assert tokenizer.decode(tokens) == few_shot_text(EXAMPLES[2 - kept :], REQUEST)
    with pytest.raises(ModelError, match=f"takes {length([])} tokens .* {length([]) - 1} are left"):
        few_shot_prompt(tokenizer, EXAMPLES, REQUEST, max_prompt_tokens=length([]) - 1)


def test_a_base_model_is_stopped_before_it_speaks_for_somebody_else(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    settings = few_shot_settings(SamplingSettings(temperature=0.5, stop=("\nHuman:", "###")))
    assert settings.temperature == 0.5
    assert settings.stop == ("\nHuman:", "###", "\nAssistant:", "\nSystem:")
    for going_on in ("\n\nHuman: And", "\nAssistant: Or", "\n\nSystem: x"):
        tokens = tokenizer(f" Blue.{going_on}", add_special_tokens=False)["input_ids"]
        stop = StopStrings(tokenizer, settings.stop)
        assert stop.found(tokens)
        assert stop.text_before(tokens) == "Blue."
