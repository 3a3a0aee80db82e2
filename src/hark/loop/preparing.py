"""The stage `prepare`: clean and split data, and leave an account of it to review."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hark.data.formats import read_records
from hark.data.prepare import PrepareSettings, prepare
from hark.data.records import Comparison, Demonstration, Prompt
from hark.data.review import write_prepared, write_review
from hark.errors import DataError
from hark.runs.run import Run
from hark.runs.settings import StageSettings
from hark.training.examples import Paths


class PrepareStageSettings(StageSettings, PrepareSettings):
    """Clean and split prompts, demonstrations or comparisons as InstructGPT did."""

    data: Paths
    """Files of prompts, demonstrations or comparisons."""
    on_bad_line: Literal["stop", "skip"] = "stop"
    """A malformed line of a data file: stop, or skip it and write it to a side file."""


def run_prepare(settings: PrepareStageSettings, run: Run) -> dict[str, Any]:
    """Write the splits and the account of what was removed below `data/`."""
    read = read_records(
        list(settings.data),
        on_bad_line=settings.on_bad_line,
        skipped_directory=run.data_path("skipped").parent,
    )
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
