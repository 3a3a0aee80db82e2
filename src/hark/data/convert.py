"""From one format to another, saying what the other has no place for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hark.data.files import Paths
from hark.data.formats import Kind, OnBadLine, ReadReport, read_records, write_records
from hark.data.formats.format import KIND_OF, Record
from hark.data.formats.registry import writer
from hark.data.formats.writing import lost_fields
from hark.data.rankings import group_pairs_by_prompt
from hark.data.records import Comparison, Demonstration
from hark.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """How pairs become rankings; see `hark.data.rankings`."""

    responses: int
    """K, the responses of each ranking."""
    per_prompt: int | None = None
    """At most so many rankings of one prompt."""
    seed: int = 0

    def of(self, records: Sequence[Record]) -> list[Comparison]:
        """Raises: DataError if the records are not comparisons, or none makes a ranking."""
        found = group_pairs_by_prompt(
            _comparisons(records, "rankings"), responses_per_comparison=self.responses,
            comparisons_per_prompt=self.per_prompt, seed=self.seed,
        )  # fmt: skip
        if not found:
            raise DataError(
                f"no prompt has {self.responses} responses compared with one reference; "
                "ask for rankings of fewer responses"
            )
        return found


def preferred(records: Sequence[Record]) -> list[Demonstration]:
    """The best response of each comparison as a demonstration, to imitate.

    A comparison without a single best response (unjudged, tied, or an uncertain probability) has
    none. Raises: DataError if the records are not comparisons, or none has a best response.
    """
    found = [
        Demonstration(
            prompt=one.prompt, response=one.responses[one.best], user=one.user, source=one.source,
            id=one.id,
        )
        for one in _comparisons(records, "demonstrations of the preferred response")
        if one.best is not None
    ]  # fmt: skip
    if not found:
        raise DataError(
            "none of the comparisons has one response that is judged better than all others; "
            "judge them first (hark label, hark serve)"
        )
    return found


def _comparisons(records: Sequence[Record], what: str) -> list[Comparison]:
    found = [record for record in records if isinstance(record, Comparison)]
    if len(found) < len(records):
        raise DataError(f"only comparisons can be made into {what}; these are not comparisons")
    return found


@dataclass(frozen=True)
class Conversion:
    """What was read and written."""

    kind: Kind
    report: ReadReport
    rows: int
    """Rows written; pairs of one ranking count each."""
    lost: dict[str, int]
    """How many records had each field that the format has no place for."""
    untold: int
    """Comparisons of which nothing was written, as none of their responses is best."""

    def summary(self) -> str:
        """One or two sentences for whoever started the command."""
        sentence = f"{self.report.summary()}; wrote {self.rows:,} rows"
        if self.lost:
            fields = ", ".join(f"{name} ({count:,})" for name, count in self.lost.items())
            sentence += f"; the format has no place for: {fields}"
        if self.untold:
            sentence += f"; {self.untold:,} comparisons without a winner were left out"
        return sentence


def convert(
    source: Paths,
    destination: str | Path,
    *,
    to: str = "hark",
    format: str = "auto",
    on_bad_line: OnBadLine = "stop",
    overwrite: bool = False,
    rankings: Rankings | None = None,
    only_preferred: bool = False,
) -> Conversion:
    """Read `source`, in `format`, and write it to `destination` in the format `to`.

    With `rankings`, judged pairs that share a prompt and a reference become rankings first; with
    `only_preferred`, comparisons become demonstrations (see `preferred`).
    Raises: DataError if the destination is there already, if `to` cannot express the records, and
    as the readers do.
    """
    destination = Path(destination)
    if destination.exists() and not overwrite:
        raise DataError(f"'{destination}' exists already; name another file")
    read = read_records(source, format=format, on_bad_line=on_bad_line)
    records: Sequence[Record] = read if rankings is None else rankings.of(read)
    without_best = 0
    if only_preferred:
        without_best, records = len(records), preferred(records)
        without_best -= len(records)
    kind = KIND_OF[type(records[0])]
    form = writer(kind, to)
    keeps_ties = "hark", "arena"
    untold = sum(
        isinstance(record, Comparison) and not any(record.ordered_pairs()) for record in records
    )
    unjudged = sum(isinstance(record, Comparison) and not record.judged for record in records)
    if unjudged and to != "hark":
        raise DataError(
            f"{unjudged:,} of {len(records):,} comparisons are unjudged, which format '{to}' "
            "cannot express; convert to 'hark'"
        )
    rows = write_records(destination, records, kind=kind, format=to)
    return Conversion(
        kind=kind,
        report=read.report,
        rows=rows,
        lost=lost_fields(records, form),
        untold=without_best + (0 if to in keeps_ties else untold),
    )
