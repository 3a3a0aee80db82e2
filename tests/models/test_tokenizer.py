from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from hark.data.records import Message, answered, ask
from hark.errors import DataError, ModelError, SettingsError
from hark.models.tokenizer import (
    END,
    PAD,
    check_prompt_fits,
    decode_response,
    encode_prompt,
    encode_response,
    end_token_ids,
    load_tokenizer,
    padding_id,
    set_template,
    train_tokenizer,
    truncate_prompt,
)

TEXTS = ["Human: What is the capital of France?", "Assistant: Paris is the capital of France."] * 9
TOKENIZER = train_tokenizer(TEXTS, vocabulary_size=320)


def bytes_tokenizer(special: list[str], **options: str | None) -> PreTrainedTokenizerFast:
    """What a model from the Hub may bring: bytes, some special tokens, a template of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(special + alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=core, **options)


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
PROMPTED_OTHERWISE = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\nSure: ")
GEMMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "<turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)


def test_the_first_ids_are_pad_and_end() -> None:
    assert (TOKENIZER.pad_token_id, TOKENIZER.eos_token_id) == (0, 1)
    assert (TOKENIZER.pad_token, TOKENIZER.eos_token) == (PAD, END)
    assert padding_id(TOKENIZER) == 0
    assert end_token_ids(TOKENIZER) == (1,)


def test_training_is_deterministic() -> None:
    assert train_tokenizer(TEXTS, vocabulary_size=320).get_vocab() == TOKENIZER.get_vocab()


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(SettingsError, match="vocabulary_size is 257; .* at least 258"):
        train_tokenizer(TEXTS, vocabulary_size=257)
    assert len(train_tokenizer(TEXTS, vocabulary_size=258)) == 258
    assert len(train_tokenizer(TEXTS, vocabulary_size=270)) == 270


def test_dialogues_are_rendered_as_in_hh() -> None:
    dialogue = (
        Message("system", "Be kind."),
        Message("user", " Hi "),
        Message("assistant", "Hello."),
        Message("user", "Capital of France?"),
    )
    ids = encode_prompt(TOKENIZER, dialogue)
    assert TOKENIZER.decode(ids) == (
        "\n\nSystem: Be kind.\n\nHuman: Hi\n\nAssistant: Hello.<|end|>"
        "\n\nHuman: Capital of France?\n\nAssistant:"
    )
    response = encode_response(TOKENIZER, dialogue, "Paris.")
    assert TOKENIZER.decode(response) == " Paris.<|end|>"
    assert response[-1] == TOKENIZER.eos_token_id
    assert encode_response(TOKENIZER, dialogue, "Paris.", end=False) == response[:-1]


def test_a_continuation_goes_on_after_the_text() -> None:
    tokenizer = train_tokenizer(TEXTS, vocabulary_size=320)
    set_template(tokenizer, "continuation")
    opening = ask(" The capital of France ")
    assert tokenizer.decode(encode_prompt(tokenizer, opening)) == "The capital of France"
    response = encode_response(tokenizer, opening, "is Paris.")
    assert tokenizer.decode(response) == " is Paris.<|end|>"
    assert decode_response(tokenizer, response) == "is Paris."
    assert end_token_ids(tokenizer) == (1,)


def test_prompt_and_response_together_are_the_whole_dialogue() -> None:
    whole = TOKENIZER.apply_chat_template(
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Paris."}],
        tokenize=False,
    )
    parts = encode_prompt(TOKENIZER, ask("Hi")) + encode_response(TOKENIZER, ask("Hi"), "Paris.")
    assert parts == TOKENIZER(whole)["input_ids"]


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
def test_any_response_survives_the_round_trip(text: str) -> None:
    if text.strip():
        ids = encode_response(TOKENIZER, ask("Hi"), text)
        assert decode_response(TOKENIZER, ids) == text.strip()


def test_decoding_stops_at_the_first_end_token() -> None:
    ids = encode_response(TOKENIZER, ask("Hi"), "Paris.")
    assert decode_response(TOKENIZER, [*ids, *ids]) == "Paris."
    assert decode_response(TOKENIZER, ids[:-1]) == "Paris."
    assert decode_response(TOKENIZER, [1]) == ""


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_response_of_zero_tokens_is_refused(blank: str) -> None:
    with pytest.raises(DataError, match="zero tokens"):
        encode_response(TOKENIZER, ask("Hi"), blank)
    with pytest.raises(DataError, match="zero tokens"):
        encode_response(TOKENIZER, ask("Hi"), blank, allow_empty=True, end=False)
    assert encode_response(TOKENIZER, ask("Hi"), blank, allow_empty=True) == [1]


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    dialogue = answered(ask("What is  the capital?"), "Paris , I think .")
    assert encode_prompt(again, dialogue) == encode_prompt(TOKENIZER, dialogue)
    ids = encode_response(again, ask("x"), "Paris , I think .")
    assert decode_response(again, ids) == "Paris , I think ."
    assert (again.pad_token_id, again.eos_token_id) == (0, 1)


def test_a_tokenizer_without_template_or_pad_is_completed_not_resized(tmp_path: Path) -> None:
    bare = bytes_tokenizer(["<eos>"], eos_token="<eos>")
    bare.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert len(loaded) == len(bare)
    assert loaded.decode(encode_prompt(loaded, ask("Hi!"))) == "\n\nHuman: Hi!\n\nAssistant:"
    ids = encode_response(loaded, ask("Hi"), "!Yes!")
    assert ids[-1] == loaded.eos_token_id == 0
    # The stand-in for padding is the lowest id that ends nothing; it stays an ordinary token.
    assert padding_id(loaded) == 1
    assert loaded.decode([1], skip_special_tokens=True) == "!"
    assert decode_response(loaded, ids) == "!Yes!"


def test_a_pad_token_that_is_the_end_token_does_not_count() -> None:
    same = bytes_tokenizer(["<unk>", "<eos>"], eos_token="<eos>", pad_token="<eos>")
    same.chat_template = TOKENIZER.chat_template
    assert padding_id(same) == 0


def test_a_beginning_of_text_is_kept_where_the_tokenizer_writes_one(tmp_path: Path) -> None:
    opening = bytes_tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    opening.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    opening.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert encode_prompt(loaded, ask("Hi")).count(0) == 1
    assert encode_prompt(loaded, ask("Hi"))[0] == 0
    assert 0 not in encode_response(loaded, ask("Hi"), "Yes")


@pytest.mark.parametrize("template", [CHATML, THINKING, PROMPTED_OTHERWISE])
def test_templates_from_elsewhere(template: str) -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    chat = bytes_tokenizer(special, eos_token="<|im_end|>", chat_template=template)
    prompt = encode_prompt(chat, ask("Hi"))
    assert chat.decode(prompt).startswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    ids = encode_response(chat, ask("Hi"), "Yes.")
    # Nothing after the end token: sampling never gets that far.
    assert chat.decode(ids) == "Yes.<|im_end|>"
    assert decode_response(chat, ids) == "Yes."
    assert end_token_ids(chat) == (2,)


def test_the_end_of_a_turn_may_differ_from_the_end_of_a_text() -> None:
    special = ["<pad>", "<eos>", "<bos>", "<turn>", "<end>"]
    gemma = bytes_tokenizer(
        special,
        eos_token="<eos>",
        bos_token="<bos>",
        pad_token="<pad>",
        additional_special_tokens=["<turn>", "<end>"],
        chat_template=GEMMA_LIKE,
    )
    assert end_token_ids(gemma) == (4, 1)
    assert encode_response(gemma, ask("Hi"), "Yes")[-1] == 4
    assert decode_response(gemma, [*encode_response(gemma, ask("Hi"), "Yes")[:-1], 1]) == "Yes"
    with pytest.raises(DataError, match=r"turns \[system, user\]: System role not supported"):
        encode_prompt(gemma, (Message("system", "x"), Message("user", "y")))


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    bytes_tokenizer(["<x>"]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end token"):
        load_tokenizer(tmp_path)


def test_truncation_keeps_the_end() -> None:
    assert truncate_prompt([1, 2, 3, 4], 3) == ([2, 3, 4], True)
    assert truncate_prompt([1, 2, 3], 3) == ([1, 2, 3], False)
    with pytest.raises(ModelError, match="0 tokens are left"):
        truncate_prompt([1], 0)


def test_a_long_prompt_is_refused_where_it_may_not_be_cut() -> None:
    check_prompt_fits([1, 2, 3], 3)
    with pytest.raises(ModelError, match="4 tokens, but the context leaves room for 3"):
        check_prompt_fits([1, 2, 3, 4], 3)
