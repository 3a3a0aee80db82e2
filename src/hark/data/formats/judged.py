"""Judgements published with papers and arenas: OpenAI's summaries, arena battles, AlpacaEval.

These name the models behind the responses, and so do the records where all are named.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from hark.data.formats.fields import (
    BadRecordError,
    checked_text,
    describe,
    dialogue,
    messages,
    number,
    optional_text,
    origin,
    prompt_of,
    text,
)
from hark.data.formats.format import Format, cannot_express
from hark.data.records import Comparison, answered, ask
from hark.data.rows import Fields

OPENAI_TITLE = "OpenAI summary comparisons"
MIDDLE_CONFIDENCE = 5
"""Of the 9 points between "definitely A" and "definitely B" (2009.01325, appendix C)."""

_QUERY = re.compile(
    r"SUBREDDIT: r/(?P<subreddit>[^\n]*)\n\nTITLE: (?P<title>[^\n]*)\n\nPOST: (?P<post>.*)"
    r"\n\nTL;DR:",
    flags=re.DOTALL,
)


def summary_query(subreddit: str, title: str, post: str) -> str:
    """The prompt under which summaries are written (2009.01325, appendix B)."""
    return f"SUBREDDIT: r/{subreddit}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"


def parse_openai(row: Fields) -> Iterator[Comparison]:
    """A pair of summaries; `strength` is the distance from the middle of the 9-point scale."""
    info, summaries = row["info"], row["summaries"]
    if not isinstance(info, dict) or not {"subreddit", "title", "post"} <= info.keys():
        raise BadRecordError("'info' lacks the subreddit, title or post of a TL;DR summary")
    if not isinstance(summaries, list) or not all(isinstance(one, dict) for one in summaries):
        raise BadRecordError(f"'summaries' is {describe(summaries)}, not a list of two summaries")
    choice = row.get("choice")
    if len(summaries) != 2 or choice not in (0, 1) or isinstance(choice, bool):
        raise BadRecordError(
            f"has {len(summaries)} summaries and choice {choice!r}, not 2 and 0 or 1"
        )
    extra = row.get("extra") or {}
    confidence = number(extra, "confidence") if isinstance(extra, dict) else None
    yield Comparison(
        prompt=ask(
            summary_query(
                text(info, "subreddit"), text(info, "title", blank=True), text(info, "post")
            )
        ),
        responses=(text(summaries[0], "text").strip(), text(summaries[1], "text").strip()),
        ranks=(1, 2) if choice == 0 else (2, 1),
        strength=None if confidence is None else abs(confidence - MIDDLE_CONFIDENCE),
        labeler=optional_text(row, "worker"),
        models=_both(*(optional_text(one, "policy") for one in summaries)),
        source=optional_text(row, "source", "batch"),
        id=optional_text(info, "id"),
    )


def render_openai(record: Comparison) -> Iterator[Fields]:
    """A row for each ordered pair, with the responses in their order; ties have none."""
    found = _QUERY.fullmatch(record.prompt[0].content) if len(record.prompt) == 1 else None
    if found is None:
        raise cannot_express(OPENAI_TITLE, "a prompt that is not 'SUBREDDIT: … TITLE: … POST: …'")
    info = {"id": record.id or "", **found.groupdict()}
    for better, worse in record.ordered_pairs():
        first, second = sorted((better, worse))
        choice = 0 if better == first else 1
        row: Fields = {
            "info": info,
            "summaries": [
                {
                    "text": f" {record.responses[i]}",
                    "policy": record.models[i] if record.models else "",
                    "note": "",
                }
                for i in (first, second)
            ],
            "choice": choice,
            "worker": record.labeler,
            "batch": record.source,
        }
        if record.strength is not None:
            sign = -1 if choice == 0 else 1
            row["extra"] = {"confidence": MIDDLE_CONFIDENCE + sign * record.strength}
        yield row


_WINNERS = {
    "model_a": (1, 2),
    "model_b": (2, 1),
    "tie": (1, 1),
    "tie (bothbad)": (1, 1),
}


def parse_arena(row: Fields) -> Iterator[Comparison]:
    """A battle of two replies; dialogues that part before the last reply are malformed."""
    winner = row.get("winner")
    if not isinstance(winner, str) or winner not in _WINNERS:
        raise BadRecordError(f"'winner' is {winner!r}, none of {', '.join(_WINNERS)}")
    a = dialogue(row["conversation_a"], "conversation_a")
    b = dialogue(row["conversation_b"], "conversation_b")
    if a[:-1] != b[:-1]:
        raise BadRecordError(
            f"has conversations of {len(a)} and {len(b)} turns that part before the last reply, so "
            "that no prompt is shared"
        )
    if a[-1].role != "assistant" or b[-1].role != "assistant":
        raise BadRecordError("has a conversation that does not end with an assistant turn")
    yield Comparison(
        prompt=prompt_of(a[:-1]),
        responses=(a[-1].content, b[-1].content),
        ranks=_WINNERS[winner],
        labeler=optional_text(row, "judge"),
        models=_both(optional_text(row, "model_a"), optional_text(row, "model_b")),
        user=optional_text(row, "user"),
        source=optional_text(row, "source"),
        id=optional_text(row, "question_id"),
    )


def render_arena(record: Comparison) -> Iterator[Fields]:
    """A battle for each pair, ties among them."""
    if not record.judged:
        raise cannot_express("an arena battle", "a comparison without a judgement")
    won = set(record.ordered_pairs())
    for a, b in itertools.combinations(range(len(record.responses)), 2):
        row: Fields = {
            "conversation_a": messages(answered(record.prompt, record.responses[a])),
            "conversation_b": messages(answered(record.prompt, record.responses[b])),
            "winner": "model_a" if (a, b) in won else "model_b" if (b, a) in won else "tie",
        }
        model_a, model_b = (record.models[a], record.models[b]) if record.models else (None, None)
        named = {
            "model_a": model_a,
            "model_b": model_b,
            "judge": record.labeler,
            "question_id": record.id,
        }
        origins = {"user": record.user, "source": record.source}
        yield row | {name: value for name, value in (named | origins).items() if value is not None}


def parse_annotation(row: Fields) -> Iterator[Comparison]:
    """AlpacaEval: `preference` 1 is output 1, 2 is output 2, 0 and 1.5 are ties.

    A value between 1 and 2, as its weighted annotators give, is a soft label.
    """
    preference = number(row, "preference")
    if preference is None or not (preference == 0 or 1 <= preference <= 2):
        raise BadRecordError(f"'preference' is {preference}, not 0 or from 1 to 2")
    hard = {0.0: (1, 1), 1.0: (1, 2), 1.5: (1, 1), 2.0: (2, 1)}.get(preference)
    where = origin(row)
    where["source"] = optional_text(row, "source", "dataset")
    yield Comparison(
        prompt=ask(text(row, "instruction")),
        responses=(
            checked_text(row["output_1"], "output_1"),
            checked_text(row["output_2"], "output_2"),
        ),
        ranks=hard,
        probability=None if hard else 2.0 - preference,
        labeler=optional_text(row, "labeler", "annotator"),
        models=_both(optional_text(row, "generator_1"), optional_text(row, "generator_2")),
        **where,
    )


def _both(one: str | None, other: str | None) -> tuple[str, str] | None:
    return (one, other) if one and other else None


OPENAI = Format(
    name="openai",
    kind="comparisons",
    title=OPENAI_TITLE,
    example='{"info": {"subreddit": "…", "title": "…", "post": "…"}, "summaries": [{"text": "…"}, '
    '{"text": "…"}], "choice": 0, "worker": "…"}',
    recognises=lambda row: "info" in row and "summaries" in row,
    parse=parse_openai,
    render=render_openai,
    carries=frozenset(
        {"prompt", "responses", "ranks", "strength", "labeler", "models", "source", "id"}
    ),
)
ARENA = Format(
    name="arena",
    kind="comparisons",
    title="arena battles",
    example='{"conversation_a": [{"role": "user", "content": "…"}, …], "conversation_b": […], '
    '"winner": "model_a"}',
    recognises=lambda row: "conversation_a" in row and "conversation_b" in row,
    parse=parse_arena,
    render=render_arena,
    carries=frozenset(
        {"prompt", "responses", "ranks", "labeler", "models", "user", "source", "id"}
    ),
)
ALPACA_EVAL = Format(
    name="alpaca-eval",
    kind="comparisons",
    title="AlpacaEval annotations",
    example='{"instruction": "…", "output_1": "…", "output_2": "…", "preference": 2}',
    recognises=lambda row: "output_1" in row and "output_2" in row,
    parse=parse_annotation,
)
