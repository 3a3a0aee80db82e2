"""Reading records from files of any known format.

The format of each file is recognised from its first record, or named by `format`. A malformed row
stops the reading with `file:line: what was wrong; expected …`. With `on_bad_line="skip"` it is
counted, and kept in a side file `<name>.skipped.jsonl` with its place and the reason: in
`skipped_directory` if one is given, otherwise beside the data, or in the current directory where
that cannot be written to. What was read and skipped is in the `report` of the returned records; a
file of which nothing is left is an error all the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar, cast

from hark.data.files import SKIPPED_ENDING, Paths, content_ending, expand_paths
from hark.data.formats import registry, trl
from hark.data.formats.fields import BadRecordError
from hark.data.formats.format import COMMAND, KIND_OF, Format, Kind, Record
from hark.data.records import Comparison, Demonstration, Prompt, Question, Text
from hark.data.rows import Fields, Row, iterate_rows
from hark.errors import DataError

R = TypeVar("R")
OnBadLine = Literal["stop", "skip"]


@dataclass
class ReadReport:
    """What happened while reading; filled as the records are taken."""

    files: dict[str, str] = field(default_factory=dict)
    """From each file to the title of its format."""
    read: int = 0
    """Records."""
    skipped: int = 0
    """Malformed rows."""
    skipped_files: list[Path] = field(default_factory=list)
    """Where the malformed rows are kept."""

    def summary(self) -> str:
        """One sentence for whoever started the command."""
        titles = ", ".join(dict.fromkeys(self.files.values()))
        sentence = f"read {self.read:,} records ({titles})"
        if self.skipped:
            places = ", ".join(str(path) for path in self.skipped_files)
            sentence += f"; skipped {self.skipped:,} malformed rows, kept in {places}"
        return sentence


class Records(list[R], Generic[R]):
    """The records of one reading, and its report."""

    def __init__(self, records: Iterable[R], report: ReadReport) -> None:
        super().__init__(records)
        self.report = report


def read_texts(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
) -> Records[Text]:
    """Read documents: `{"text": …}` rows, or `.txt` files (see `hark.data.rows`).

    `format="lines"` takes each line of a `.txt` file as a text.
    Raises: DataError for files and rows that are not texts.
    """
    reading = _Reading("texts", on_bad_line, format, skipped_directory)
    return cast(Records[Text], reading.collect(paths))


def iterate_texts(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
    report: ReadReport | None = None,
) -> Iterator[Text]:
    """Like `read_texts`, one text at a time; `report`, if given, is filled on the way."""
    reading = _Reading("texts", on_bad_line, format, skipped_directory, report=report)
    return cast(Iterator[Text], reading.records(paths))


def read_prompts(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
) -> Records[Prompt]:
    """Read prompts, also those of demonstrations and comparisons (repetitions are kept).

    Each line of a `.txt` file is a prompt.
    Raises: DataError for files and rows that have no prompt.
    """
    reading = _Reading("prompts", on_bad_line, format, skipped_directory)
    return cast(Records[Prompt], reading.collect(paths))


def read_demonstrations(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
) -> Records[Demonstration]:
    """Read prompts with the answers people wrote.

    Raises: DataError for files and rows that are not demonstrations.
    """
    reading = _Reading("demonstrations", on_bad_line, format, skipped_directory)
    return cast(Records[Demonstration], reading.collect(paths))


def read_comparisons(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
) -> Records[Comparison]:
    """Read judged comparisons. A row without ranks or probability is malformed here.

    Raises: DataError for files and rows that are not judged comparisons.
    """
    reading = _Reading("comparisons", on_bad_line, format, skipped_directory)
    return cast(Records[Comparison], reading.collect(paths))


def read_unjudged(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
) -> Records[Comparison]:
    """Read comparisons for a labeler to judge; judgements that are there are taken off.

    Raises: DataError for files and rows that are not comparisons.
    """
    reading = _Reading("comparisons", on_bad_line, format, skipped_directory, judged=False)
    return cast(Records[Comparison], reading.collect(paths))


def read_questions(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
) -> Records[Question]:
    """Read multiple-choice questions: `{"context": …, "options": […], "answer": 0}`.

    Raises: DataError for files and rows that are not questions.
    """
    reading = _Reading("questions", on_bad_line, format, skipped_directory)
    return cast(Records[Question], reading.collect(paths))


def kind_of(
    paths: Paths, *, on_bad_line: OnBadLine = "stop", skipped_directory: Path | None = None
) -> Kind:
    """What the first record of `paths` is one of. Raises: DataError if there is none."""
    reading = _Reading(None, on_bad_line, "auto", skipped_directory, judged=None)
    return KIND_OF[type(next(reading.records(paths)))]


def read_records(
    paths: Paths,
    *,
    on_bad_line: OnBadLine = "stop",
    format: str = "auto",
    skipped_directory: Path | None = None,
) -> Records[Record]:
    """Read records of whatever kind the files hold, judged or not, without changing them.

    Raises: DataError for files and rows of no known format, and for files of different kinds.
    """
    reading = _Reading(None, on_bad_line, format, skipped_directory, judged=None)
    return reading.collect(paths)


class _Reading:
    """One call of a reader: its options, and the report it fills."""

    def __init__(
        self,
        wanted: Kind | None,
        on_bad_line: OnBadLine,
        format: str,
        skipped_directory: Path | None,
        *,
        judged: bool | None = True,
        report: ReadReport | None = None,
    ) -> None:
        if on_bad_line not in ("stop", "skip"):
            raise DataError(f"on_bad_line is '{on_bad_line}'; expected 'stop' or 'skip'")
        registry.check_name(format)
        self.wanted = wanted
        self.on_bad_line = on_bad_line
        self.format = format
        self.skipped_directory = skipped_directory
        self.judged = judged
        self.report = report if report is not None else ReadReport()

    def collect(self, paths: Paths) -> Records[Record]:
        return Records(self.records(paths), self.report)

    def records(self, paths: Paths) -> Iterator[Record]:
        kinds: dict[Kind, str] = {}
        for source in expand_paths(paths):
            found = _File(self, source)
            for record in found.records():
                self.report.read += 1
                yield record
            assert found.kind is not None
            kinds.setdefault(found.kind, str(source))
            if self.wanted is None and len(kinds) > 1:
                places = " and ".join(f"'{path}' holds {kind}" for kind, path in kinds.items())
                raise DataError(f"{places}; give one kind at a time")


class _File:
    """One file being read: its format, once recognised, and its skipped rows."""

    def __init__(self, reading: _Reading, source: str | Path) -> None:
        self.reading = reading
        self.source = source
        self.format: Format | None = None
        self.kind: Kind | None = None
        self.side_file: Path | None = None
        self.plain = isinstance(source, Path) and content_ending(source) == ".txt"
        self.first_problem = ""
        if self.plain:
            self._set_format(registry.PLAIN_TEXT)
        elif reading.format in (registry.LINES, registry.PLAIN_TEXT.name):
            raise DataError(f"'{source}' is not a .txt file, which format '{reading.format}' reads")

    def records(self) -> Iterator[Record]:
        as_lines = self.reading.format == registry.LINES or self.reading.wanted == "prompts"
        any_good = False
        for row in iterate_rows(self.source, as_lines=as_lines):
            try:
                records = self._parse(row)
            except BadRecordError as problem:
                self._bad(row, str(problem))
                continue
            any_good = any_good or bool(records)
            yield from records
        if not any_good:
            raise DataError(
                f"'{self.source}' has no usable record; the first: {self.first_problem}"
            )

    def _parse(self, row: Row) -> list[Record]:
        if row.fields is None:
            raise BadRecordError(row.problem)
        if self.format is None:
            self._recognise(row.fields)
        assert self.format is not None
        if self.plain and self.reading.wanted == "prompts":
            parsed = list(trl.STANDARD_PROMPTS.parse({"prompt": row.fields["text"]}))
            return [self._one_kind(record) for record in parsed]
        try:
            parsed = list(self.format.parse(row.fields))
        except KeyError as missing:
            raise BadRecordError(f"has no {missing}; expected {self.format.example}") from None
        except BadRecordError as problem:
            raise BadRecordError(f"{problem}; expected {self.format.example}") from None
        return [self._one_kind(self._convert(record)) for record in parsed]

    def _recognise(self, fields: Fields) -> None:
        name, wanted = self.reading.format, self.reading.wanted
        found = registry.recognise(fields, name)
        if found is None:
            names = ", ".join(f"'{field_name}'" for field_name in list(fields)[:8]) or "none"
            what = "no known format" if name == "auto" else f"not format '{name}'"
            raise BadRecordError(
                f"is in {what} (its fields: {names}); expected {registry.expected(wanted, name)}"
            )
        self._set_format(found)

    def _set_format(self, found: Format) -> None:
        wanted = self.reading.wanted
        if wanted not in (None, found.kind, "prompts") or (
            wanted == "prompts" and found.kind in ("texts", "questions") and not self.plain
        ):
            raise DataError(
                f"'{self.source}' looks like {found.kind} ({found.title}), but {wanted} are "
                f"expected here; give it to '{COMMAND[found.kind]}', or give {wanted} such as "
                f"{registry.expected(wanted).split(' or ')[0]}"
            )
        self.format = found
        self.reading.report.files[str(self.source)] = found.title

    def _convert(self, record: Record) -> Record:
        """The record as the kind that was asked for."""
        wanted, judged = self.reading.wanted, self.reading.judged
        if wanted == "prompts" and isinstance(record, Demonstration | Comparison):
            return Prompt(
                prompt=record.prompt, user=record.user, source=record.source, id=record.id
            )
        if wanted == "demonstrations" and isinstance(record, Prompt):
            raise BadRecordError("is a prompt without an answer, and a demonstration needs both")
        if isinstance(record, Comparison) and judged is not None:
            if not judged:
                return dataclasses.replace(record, ranks=None, probability=None, strength=None)
            if not record.judged:
                raise BadRecordError(
                    "is a comparison without 'ranks' or 'probability', so unjudged"
                )
        return record

    def _one_kind(self, record: Record) -> Record:
        """The record, if it is of the kind of this file's first one."""
        kind = KIND_OF[type(record)]
        if self.kind is None:
            self.kind = kind
        if kind != self.kind:
            raise BadRecordError(f"is one of {kind}, in a file that began with {self.kind}")
        return record

    def _bad(self, row: Row, problem: str) -> None:
        message = f"{row.where}: {problem}"
        if self.reading.on_bad_line == "stop":
            raise DataError(message)
        self.first_problem = self.first_problem or message
        raw = row.raw if row.fields is None else json.dumps(row.fields, ensure_ascii=True)
        line = {"where": row.where, "number": row.number, "problem": problem, "row": raw}
        if self.side_file is None:
            self.side_file = self._new_side_file()
        try:
            with self.side_file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, ensure_ascii=True) + "\n")
        except OSError as error:
            raise DataError(
                f"cannot write skipped rows to '{self.side_file}': {error.strerror}"
            ) from None
        self.reading.report.skipped += 1

    def _new_side_file(self) -> Path:
        """An empty file for this file's skipped rows, different from those of the same reading."""
        source = Path(str(self.source).replace(":", "/"))
        directory = self.reading.skipped_directory
        if directory is None:
            beside = isinstance(self.source, Path) and os.access(source.parent, os.W_OK)
            directory = source.parent if beside else Path()
        path = directory / f"{source.name}{SKIPPED_ENDING}"
        taken = self.reading.report.skipped_files
        for number in range(2, len(taken) + 2):
            if path in taken:
                path = directory / f"{source.name}.{number}{SKIPPED_ENDING}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
        except OSError as error:
            raise DataError(
                f"cannot keep skipped rows in '{directory}': {error.strerror}; name another place "
                "with skipped_directory"
            ) from None
        taken.append(path)
        return path
