"""Text to tokens and back: byte-level BPE, chat templates, prompts and responses.

A dialogue is rendered by the tokenizer's own chat template; one without a template gets the
Human/Assistant form of Bai et al. 2022. Prompt and response are encoded apart, so that training
sees exactly the tokens that sampling produces.

Padding is masked everywhere in hark, so a tokenizer without a pad token is left as it is and the
embeddings are never resized: `padding_id` names a stand-in that is not an end token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hark.data.records import Dialogue, Message, answered, ask
from hark.errors import DataError, ModelError, SettingsError
from hark.models.adapter_directory import base_of, is_adapter

PAD, END = "<|pad|>", "<|end|>"

HUMAN_ASSISTANT = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{ '\n\nHuman: ' + message['content'] | trim }}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{ '\n\nAssistant: ' + message['content'] | trim + eos_token }}"
    "{%- else -%}"
    "{{ '\n\nSystem: ' + message['content'] | trim }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '\n\nAssistant:' }}{%- endif -%}"
)
"""Bai et al. 2022, with a system turn and an end token after what the assistant said."""

CONTINUATION = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ ' ' + message['content'] | trim + eos_token }}"
    "{%- else -%}"
    "{{ message['content'] | trim }}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""Plain text that the assistant carries on after a space (the queries of Ziegler et al. 2019)."""

TEMPLATES = {"dialogue": HUMAN_ASSISTANT, "continuation": CONTINUATION}
"""The chat templates a model can be given by name."""


def train_tokenizer(texts: Iterable[str], *, vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with `<|pad|>` (0), `<|end|>` (1) and the Human/Assistant template.

    Every string can be encoded: the 256 bytes are always part of the vocabulary, which may come out
    smaller than asked for when the texts have too few pairs to merge.
    Raises: SettingsError if the vocabulary cannot hold the bytes.
    """
    smallest = 2 + len(pre_tokenizers.ByteLevel.alphabet())
    if vocabulary_size < smallest:
        raise SettingsError(
            f"vocabulary_size is {vocabulary_size}; a byte-level vocabulary needs at least "
            f"{smallest} (256 bytes, {PAD} and {END})"
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        chat_template=HUMAN_ASSISTANT,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a model directory or Hub name; one without a template gets ours.

    An adapter without a tokenizer has that of its base.
    Raises: ModelError if there is none, or it has no end token.
    """
    if is_adapter(path) and not (Path(path).expanduser() / "tokenizer_config.json").is_file():
        return load_tokenizer(base_of(path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"cannot read a tokenizer from '{path}' ({reason}); "
            "give a directory with tokenizer.json and tokenizer_config.json"
        ) from None
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of '{path}' has no end token, so a response could never end; "
            "name one as eos_token in its tokenizer_config.json"
        )
    if not tokenizer.chat_template:
        set_template(tokenizer, "dialogue")
    return tokenizer


def set_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give a tokenizer one of `TEMPLATES`, after its own first token where it writes one."""
    opening = "{{ bos_token }}" if _begins_texts(tokenizer) else ""
    tokenizer.chat_template = opening + TEMPLATES[name]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> list[int]:
    """Tokens of a dialogue up to where the assistant begins to speak ("…\\n\\nAssistant:").

    Raises: DataError if the template cannot render the dialogue.
    """
    return _encode(tokenizer, _render(tokenizer, dialogue, for_response=True))


def encode_response(
    tokenizer: PreTrainedTokenizerBase,
    dialogue: Dialogue,
    response: str,
    *,
    end: bool = True,
    allow_empty: bool = False,
) -> list[int]:
    """Tokens the template adds to `encode_prompt` for an assistant turn: " Paris." + end token.

    end: False leaves the end token out (a response cut off by its length).
    allow_empty: a blank response gives the end token alone, as a model may well sample.
    Raises: DataError for a response of zero tokens.
    """
    words = response.strip()
    if not words and not (allow_empty and end):
        raise DataError(
            "a response has zero tokens (it is empty or blank); remove it from the data"
        )
    lead, tail = _around_response(tokenizer, dialogue, words)
    token_ids = _encode(tokenizer, lead + words) if words else []
    return [*token_ids, _end_token(tokenizer, tail)] if end else token_ids


def decode_response(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """Text of response tokens up to their first end token, without surrounding white space."""
    ends = set(end_token_ids(tokenizer))
    kept = list(token_ids)
    for place, token_id in enumerate(kept):
        if token_id in ends:
            kept = kept[:place]
            break
    text = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()


def end_token_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Tokens that end a response: first the one the template writes, then the tokenizer's own."""
    _, tail = _around_response(tokenizer, ask("Hello"), "Hello")
    return tuple(dict.fromkeys((_end_token(tokenizer, tail), tokenizer.eos_token_id)))


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The pad token's id, or the lowest id that is not an end token where there is no other.

    Padding is always masked, so which id stands in changes no number.
    """
    pad, ends = tokenizer.pad_token_id, end_token_ids(tokenizer)
    if pad is not None and pad not in ends:
        return int(pad)
    return next(candidate for candidate in range(len(ends) + 1) if candidate not in ends)


def truncate_prompt(token_ids: Sequence[int], limit: int) -> tuple[list[int], bool]:
    """Keep the last `limit` tokens, the end of the dialogue; also say whether any were cut.

    Raises: ModelError if `limit` leaves no room for a prompt.
    """
    if limit < 1:
        raise ModelError(
            f"{limit} tokens are left for the prompt; allow fewer response tokens or use a model "
            "with a longer context"
        )
    return list(token_ids[-limit:]), len(token_ids) > limit


def check_prompt_fits(token_ids: Sequence[int], limit: int) -> None:
    """Raise ModelError if a prompt is longer than `limit`, where cutting it was not asked for."""
    if len(token_ids) > limit:
        raise ModelError(
            f"a prompt has {len(token_ids)} tokens, but the context leaves room for {limit}; "
            "shorten it, allow truncation, or use a model with a longer context"
        )


def _begins_texts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts its own first token before a text, as its model expects."""
    first = tokenizer("a")["input_ids"][:1]
    return tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _render(
    tokenizer: PreTrainedTokenizerBase, dialogue: Sequence[Message], *, for_response: bool
) -> str:
    messages = [{"role": message.role, "content": message.content} for message in dialogue]
    try:
        # Templates that know no thinking ignore the flag; the others render a direct answer.
        return str(
            tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=for_response,
                enable_thinking=False,
            )
        )
    except TemplateError as error:
        roles = ", ".join(message.role for message in dialogue)
        raise DataError(
            f"the chat template cannot render a dialogue of turns [{roles}]: {error}; "
            "change the dialogue or the template"
        ) from None


def _around_response(
    tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue, words: str
) -> tuple[str, str]:
    """What the template writes between the prompt and the response's text, and after it."""
    prompt = _render(tokenizer, dialogue, for_response=True)
    whole = _render(tokenizer, answered(dialogue, words), for_response=False)
    if not whole.startswith(prompt):
        # Some templates prompt with words that they leave out of finished turns.
        return "", whole[whole.rfind(words) + len(words) :] if words else ""
    added = whole[len(prompt) :]
    lead, found, tail = added.partition(words) if words else ("", "", added)
    return (lead, tail) if found or not words else ("", "")


def _end_token(tokenizer: PreTrainedTokenizerBase, tail: str) -> int:
    """The first special token after a response, else the tokenizer's end token."""
    special = set(tokenizer.all_special_ids)
    for token_id in _encode(tokenizer, tail):
        if token_id in special:
            return token_id
    return int(tokenizer.eos_token_id)
