"""What is in a data file: for `hark data inspect`, before anything is trained on it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hark.data.dedup import comparable
from hark.data.files import Paths
from hark.data.formats import Kind, OnBadLine, ReadReport, Record, read_records
from hark.data.formats.format import KIND_OF
from hark.data.records import Comparison, Demonstration, Dialogue, Question, Text

EXAMPLES = 3
EXAMPLE_CHARACTERS = 200


@dataclass(frozen=True)
class Lengths:
    """Lengths in characters."""

    smallest: int
    median: float
    mean: float
    largest: int


@dataclass(frozen=True)
class Inspection:
    """What a file holds."""

    kind: Kind
    count: int
    report: ReadReport
    """Formats, and malformed rows if they were skipped."""
    lengths: dict[str, Lengths]
    """Of prompts, responses, contexts, options or texts."""
    people: dict[str, int]
    """How many different users, labelers and sources there are; absent if none is named."""
    judgements: dict[str, int]
    """Comparisons only: unjudged, ties, soft labels, and how many have how many responses."""
    strengths: dict[float, int]
    """How often each strength was given."""
    warnings: list[str] = field(default_factory=list)
    """What a person should look at, one sentence each."""
    examples: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The inspection as a person reads it."""
        yield f"{self.count:,} {self.kind}"
        yield self.report.summary()
        for name, lengths in self.lengths.items():
            yield (
                f"{name}, characters: median {lengths.median:,.0f}, mean {lengths.mean:,.0f}, from "
                f"{lengths.smallest:,} to {lengths.largest:,}"
            )
        for counts in (self.people, self.judgements):
            if counts:
                yield ", ".join(f"{name}: {count:,}" for name, count in counts.items())
        if self.strengths:
            yield "strength: " + ", ".join(
                f"{strength:g} ({count:,})" for strength, count in self.strengths.items()
            )
        for warning in self.warnings:
            yield f"look at this: {warning}"
        for number, example in enumerate(self.examples, start=1):
            yield f"example {number}: {example}"


def inspect(paths: Paths, *, format: str = "auto", on_bad_line: OnBadLine = "stop") -> Inspection:
    """Read all records of `paths`, which hold one kind, and describe them.

    Raises: DataError as the readers do.
    """
    records = read_records(paths, format=format, on_bad_line=on_bad_line)
    comparisons = [record for record in records if isinstance(record, Comparison)]
    strengths = Counter(one.strength for one in comparisons if one.strength is not None)
    return Inspection(
        kind=KIND_OF[type(records[0])],
        count=len(records),
        report=records.report,
        lengths=_lengths(records),
        people=_people(records),
        judgements=_judgements(comparisons),
        strengths=dict(sorted(strengths.items())),
        warnings=list(_warnings(records, comparisons)),
        examples=[_example(record) for record in _spread(records)],
    )


def _responses(record: Record) -> tuple[str, ...]:
    if isinstance(record, Comparison):
        return record.responses
    return (record.response,) if isinstance(record, Demonstration) else ()


def _lengths(records: Sequence[Record]) -> dict[str, Lengths]:
    names = ("prompts", "responses", "contexts", "options", "texts")
    measured: dict[str, list[int]] = {name: [] for name in names}
    for record in records:
        if isinstance(record, Text):
            measured["texts"].append(len(record.text))
        elif isinstance(record, Question):
            measured["contexts"].append(len(record.context))
            measured["options"] += [len(option) for option in record.options]
        else:
            measured["prompts"].append(sum(len(turn.content) for turn in record.prompt))
            measured["responses"] += [len(response) for response in _responses(record)]
    return {
        name: Lengths(min(values), statistics.median(values), statistics.fmean(values), max(values))
        for name, values in measured.items()
        if values
    }


def _people(records: Sequence[Record]) -> dict[str, int]:
    counts = {}
    for name, plural in (("user", "users"), ("labeler", "labelers"), ("source", "sources")):
        named = {getattr(record, name, None) for record in records} - {None}
        if named:
            counts[plural] = len(named)
    return counts


def _judgements(comparisons: Sequence[Comparison]) -> dict[str, int]:
    if not comparisons:
        return {}
    counts = {
        "unjudged": sum(not one.judged for one in comparisons),
        "all tied": sum(one.judged and not any(one.ordered_pairs()) for one in comparisons),
        "soft labels": sum(one.probability is not None for one in comparisons),
    }
    sizes = Counter(len(one.responses) for one in comparisons)
    for size, count in sorted(sizes.items()):
        counts[f"of {size} responses"] = count
    return counts


def _warnings(records: Sequence[Record], comparisons: Sequence[Comparison]) -> Iterator[str]:
    repeated = len(records) - len({_key(record) for record in records})
    if repeated:
        kind = KIND_OF[type(records[0])]
        what = kind if kind in ("texts", "questions") else "prompts"
        yield f"{repeated:,} of {len(records):,} records repeat the {what} of another"
    same = sum(len(set(one.responses)) < len(one.responses) for one in comparisons)
    if same:
        yield f"{same:,} comparisons hold the same response twice"
    longer = shorter = 0
    for one in comparisons:
        for better, worse in one.ordered_pairs():
            difference = len(one.responses[better]) - len(one.responses[worse])
            longer += difference > 0
            shorter += difference < 0
    if longer + shorter >= 20 and not 0.4 <= longer / (longer + shorter) <= 0.6:
        share = longer / (longer + shorter)
        yield (
            f"the longer response wins {share:.0%} of the pairs of unequal length; compare a "
            "preference model with this"
        )
    if comparisons and not any(one.labeler for one in comparisons):
        yield "no comparison names its labeler, so that intervals cannot be clustered by labeler"


def _key(record: Record) -> str:
    if isinstance(record, Question):
        return repr((record.context, record.options))
    return record.text if isinstance(record, Text) else comparable(record.prompt)


def _spread(records: Sequence[Record]) -> list[Record]:
    """The first record, one from the middle, and the last."""
    places = sorted({0, len(records) // 2, len(records) - 1})[:EXAMPLES]
    return [records[place] for place in places]


def _example(record: Record) -> str:
    if isinstance(record, Text):
        return _short(record.text)
    if isinstance(record, Question):
        options = (_short(option) for option in record.options[:4])
        return " → ".join([_short(record.context), *options]) + f" (answer {record.answer})"
    shown = _dialogue(record.prompt)
    for place, response in enumerate(_responses(record)[:4]):
        rank = ""
        if isinstance(record, Comparison) and record.ranks is not None:
            rank = f" (rank {record.ranks[place]})"
        shown += f" → {_short(response)}{rank}"
    return shown


def _dialogue(prompt: Dialogue) -> str:
    earlier = f"[{len(prompt) - 1} turns] " if len(prompt) > 1 else ""
    return earlier + _short(prompt[-1].content)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXAMPLE_CHARACTERS else f"{line[: EXAMPLE_CHARACTERS - 1]}…"
