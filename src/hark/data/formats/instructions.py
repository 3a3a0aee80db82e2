"""Instructions with answers: Alpaca's `instruction`, `input`, `output`, and its relatives.

The prompt is the instruction and, after a blank line, its input. Also read: Dolly's `context` and
`response`, and Self-Instruct's `instances` (a demonstration for each).
"""

from __future__ import annotations

from collections.abc import Iterator

from hark.data.formats.fields import BadRecordError, describe, optional_text, origin, text
from hark.data.formats.format import Format, cannot_express
from hark.data.records import Demonstration, Prompt, ask
from hark.data.rows import Fields

TITLE = "Alpaca instructions"


def parse(row: Fields) -> Iterator[Demonstration | Prompt]:
    """A demonstration, or a prompt where no answer is given."""
    given = optional_text(row, "input", "context") or ""
    answer = next((name for name in ("output", "response") if name in row), None)
    response = text(row, answer, blank=True) if answer else ""
    yield _record(row, text(row, "instruction"), given, response)


def parse_instances(row: Fields) -> Iterator[Demonstration | Prompt]:
    """One record for each instance of a Self-Instruct task."""
    instances = row["instances"]
    if not isinstance(instances, list) or not instances:
        raise BadRecordError(
            f"'instances' is {describe(instances)}, not a list of inputs and outputs"
        )
    for instance in instances:
        if not isinstance(instance, dict):
            raise BadRecordError(
                f"'instances' holds {describe(instance)}, not an input and an output"
            )
        given = optional_text(instance, "input") or ""
        yield _record(row, text(row, "instruction"), given, optional_text(instance, "output") or "")


def _record(row: Fields, instruction: str, given: str, response: str) -> Demonstration | Prompt:
    prompt = ask(f"{instruction.strip()}\n\n{given.strip()}" if given.strip() else instruction)
    if not response.strip():
        return Prompt(prompt=prompt, **origin(row))
    labeler = optional_text(row, "labeler")
    return Demonstration(prompt=prompt, response=response.strip(), labeler=labeler, **origin(row))


def render(record: Demonstration) -> Iterator[Fields]:
    """The whole prompt as the instruction, with an empty input."""
    if len(record.prompt) != 1:
        raise cannot_express(TITLE, f"a prompt of {len(record.prompt)} turns")
    yield {"instruction": record.prompt[0].content, "input": "", "output": record.response}


INSTRUCTIONS = Format(
    name="instructions",
    kind="demonstrations",
    title=TITLE,
    example='{"instruction": "…", "input": "…", "output": "…"}',
    recognises=lambda row: "instruction" in row,
    parse=parse,
    render=render,
    carries=frozenset({"prompt", "response"}),
)
SELF_INSTRUCT = Format(
    name="self-instruct",
    kind="demonstrations",
    title="Self-Instruct tasks",
    example='{"instruction": "…", "instances": [{"input": "…", "output": "…"}]}',
    recognises=lambda row: "instruction" in row and "instances" in row,
    parse=parse_instances,
)
