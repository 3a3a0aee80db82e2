"""`hark data`: look at data files, convert them, prepare them. Only `prepare` loads torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from hark.cli.options import Json
from hark.cli.outcome import announce
from hark.data.convert import Rankings
from hark.data.convert import convert as convert_files
from hark.data.files import expand_paths
from hark.data.formats import OnBadLine
from hark.data.inspect import Inspection
from hark.data.inspect import inspect as inspect_files
from hark.data.ranked_texts import write_ranked
from hark.errors import SettingsError

app = App(name="data", help="Look at, convert and clean data files.", help_format="plaintext")
app.command("hark.cli.prepare:prepare", name="prepare", help="Clean and split data for training.")

Data = Annotated[
    list[str],
    Parameter(
        name="--data",
        help="Files, directories or globs of data; the word --data may be left out.",
        consume_multiple=True,
        negative=(),
    ),
]
Format = Annotated[
    str, Parameter(name="--format", help="Name of the format, or auto to recognise each file's.")
]
BadLine = Annotated[
    OnBadLine,
    Parameter(name="--on-bad-line", help="stop at a malformed line, or skip and count it."),
]


@app.command
def inspect(
    data: Data, *, format_: Format = "auto", on_bad_line: BadLine = "stop", json: Json = False
) -> None:
    """Say what hark makes of data files: kind, format, counts, lengths, examples, oddities.

    Example: hark data inspect comparisons.jsonl
    """
    found = {
        str(source): inspect_files(source, format=format_, on_bad_line=on_bad_line)
        for source in expand_paths(data)
    }
    if json:
        files = [plain_inspection(file, inspection) for file, inspection in found.items()]
        announce({"files": files}, run=None, as_json=True)
        return
    for file, inspection in found.items():
        print(f"{file}: " + "\n  ".join(inspection.lines()))


@app.command
def convert(
    data: Data,
    *,
    to: Annotated[
        Path,
        Parameter(help="File to write: .jsonl, .json (also .gz, .xz, .zst), .parquet or .txt."),
    ],
    to_format: Annotated[
        str, Parameter(help="Format to write: hark, trl, trl-standard, hh, openai, arena, txt, …")
    ] = "hark",
    format_: Format = "auto",
    on_bad_line: BadLine = "stop",
    rankings: Annotated[
        int | None,
        Parameter(
            help="Make rankings of this many responses of the pairs that share a prompt and a "
            "reference, such as a leaderboard's: winners, ties, losers."
        ),
    ] = None,
    rankings_per_prompt: Annotated[
        int | None, Parameter(help="With --rankings: at most so many of one prompt.")
    ] = None,
    preferred: Annotated[
        bool,
        Parameter(
            help="Make a demonstration of the best response of each comparison, to imitate.",
            negative=(),
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Write data files in another format; says which fields that format has no place for.

    Example: hark data convert pairs.jsonl --to pairs.parquet --to-format trl
    """
    if rankings is None and rankings_per_prompt is not None:
        raise SettingsError("--rankings-per-prompt would be ignored without --rankings")
    if preferred and rankings is not None:
        raise SettingsError("--preferred makes demonstrations, --rankings comparisons: name one")
    made = Rankings(responses=rankings, per_prompt=rankings_per_prompt) if rankings else None
    done = convert_files(
        data, to, to=to_format, format=format_, on_bad_line=on_bad_line, rankings=made,
        only_preferred=preferred,
    )  # fmt: skip
    if not json:
        print(f"{done.summary()}: {to}")
        return
    results = {
        "kind": done.kind,
        "rows": done.rows,
        "skipped": done.report.skipped,
        "lost": done.lost,
        "left_out": done.untold,
        "path": str(to),
    }
    announce(results, run=None, as_json=True)


@app.command
def ranked(
    data: Data,
    *,
    to: Annotated[Path, Parameter(help="File of comparisons to write.")],
    binarise: Annotated[
        bool,
        Parameter(
            help="GOOD:A over BAD:A and BAD:B over GOOD:B, instead of A over B.", negative=()
        ),
    ] = False,
    pairs_per_question: Annotated[
        int | None,
        Parameter(help="Take so many pairs of each question, at random.", validator=Number(gte=1)),
    ] = None,
    seed: Annotated[int, Parameter(help="Which pairs are taken.")] = 0,
    json: Json = False,
) -> None:
    """Make comparisons of questions with voted answers, or of edits, to pretrain on.

    Example: hark data ranked questions.jsonl --to pmp.jsonl --binarise
    """
    done = write_ranked(
        data, to, binarise=binarise, pairs_per_question=pairs_per_question, seed=seed
    )
    if json:
        announce(dataclasses.asdict(done) | {"path": str(to)}, run=None, as_json=True)
        return
    print(
        f"{done.read:,} questions or edits, {done.left_out:,} of which say nothing; "
        f"{done.written:,} comparisons: {to}"
    )


def plain_inspection(file: str, inspection: Inspection) -> dict[str, Any]:
    """An inspection in the types of JSON."""
    values = dataclasses.asdict(inspection)
    report = values.pop("report")
    formats = list(dict.fromkeys(report["files"].values()))
    return {"file": file, "formats": formats, "skipped": report["skipped"]} | values
