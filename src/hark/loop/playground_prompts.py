"""The stage `playground-prompts`: prompts parted by what the playground's people ask for.

A study of a skill trains on all prompts, and on all but those that ask for the skill.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from hark.data.formats import read_prompts, write_prompts
from hark.errors import DataError, did_you_mean
from hark.loop.inputs import read_files
from hark.playground.tasks import FAMILY_SHARES, read_prompt
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths


class PlaygroundPromptsSettings(DataStageSettings):
    """Part prompts of the built-in world by whether they are of one family of requests."""

    data: Paths = Field(min_length=1)
    """Files of the playground's prompts."""
    family: str
    """The family of requests: shorter (summaries), code, story, harmful or another."""

    @field_validator("family")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FAMILY_SHARES:
            known = ", ".join(FAMILY_SHARES)
            raise ValueError(f"unknown{did_you_mean(name, FAMILY_SHARES)}; known: {known}")
        return name


def run_playground_prompts(settings: PlaygroundPromptsSettings, run: Run) -> dict[str, Any]:
    """Write `data/prompts-FAMILY.jsonl` and `data/prompts-not-FAMILY.jsonl`; count both.

    Every record is in one of them, unchanged and in its order. A dialogue is of the family that
    its last request is of. Raises: DataError if either file would be empty.
    """
    family = settings.family
    inside, outside = parts = f"prompts-{family}", f"prompts-not-{family}"
    parted: dict[str, list[Any]] = {name: [] for name in parts}
    for record in read_files(read_prompts, settings.data, settings, run):
        task = read_prompt(record.prompt)
        parted[inside if task is not None and task.family == family else outside].append(record)
    counts = {name: len(records) for name, records in parted.items()}
    if not all(counts.values()):
        which = "every one" if counts[inside] else "none"
        raise DataError(
            f"{which} of the {sum(counts.values())} prompts is of the family '{family}', so there "
            "is nothing to part; give more prompts, or another family"
        )
    for name, records in parted.items():
        write_prompts(run.data_path(f"{name}.jsonl"), records)
    return counts
