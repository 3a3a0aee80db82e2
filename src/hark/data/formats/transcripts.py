"""Anthropic's HH transcripts: `{"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …}`.

Both transcripts share every turn but the last reply, which was judged (2204.05862). The
same way of writing a dialogue in one string serves the prompts of other formats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hark.data.formats.fields import BadRecordError, checked_text, dialogue, origin, prompt_of, text
from hark.data.formats.format import Format, cannot_express
from hark.data.records import Comparison, Dialogue, Message, Role, ask
from hark.data.rows import Fields

TITLE = "Anthropic HH transcripts"

_SPEAKERS: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_NAMES = {role: name for name, role in _SPEAKERS.items()}
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def is_transcript(value: object) -> bool:
    """Whether a string is a dialogue written as a transcript."""
    return isinstance(value, str) and value.lstrip("\n").startswith("Human:")


def parse_transcript(transcript: str) -> Dialogue:
    """The turns of a transcript, without the white space around each.

    A last assistant turn without text ("…\\n\\nAssistant:") only invites a reply and is left out.
    Raises: BadRecordError if it does not begin with a turn, or a turn is empty.
    """
    before, *parts = _TURN.split(transcript)
    if before.strip() or not parts:
        raise BadRecordError("has a transcript that does not begin with '\\n\\nHuman:'")
    turns = [
        Message(_SPEAKERS[speaker], content.strip())
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    if turns[-1] == Message("assistant", ""):
        turns.pop()
    for place, turn in enumerate(turns, start=1):
        if not turn.content:
            raise BadRecordError(f"has an empty {turn.role} turn (turn {place} of the transcript)")
    return tuple(turns)


def render_transcript(turns: Dialogue) -> str:
    """The transcript of a dialogue; `parse_transcript` reads it back.

    Raises: DataError for a system turn, or a turn that contains "\\n\\nHuman:" and would be two.
    """
    written = []
    for turn in turns:
        if turn.role not in _NAMES:
            raise cannot_express(TITLE, f"a {turn.role} turn")
        content = turn.content.strip()
        if _TURN.search(f" {content}"):
            raise cannot_express(TITLE, "a turn with '\\n\\nHuman:' or '\\n\\nAssistant:' inside")
        written.append(f"\n\n{_NAMES[turn.role]}: {content}")
    return "".join(written)


def parse_prompt(value: Any) -> Dialogue:
    """The turns of a `prompt` field: a list of messages, a transcript, or one user turn's text."""
    if not isinstance(value, str):
        return prompt_of(dialogue(value, "prompt"))
    if is_transcript(value):
        return prompt_of(parse_transcript(value))
    return ask(checked_text(value, "prompt"))


def parse(row: Fields) -> Iterator[Comparison]:
    """The pair in which `chosen` won."""
    chosen = _answered(text(row, "chosen"), "chosen")
    rejected = _answered(text(row, "rejected"), "rejected")
    if chosen[:-1] != rejected[:-1]:
        turn = next(
            (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
            min(len(chosen), len(rejected)),
        )
        raise BadRecordError(
            f"has transcripts that part at turn {turn + 1}, before the last reply "
            f"({len(chosen)} and {len(rejected)} turns), so that no prompt is shared"
        )
    yield Comparison(
        prompt=prompt_of(chosen[:-1]),
        responses=(chosen[-1].content, rejected[-1].content),
        ranks=(1, 2),
        **origin(row),
    )


def _answered(transcript: str, name: str) -> Dialogue:
    turns = parse_transcript(transcript)
    if turns[-1].role != "assistant":
        raise BadRecordError(f"'{name}' does not end with a reply of the assistant")
    return turns


def render(comparison: Comparison) -> Iterator[Fields]:
    """A row for each ordered pair of the comparison; ties have none."""
    for better, worse in comparison.ordered_pairs():
        chosen, rejected = (
            (*comparison.prompt, Message("assistant", comparison.responses[index]))
            for index in (better, worse)
        )
        yield {"chosen": render_transcript(chosen), "rejected": render_transcript(rejected)}


HH = Format(
    name="hh",
    kind="comparisons",
    title=TITLE,
    example='{"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": "…"}',
    recognises=lambda row: (
        "prompt" not in row and is_transcript(row.get("chosen")) and "rejected" in row
    ),
    parse=parse,
    render=render,
    carries=frozenset({"prompt", "responses", "ranks"}),
)
