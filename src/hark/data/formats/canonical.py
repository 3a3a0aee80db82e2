"""hark's own format: every field of the record under its own name, empty ones left out.

Prompts are lists of messages; a string is read as one user turn, or as the turns of a transcript.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields as dataclass_fields

from hark.data.formats import transcripts
from hark.data.formats.fields import (
    BadRecordError,
    checked_text,
    describe,
    messages,
    number,
    optional_text,
    origin,
    text,
)
from hark.data.formats.format import Format, Record
from hark.data.records import Comparison, Demonstration, Dialogue, Prompt, Question, Text
from hark.data.rows import Fields


def parse_text(row: Fields) -> Iterator[Text]:
    yield Text(text=text(row, "text"), source=optional_text(row, "source"))


def parse_prompt(row: Fields) -> Iterator[Prompt]:
    yield Prompt(prompt=_prompt(row), **origin(row))


def parse_demonstration(row: Fields) -> Iterator[Demonstration]:
    yield Demonstration(
        prompt=_prompt(row),
        response=text(row, "response"),
        labeler=optional_text(row, "labeler"),
        **origin(row),
    )


def parse_comparison(row: Fields) -> Iterator[Comparison]:
    responses = row["responses"]
    if not isinstance(responses, list):
        raise BadRecordError(f"'responses' is {describe(responses)}, not a list of strings")
    weight = number(row, "weight")
    if weight is not None and weight < 0:
        raise BadRecordError(f"'weight' is {weight:g}, which is negative")
    try:
        yield Comparison(
            prompt=_prompt(row),
            responses=tuple(
                checked_text(response, f"responses[{i}]") for i, response in enumerate(responses)
            ),
            ranks=_ranks(row),
            probability=number(row, "probability"),
            strength=number(row, "strength"),
            weight=1.0 if weight is None else weight,
            labeler=optional_text(row, "labeler"),
            models=_models(row),
            **origin(row),
        )
    except BadRecordError:
        raise
    except ValueError as error:  # the record's own rules
        raise BadRecordError(f"is no comparison: {error}") from None


def parse_question(row: Fields) -> Iterator[Question]:
    options, answer = row["options"], row["answer"]
    if not isinstance(options, list):
        raise BadRecordError(f"'options' is {describe(options)}, not a list of strings")
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise BadRecordError(
            f"'answer' is {describe(answer)}, not the number of an option, counted from 0"
        )
    context = text(row, "context", blank=True)
    texts = tuple(checked_text(option, f"options[{i}]") for i, option in enumerate(options))
    try:
        yield Question(
            context=context,
            options=texts,
            answer=answer,
            source=optional_text(row, "source"),
            id=optional_text(row, "id"),
        )
    except ValueError as error:  # the record's own rules
        raise BadRecordError(f"is no question: {error}") from None


def _prompt(row: Fields) -> Dialogue:
    if "prompt" not in row:
        raise BadRecordError("has no 'prompt'")
    return transcripts.parse_prompt(row["prompt"])


def _ranks(row: Fields) -> tuple[int, ...] | None:
    ranks = row.get("ranks")
    if ranks is None:
        return None
    if not isinstance(ranks, list) or not all(
        isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1 for rank in ranks
    ):
        raise BadRecordError(
            f"'ranks' is {ranks!r}, not a list of whole numbers from 1 (the best) up"
        )
    return tuple(ranks)


def _models(row: Fields) -> tuple[str, ...] | None:
    models = row.get("models")
    if models is None:
        return None
    if not isinstance(models, list):
        raise BadRecordError(f"'models' is {describe(models)}, not a list of names")
    return tuple(checked_text(name, f"models[{i}]") for i, name in enumerate(models))


def render(record: Record) -> Iterator[Fields]:
    """The row of any record."""
    row: Fields = {}
    for field in dataclass_fields(record):
        value = getattr(record, field.name)
        if value is None or (field.name == "weight" and value == 1.0):
            continue
        if field.name == "prompt":
            row["prompt"] = messages(value)
        else:
            row[field.name] = list(value) if isinstance(value, tuple) else value
    yield row


def _carries(record_type: type) -> frozenset[str]:
    return frozenset(field.name for field in dataclass_fields(record_type))


TEXTS = Format(
    name="hark",
    kind="texts",
    title="texts",
    example='{"text": "Once upon a time …"}',
    recognises=lambda row: isinstance(row.get("text"), str),
    parse=parse_text,
    render=render,
    carries=_carries(Text),
)
PROMPTS = Format(
    name="hark",
    kind="prompts",
    title="hark prompts",
    example='{"prompt": [{"role": "user", "content": "…"}], "user": "…"}',
    recognises=lambda row: "prompt" in row and not {"response", "responses"} & row.keys(),
    parse=parse_prompt,
    render=render,
    carries=_carries(Prompt),
)
DEMONSTRATIONS = Format(
    name="hark",
    kind="demonstrations",
    title="hark demonstrations",
    example='{"prompt": [{"role": "user", "content": "…"}], "response": "…"}',
    recognises=lambda row: "prompt" in row and "response" in row,
    parse=parse_demonstration,
    render=render,
    carries=_carries(Demonstration),
)
COMPARISONS = Format(
    name="hark",
    kind="comparisons",
    title="hark comparisons",
    example='{"prompt": [{"role": "user", "content": "…"}], "responses": ["…", "…"], '
    '"ranks": [1, 2]}',
    recognises=lambda row: "prompt" in row and "responses" in row,
    parse=parse_comparison,
    render=render,
    carries=_carries(Comparison),
)
QUESTIONS = Format(
    name="hark",
    kind="questions",
    title="hark questions",
    example='{"context": "…", "options": [" …", " …"], "answer": 0}',
    recognises=lambda row: {"context", "options", "answer"} <= row.keys(),
    parse=parse_question,
    render=render,
    carries=_carries(Question),
)
