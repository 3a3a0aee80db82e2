"""Data snapshots: the labels of a study as training data, hashed and never changed.

A snapshot is a directory named after the hash of what is in it: the data in one format, every event
behind it, and a card. The same labels make the same snapshot; more labels make another one.
"""

from __future__ import annotations

import collections
import json
import shutil
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from hark.data.formats import registry
from hark.data.formats.writing import write_records
from hark.data.records import Comparison, Demonstration
from hark.errors import DataError, RunError
from hark.feedback import events, studies
from hark.feedback.agreement import Agreement, krippendorff_alpha, percent_agreement
from hark.feedback.events import Event
from hark.feedback.judgements import (
    COMPARES,
    DEMONSTRATES,
    comparison_of,
    demonstration_of,
    preference_units,
)
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.runs.files import content_hash
from hark.settings import Settings

Format = Literal["hark", "hh", "trl", "openai", "parquet"]
Kind = Literal["comparisons", "demonstrations", "labels"]
JUDGED_OTHERWISE: Final = frozenset({"review", "audit", "qa_answer"})
"""Labels that compare nothing and demonstrate nothing: they are exported as they were kept."""
KIND_OF: Final[dict[str, Kind]] = {
    "demonstration": "demonstrations",
    "review": "labels",
    "audit": "labels",
    "question": "labels",
}
"""What comes of a study, by its kind of task; comparisons of the others."""
HASH_CHARACTERS: Final = 12


class ExportSettings(Settings):
    """What of a study is exported, and how."""

    format: Format = "hark"
    """"hark" and "parquet" keep ties and rankings whole; the others are ordered pairs. Reviews,
    audits and answers to questions are labels as they were kept, in "hark" alone."""
    minimum_strength: Annotated[int, Field(ge=0, le=4)] = 0
    """Graded choices below it are left out; HH kept those above the weakest grade (2)."""
    uses: tuple[Literal["train", "test"], ...] = ("train",)
    """Items of these uses; never gold or screening."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What goes into a snapshot."""

    kind: Kind
    records: list[Comparison] | list[Demonstration] | list[dict[str, Any]]
    labels: list[Event]
    """The event behind each record."""
    left_out: dict[str, int]
    """Reason → labels."""


def export_study(
    store: Store, name: str, folder: Path, settings: ExportSettings | None = None
) -> Path:
    """Write a snapshot below `folder` and return its directory; the same labels give the same one.

    Raises: NotFoundError for an unknown study; DataError if there is nothing to export or its kind
    cannot be written in this format; RunError if the disk refuses.
    """
    settings = settings or ExportSettings()
    study = studies.find_study(store, name)
    with store.read() as connection:
        kept = list(events.iterate(connection, study_id=study.id))
    selection = select_labels(study, kept, settings)
    if not selection.records:
        reasons = "; ".join(f"{count} {why}" for why, count in selection.left_out.items())
        raise DataError(f"study '{name}' has no label to export ({reasons or 'none was given'})")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise RunError(f"cannot write below '{folder}': {error.strerror}") from None
    try:
        _write(aside, study, kept, selection, settings)
        return _settle(aside, folder / f"{name}-{content_hash(aside)[:HASH_CHARACTERS]}")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def select_labels(study: Study, kept: Sequence[Event], settings: ExportSettings) -> Selection:
    """The labels that count, as records of the study's kind; and why the others do not."""
    superseded = {one.supersedes for one in kept}
    kind = KIND_OF.get(study.settings.task, "comparisons")
    form = _form_of(kind, settings.format)
    left_out: collections.Counter[str] = collections.Counter()
    records: list[Any] = []
    labels: list[Event] = []
    for event in kept:
        if event.kind not in COMPARES | DEMONSTRATES | JUDGED_OTHERWISE:
            continue
        why = _why_left_out(event, superseded, settings)
        record = _record(event, study.settings.name) if not why else None
        if record is not None and form is not None and form.render is not None:
            try:
                rows = list(form.render(record))
                why = "" if rows else "ties, which this format does not have"
            except DataError:
                why = "with a text that this format cannot express"
        if why:
            left_out[why] += 1
        else:
            records.append(record)
            labels.append(event)
    return Selection(kind=kind, records=records, labels=labels, left_out=dict(left_out))


def _why_left_out(event: Event, superseded: set[str | None], settings: ExportSettings) -> str:
    if event.id in superseded:
        return "corrected or retracted"
    if event.body["use"] not in settings.uses:
        return f"of use '{event.body['use']}'"
    if event.body["late"]:
        return "late, beyond the overlap"
    strength = event.body["answer"].get("strength")
    if strength is not None and strength < settings.minimum_strength:
        return f"below strength {settings.minimum_strength}"
    return ""


def _record(event: Event, source: str) -> Comparison | Demonstration | dict[str, Any]:
    if event.kind in JUDGED_OTHERWISE:
        return event.to_json()
    if event.kind in COMPARES:
        return comparison_of(event, source=source)
    return demonstration_of(event, source=source)


def _form_of(kind: Kind, format: Format) -> Any:
    """None for labels as they were kept. Raises: DataError if the kind has no such format."""
    if kind == "labels":
        if format != "hark":
            raise DataError(f"no format '{format}' holds labels of this kind: export as 'hark'")
        return None
    return registry.writer(kind, "hark" if format == "parquet" else format)


def _write(
    folder: Path,
    study: Study,
    kept: Iterable[Event],
    selection: Selection,
    settings: ExportSettings,
) -> None:
    ending = "parquet" if settings.format == "parquet" else "jsonl"
    form = _form_of(selection.kind, settings.format)
    path = folder / f"{selection.kind}.{ending}"
    records: Any = selection.records
    if selection.kind == "labels":
        _write_lines(path, records)
    else:
        write_records(path, records, kind=selection.kind, format=form.name)
    _write_lines(folder / "events.jsonl", (event.to_json() for event in kept))
    (folder / "card.md").write_text(card(study, selection, settings), encoding="utf-8")
    about = {
        "data": path.name,
        "study": study.settings.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "labels": len(selection.labels),
        "left_out": selection.left_out,
        "files": {one.name: content_hash(one) for one in sorted(folder.iterdir())},
    }
    text = json.dumps(about, indent=2, ensure_ascii=False, sort_keys=True)
    (folder / "snapshot.json").write_text(text + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _settle(aside: Path, path: Path) -> Path:
    """Put a finished snapshot in its place, read-only, unless it is there already."""
    if path.exists():
        check_snapshot(path)
        return path
    for file in aside.iterdir():
        file.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    try:
        aside.rename(path)
    except OSError as error:
        if path.exists():  # Another export of the same labels was first.
            check_snapshot(path)
            return path
        raise RunError(f"cannot write '{path}': {error.strerror}") from None
    path.chmod(0o755)
    return path


def check_snapshot(path: Path) -> None:
    """Raises: DataError if a snapshot is not what its name says."""
    expected = path.name[-HASH_CHARACTERS:]
    got = content_hash(path)[:HASH_CHARACTERS]
    if got != expected:
        raise DataError(
            f"snapshot '{path}' was changed: its contents have hash {got}, not {expected}; "
            "remove it and export again"
        )


def read_about(path: Path) -> dict[str, Any]:
    """What a snapshot says of itself. Raises: DataError if it is none."""
    try:
        about = json.loads((path / "snapshot.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"'{path}' is no data snapshot: snapshot.json: {error.strerror}") from None
    except ValueError:
        raise DataError(f"'{path}' is no data snapshot: its snapshot.json is not JSON") from None
    if not isinstance(about, dict) or not {"data", "labels", "left_out"} <= set(about):
        raise DataError(f"'{path}' is no data snapshot: its snapshot.json does not describe one")
    return about


def card(study: Study, selection: Selection, settings: ExportSettings) -> str:
    """What a reader of the data must know, in Markdown; the same for the same labels."""
    labels, given = selection.labels, study.settings
    seconds = sorted(
        label.body["client"]["ms_active"] / 1000
        for label in labels
        if label.body.get("client", {}).get("ms_active") is not None
    )
    units = preference_units(labels)
    rows = {
        "labels": str(len(labels)),
        "items": str(len({label.item_id for label in labels})),
        "labelers": str(len({label.author for label in labels})),
        "first and last label": " to ".join(
            events.iso_time(one.created_at) for one in (labels[0], labels[-1])
        ),
        "models": ", ".join(_snapshots(labels)) or "none named",
        "median seconds at work": f"{seconds[len(seconds) // 2]:.1f}" if seconds else "not known",
        "agreement of pairs": _said(percent_agreement(units)),
        "Krippendorff's alpha (nominal)": _said(krippendorff_alpha(units, "nominal")),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    left_out = "\n".join(f"* {count} {why}" for why, count in selection.left_out.items())
    attacked = any(label.body["context"]["task"].get("mode") == "redteam" for label in labels)
    inverted = (
        "\nRed-team labelers picked the more harmful response; here the other one is the better.\n"
        if attacked
        else ""
    )
    return (
        f"# {given.title}\n\n"
        f"{selection.kind.capitalize()} of study `{given.name}`, round {given.round}, for "
        f"{' and '.join(settings.uses)}, in format `{settings.format}`.\n{inverted}\n"
        f"| | |\n|---|---|\n{table}\n\n## Left out\n\n{left_out or '* nothing'}\n\n"
        f"## Instructions to the labelers\n\n{given.instructions}\n\n"
        "Labelers are named by drawn pseudonyms. Every label, superseded ones too, is in "
        "`events.jsonl`.\n"
    )


def _snapshots(labels: Iterable[Event]) -> list[str]:
    named = {candidate["snapshot"] for label in labels for candidate in label.body["candidates"]}
    return sorted(named - {None})


def _said(agreement: Agreement) -> str:
    if agreement.value is None:
        return f"undefined: {agreement.state}"
    return f"{agreement.value:.3f} over {agreement.units} pairs"
