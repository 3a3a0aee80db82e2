"""Items in files: what a study is filled from."""

from __future__ import annotations

from pathlib import Path

from hark.data.rows import iterate_rows
from hark.errors import DataError
from hark.feedback.items import NewItem
from hark.feedback.refusals import InvalidLabelError


def read_items(path: Path) -> list[NewItem]:
    """Items from JSON lines or Parquet. Raises: DataError with file and line."""
    found = []
    for row in iterate_rows(path):
        if row.fields is None:
            raise DataError(f"{row.where}: {row.problem}")
        try:
            found.append(NewItem.read(row.fields, what=row.where))
        except InvalidLabelError as error:
            raise DataError(str(error)) from None
    return found
