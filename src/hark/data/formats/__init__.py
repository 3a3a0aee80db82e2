"""Readers and writers of the formats that the ecosystem speaks; see `reading` and `writing`."""

from hark.data.formats.format import Format, Kind, Record
from hark.data.formats.reading import (
    OnBadLine,
    ReadReport,
    Records,
    iterate_texts,
    kind_of,
    read_comparisons,
    read_demonstrations,
    read_prompts,
    read_questions,
    read_records,
    read_texts,
    read_unjudged,
)
from hark.data.formats.writing import (
    write_comparisons,
    write_demonstrations,
    write_prompts,
    write_records,
    write_texts,
)

__all__ = [
    "Format",
    "Kind",
    "OnBadLine",
    "ReadReport",
    "Record",
    "Records",
    "iterate_texts",
    "kind_of",
    "read_comparisons",
    "read_demonstrations",
    "read_prompts",
    "read_questions",
    "read_records",
    "read_texts",
    "read_unjudged",
    "write_comparisons",
    "write_demonstrations",
    "write_prompts",
    "write_records",
    "write_texts",
]
