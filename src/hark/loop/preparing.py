"""The stage `prepare`: clean and split data, and leave an account of it to review."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hark.data.formats import read_records
from hark.data.prepare import PrepareSettings, prepare
from hark.data.records import Comparison, Demonstration, Prompt
from hark.data.review import write_prepared, write_review
from hark.errors import DataError
from hark.loop.inputs import read_files
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths


class PrepareStageSettings(DataStageSettings, PrepareSettings):
    """Clean and split prompts, demonstrations or comparisons as InstructGPT did."""

    data: Paths
    """Files of prompts, demonstrations or comparisons."""


def run_prepare(settings: PrepareStageSettings, run: Run) -> dict[str, Any]:
    """Write the splits and the account of what was removed below `data/`."""
    read = read_files(read_records, settings.data, settings, run)
    prepared = prepare(_with_prompts(read), settings)
    directory = run.data_path("review.md").parent
    splits = write_prepared(directory, prepared)
    review = write_review(directory, prepared)
    return {
        "total": prepared.total,
        "removed": prepared.counts,
        "masked": prepared.masked,
        "personal_data_found": len(prepared.findings),
        "train": len(prepared.splits.train),
        "validation": len(prepared.splits.validation),
        "test": len(prepared.splits.test),
        "files": {name: str(path) for name, path in {**splits, **review}.items()},
    }


def _with_prompts(records: Sequence[Any]) -> list[Prompt | Demonstration | Comparison]:
    for record in records:
        if not isinstance(record, Prompt | Demonstration | Comparison):
            raise DataError(
                "these files hold plain texts, which have no prompts to clean by; give prompts, "
                "demonstrations or comparisons"
            )
    return list(records)
