"""TRL's formats: prompts, prompt and completion, messages, and preferences.

Each comes in a standard form (strings) and a conversational one (lists of messages); both are read
wherever either is. Departures from TRL when reading:

1. A string prompt that is an HH transcript becomes its turns, as tokenizers need turns.
2. A response loses the white space around it: the template of the tokenizer supplies the space.
3. A preference without a prompt, in standard form, is parted at the last white space of the common
   beginning, where TRL may part a word.
4. Of `messages`, the last assistant turn is the response and all before it the prompt.
5. Unpaired feedback (`completion` and `label`) is refused as it names no comparison; its prompts
   can be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from hark.data.formats.fields import (
    BadRecordError,
    Origin,
    checked_text,
    dialogue,
    messages,
    number,
    optional_text,
    origin,
    prompt_of,
    text,
)
from hark.data.formats.format import Format, cannot_express
from hark.data.formats.transcripts import is_transcript, parse_prompt, render_transcript
from hark.data.records import Comparison, Demonstration, Dialogue, Message, Prompt
from hark.data.rows import Fields

PAIR_FIELDS = frozenset({"prompt", "responses", "ranks", "strength"})


def read_response(value: Any, name: str, prompt: Dialogue) -> str:
    """The single assistant turn of a `chosen` or `rejected` field; the prompt may precede it."""
    if isinstance(value, str):
        return checked_text(value, name).strip()
    turns = dialogue(value, name)
    turns = turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns
    if len(turns) != 1 or turns[0].role != "assistant":
        roles = ", ".join(turn.role for turn in turns) or "nothing"
        raise BadRecordError(f"'{name}' adds {roles} to the prompt, not one assistant turn")
    return turns[0].content


def parse_prompts(row: Fields) -> Iterator[Prompt]:
    yield Prompt(prompt=parse_prompt(row["prompt"]), **origin(row))


def parse_completion(row: Fields) -> Iterator[Demonstration]:
    prompt = parse_prompt(row["prompt"])
    completion = row["completion"]
    if isinstance(completion, str):
        response = checked_text(completion, "completion").strip()
        yield Demonstration(prompt=prompt, response=response, **_written(row))
    else:
        yield _last_turn((*prompt, *dialogue(completion, "completion")), "completion", row)


def parse_messages(row: Fields) -> Iterator[Demonstration | Prompt]:
    turns = dialogue(row["messages"], "messages")
    if turns[-1].role == "user":
        yield Prompt(prompt=turns, **origin(row))
    else:
        yield _last_turn(turns, "messages", row)


class _Written(Origin, total=False):
    labeler: str | None


def _written(row: Fields) -> _Written:
    return _Written(labeler=optional_text(row, "labeler"), **origin(row))


def _last_turn(turns: Dialogue, name: str, row: Fields) -> Demonstration:
    if turns[-1].role != "assistant":
        raise BadRecordError(f"'{name}' ends with {turns[-1].role}, not with an assistant turn")
    return Demonstration(prompt=prompt_of(turns[:-1]), response=turns[-1].content, **_written(row))


def parse_preference(row: Fields) -> Iterator[Comparison]:
    if "prompt" in row:
        prompt = parse_prompt(row["prompt"])
        chosen = read_response(row["chosen"], "chosen", prompt)
        rejected = read_response(row["rejected"], "rejected", prompt)
    elif isinstance(row["chosen"], str):
        prompt, chosen, rejected = _part_strings(text(row, "chosen"), text(row, "rejected"))
    else:
        prompt, chosen, rejected = _part_dialogues(row)
    yield Comparison(
        prompt=prompt,
        responses=(chosen, rejected),
        ranks=(1, 2),
        strength=number(row, "margin"),
        **_written(row),
    )


def _part_strings(chosen: str, rejected: str) -> tuple[Dialogue, str, str]:
    pairs = zip(chosen, rejected, strict=False)
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
    common = chosen[: sum(1 for _ in alike)]
    place = max(common.rfind(space) for space in (" ", "\n"))
    prompt = common[: place + 1].strip()
    if not prompt:
        raise BadRecordError("has no 'prompt', and 'chosen' and 'rejected' do not begin alike")
    responses = [whole[place + 1 :].strip() for whole in (chosen, rejected)]
    if not all(responses):
        raise BadRecordError(
            "has no 'prompt', and nothing is left of a response without the beginning"
        )
    return parse_prompt(prompt), responses[0], responses[1]


def _part_dialogues(row: Fields) -> tuple[Dialogue, str, str]:
    chosen, rejected = dialogue(row["chosen"], "chosen"), dialogue(row["rejected"], "rejected")
    prompt = prompt_of(chosen[:-1])
    if rejected[:-1] != prompt:
        raise BadRecordError(
            "has no 'prompt', and 'chosen' and 'rejected' differ before the last turn"
        )
    return (
        prompt,
        read_response(row["chosen"], "chosen", prompt),
        read_response(row["rejected"], "rejected", prompt),
    )


# ── writing ──────────────────────────────────────────────────────────────────────────────────────


def _standard_prompt(prompt: Dialogue) -> str:
    """The text of a single user turn, otherwise a transcript."""
    content = prompt[0].content
    if len(prompt) > 1 or is_transcript(content):
        return render_transcript(prompt)
    if content != content.strip():
        raise cannot_express("TRL's standard form", "a prompt with white space around it")
    return content


def _reply(response: str) -> list[Fields]:
    return messages((Message("assistant", response),))


def render_prompt(record: Prompt) -> Iterator[Fields]:
    yield {"prompt": messages(record.prompt)}


def render_completion(record: Demonstration) -> Iterator[Fields]:
    yield {"prompt": messages(record.prompt), "completion": _reply(record.response)}


def render_messages(record: Demonstration) -> Iterator[Fields]:
    yield {"messages": messages(record.prompt) + _reply(record.response)}


def render_preference(record: Comparison) -> Iterator[Fields]:
    """A row for each ordered pair; ties have none. `margin` is the strength."""
    margin = {} if record.strength is None else {"margin": record.strength}
    for better, worse in record.ordered_pairs():
        yield {
            "prompt": messages(record.prompt),
            "chosen": _reply(record.responses[better]),
            "rejected": _reply(record.responses[worse]),
            **margin,
        }


def standard(row: Fields) -> Fields:
    """The standard form of a conversational row: strings, with the space before each response."""
    strings = dict(row)
    for name, value in row.items():
        if name == "prompt":
            turns = dialogue(value, name)
            strings[name] = _standard_prompt(turns)
        elif isinstance(value, list):
            strings[name] = f" {value[0]['content'].strip()}"
    return strings


def render_standard_prompt(record: Prompt) -> Iterator[Fields]:
    return map(standard, render_prompt(record))


def render_standard_completion(record: Demonstration) -> Iterator[Fields]:
    return map(standard, render_completion(record))


def render_standard_preference(record: Comparison) -> Iterator[Fields]:
    return map(standard, render_preference(record))


# ── the formats ──────────────────────────────────────────────────────────────────────────────────


def _has(row: Fields, *names: str) -> bool:
    return all(name in row for name in names)


PREFERENCES = Format(
    name="trl",
    kind="comparisons",
    title="TRL preferences",
    example='{"prompt": [{"role": "user", "content": "…"}], "chosen": [{"role": "assistant", '
    '"content": "…"}], "rejected": […]}',
    recognises=lambda row: _has(row, "chosen", "rejected") and isinstance(row["chosen"], list),
    parse=parse_preference,
    render=render_preference,
    carries=PAIR_FIELDS,
)
STANDARD_PREFERENCES = Format(
    name="trl-standard",
    kind="comparisons",
    title="TRL preferences in standard form",
    example='{"prompt": "…", "chosen": " …", "rejected": " …"}',
    recognises=lambda row: _has(row, "chosen", "rejected"),
    parse=parse_preference,
    render=render_standard_preference,
    carries=PAIR_FIELDS,
)
UNPAIRED = Format(
    name="trl-unpaired",
    kind="prompts",
    title="TRL unpaired feedback, which judges single responses and from which only prompts can "
    "be read",
    example='{"prompt": "…", "completion": "…", "label": true}',
    recognises=lambda row: _has(row, "prompt", "completion", "label"),
    parse=parse_prompts,
)
COMPLETIONS = Format(
    name="trl",
    kind="demonstrations",
    title="TRL prompts and completions",
    example='{"prompt": [{"role": "user", "content": "…"}], "completion": [{"role": "assistant", '
    '"content": "…"}]}',
    recognises=lambda row: _has(row, "prompt", "completion") and isinstance(row["prompt"], list),
    parse=parse_completion,
    render=render_completion,
    carries=frozenset({"prompt", "response"}),
)
STANDARD_COMPLETIONS = Format(
    name="trl-standard",
    kind="demonstrations",
    title="TRL prompts and completions in standard form",
    example='{"prompt": "…", "completion": " …"}',
    recognises=lambda row: _has(row, "prompt", "completion"),
    parse=parse_completion,
    render=render_standard_completion,
    carries=frozenset({"prompt", "response"}),
)
MESSAGES = Format(
    name="trl-messages",
    kind="demonstrations",
    title="TRL messages",
    example='{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", '
    '"content": "…"}]}',
    recognises=lambda row: "messages" in row,
    parse=parse_messages,
    render=render_messages,
    carries=frozenset({"prompt", "response"}),
)
PROMPTS = Format(
    name="trl",
    kind="prompts",
    title="TRL prompts",
    example='{"prompt": [{"role": "user", "content": "…"}]}',
    recognises=lambda row: isinstance(row.get("prompt"), list),
    parse=parse_prompts,
    render=render_prompt,
    carries=frozenset({"prompt"}),
)
STANDARD_PROMPTS = Format(
    name="trl-standard",
    kind="prompts",
    title="TRL prompts in standard form",
    example='{"prompt": "…"}',
    recognises=lambda row: isinstance(row.get("prompt"), str),
    parse=parse_prompts,
    render=render_standard_prompt,
    carries=frozenset({"prompt"}),
)
