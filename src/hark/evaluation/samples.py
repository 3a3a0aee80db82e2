"""Sample files: what each policy answered to which prompt, and what was thought of it.

One JSON object a line: `prompt` (messages), `policy`, `response`, `scores` (name to number),
`finish`. The same prompt may appear under several policies; `side_by_side` brings them together.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hark.data.records import Dialogue, Message
from hark.errors import DataError, RunError

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One policy's answer to one prompt."""

    prompt: Dialogue
    policy: str
    response: str
    scores: dict[str, float] = field(default_factory=dict)
    """What scorers and graders said, by name; higher is better."""
    finish: str | None = None
    """How the generation ended: "end", "stop" or "length"; None where nobody knows."""


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write a sample file, whole or not at all.

    Raises: DataError if a score is not finite; RunError if the disk refuses.
    """
    lines = [json.dumps(_to_json(each), ensure_ascii=False) for each in samples]
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise RunError(
            f"cannot write '{path}': {error.strerror}; free some space or choose another --output"
        ) from None


def read_samples(path: Path) -> list[Sample]:
    """Read a sample file.

    Raises: DataError with file:line for what is not a sample.
    """
    try:
        # Not splitlines: JSON leaves U+2028 and its kin unescaped inside a line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"cannot read samples from '{path}': {reason}") from None
    return [
        _from_json(line, where=f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def side_by_side(samples: Iterable[Sample]) -> list[tuple[Dialogue, tuple[Sample, ...]]]:
    """Group samples by prompt, prompts and policies in order of first appearance."""
    groups: dict[Dialogue, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.prompt, []).append(sample)
    return [(prompt, tuple(members)) for prompt, members in groups.items()]


def samples_of(
    policy: str,
    prompts: Sequence[Dialogue],
    responses: Sequence[str],
    scores: dict[str, Sequence[float]] | None = None,
    finishes: Sequence[str] | None = None,
) -> list[Sample]:
    """Lay parallel lists out as samples: scores by name, each [n]."""
    return [
        Sample(
            prompt=prompt,
            policy=policy,
            response=response,
            scores={name: float(values[n]) for name, values in (scores or {}).items()},
            finish=finishes[n] if finishes else None,
        )
        for n, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
    ]


def _to_json(sample: Sample) -> dict[str, Any]:
    for name, value in sample.scores.items():
        if not math.isfinite(value):
            raise DataError(
                f"the score '{name}' of a sample of '{sample.policy}' is {value}: "
                "only finite scores can be written"
            )
    return {
        "prompt": [{"role": each.role, "content": each.content} for each in sample.prompt],
        "policy": sample.policy,
        "response": sample.response,
        "scores": sample.scores,
        "finish": sample.finish,
    }


def _from_json(line: str, *, where: str) -> Sample:
    try:
        values = json.loads(line)
        prompt = tuple(Message(each["role"], each["content"]) for each in values["prompt"])
        sample = Sample(
            prompt=prompt,
            policy=values["policy"],
            response=values["response"],
            scores={name: float(value) for name, value in values.get("scores", {}).items()},
            finish=values.get("finish"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        sample = None
    if sample is None or not _well_formed(sample):
        raise DataError(
            f"{where}: not a sample: expected a JSON object with 'prompt' (a list of messages), "
            "'policy' and 'response'"
        )
    return sample


def _well_formed(sample: Sample) -> bool:
    texts = (sample.policy, sample.response, *(each.content for each in sample.prompt))
    return all(isinstance(text, str) for text in texts) and all(
        each.role in ROLES for each in sample.prompt
    )
