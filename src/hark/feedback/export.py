"""Data snapshots: the labels of a study as training data, hashed and never changed.

A snapshot is a directory named after the hash of what is in it: the data in one format, every label
behind it, and a card. The same labels make the same snapshot; more labels make another one.

`events.jsonl` holds labels, those left out or superseded too, and retractions, each with all that
was shown. What else people do (agree to categories, skip, write to a model, take a screening test)
is no label and makes no other snapshot. Nothing is held in memory but a few numbers for each label.
"""

from __future__ import annotations

import collections
import contextlib
import json
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy import Connection, select

from hark.data.formats import registry
from hark.data.formats.writing import write_records
from hark.data.records import Comparison, Demonstration
from hark.errors import DataError, RunError
from hark.feedback import events, studies
from hark.feedback.events import Event
from hark.feedback.export_card import Tally
from hark.feedback.export_people import left_out_people, pseudonyms_of
from hark.feedback.judgements import COMPARES, DEMONSTRATES, comparison_of, demonstration_of
from hark.feedback.store import Store
from hark.feedback.studies import MemberState, Study
from hark.feedback.tables import events as events_table
from hark.runs.files import content_hash
from hark.settings import Settings

Format = Literal["hark", "hh", "trl", "openai", "parquet"]
Kind = Literal["comparisons", "demonstrations", "labels"]
JUDGED_OTHERWISE: Final = frozenset({"review", "audit", "qa_answer", "axes"})
"""Labels that compare nothing and demonstrate nothing: they are exported as they were kept."""
KIND_OF: Final[dict[str, Kind]] = {
    "demonstration": "demonstrations",
    "review": "labels",
    "audit": "labels",
    "question": "labels",
}
"""What comes of a study, by its kind of task; comparisons of the others. Ratings on axes, which a
study of summaries may hold beside comparisons or alone, are labels."""
LABELS_FILE: Final = "labels.jsonl"
IN_LOG: Final = events.LABELS | {"retraction"}
HASH_CHARACTERS: Final = 12


class ExportSettings(Settings):
    """What of a study is exported, and how."""

    format: Format = "hark"
    """"hark" and "parquet" keep ties and rankings whole; the others are ordered pairs. Reviews,
    audits, answers to questions and ratings on axes are labels as they were kept, in "hark" alone;
    ratings beside comparisons are so in every format."""
    minimum_strength: Annotated[int, Field(ge=0, le=4)] = 0
    """Graded choices below it are left out; HH kept those above the weakest grade (2)."""
    uses: tuple[Literal["train", "test"], ...] = ("train",)
    """Items of these uses; never gold or screening."""
    members: tuple[MemberState, ...] = ("screening", "active", "paused")
    """Labels of members in these states; by default of all who were not turned away ("rejected").
    Annotators whose labels were imported are no members, and theirs are always in."""
    without_labelers: tuple[str, ...] = ()
    """Labels of these are left out: by pseudonym, login or id."""
    minimum_gold_accuracy: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Labels of those who gave a smaller share of the known answers are left out; not of those who
    have had no gold item."""


def export_study(
    store: Store, name: str, folder: Path, settings: ExportSettings | None = None
) -> Path:
    """Write a snapshot below `folder` and return its directory; the same labels give the same one.

    Raises: NotFoundError for an unknown study or labeler; DataError if there is nothing to export
    or its kind cannot be written in this format; RunError if the disk refuses.
    """
    settings = settings or ExportSettings()
    study = studies.find_study(store, name)
    _form_of(KIND_OF.get(study.settings.task, "comparisons"), settings.format)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise RunError(f"cannot write below '{folder}': {error.strerror}") from None
    try:
        with store.read() as connection:
            _write(connection, aside, study, settings)
        return _settle(aside, folder / f"{name}-{content_hash(aside)[:HASH_CHARACTERS]}")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # If there is nothing in it.


def _write(connection: Connection, folder: Path, study: Study, settings: ExportSettings) -> None:
    named = pseudonyms_of(connection, study, settings.without_labelers)
    settings = settings.model_copy(update={"without_labelers": named})
    kind = KIND_OF.get(study.settings.task, "comparisons")
    form = _form_of(kind, settings.format)
    path = folder / f"{kind}.{'parquet' if settings.format == 'parquet' else 'jsonl'}"
    tally = Tally()
    labels = folder / LABELS_FILE
    with (
        (folder / "events.jsonl").open("w", encoding="utf-8") as log,
        labels.open("w", encoding="utf-8") as kept,
    ):
        records = _records(connection, study, settings, form, tally, log, kept)
        if kind == "labels":
            collections.deque(records, maxlen=0)  # All of them go to `kept`.
        else:
            write_records(path, records, kind=kind, format=form.name)
    if not tally.labels:
        reasons = "; ".join(f"{count} {why}" for why, count in tally.left_out.items())
        raise DataError(
            f"study '{study.settings.name}' has no label to export ({reasons or 'none was given'})"
        )
    if kind != "labels":
        if not tally.ratings:
            labels.unlink()
        elif tally.ratings == tally.labels:
            _form_of("labels", settings.format)
            path.unlink()
            kind, path = "labels", labels
    text = tally.card(study, kind=kind, uses=settings.uses, format=settings.format)
    (folder / "card.md").write_text(text, encoding="utf-8")
    about = {
        "data": path.name,
        "study": study.settings.model_dump(mode="json"),
        "settings": _said_of(settings),
        "labels": tally.labels,
        "left_out": dict(tally.left_out),
        "files": {one.name: content_hash(one) for one in sorted(folder.iterdir())},
    }
    if tally.people_left_out:
        about["labelers_left_out"] = {
            why: sorted(names) for why, names in tally.people_left_out.items()
        }
    text = json.dumps(about, indent=2, ensure_ascii=False, sort_keys=True)
    (folder / "snapshot.json").write_text(text + "\n", encoding="utf-8")


def _said_of(settings: ExportSettings) -> dict[str, Any]:
    """The settings as a snapshot names them: who is left out only where somebody asked for it."""
    of_people = {"members", "without_labelers", "minimum_gold_accuracy"}
    usual = settings.model_dump(mode="json", exclude=of_people)
    return usual | settings.model_dump(mode="json", include=of_people, exclude_defaults=True)


def _records(
    connection: Connection,
    study: Study,
    settings: ExportSettings,
    form: Any,
    tally: Tally,
    log: IO[str],
    kept: IO[str],
) -> Iterator[Comparison | Demonstration]:
    """The labels that count, as records of the study's kind, or lines of `kept` where no training
    reads them; all labels go to the log."""
    superseded = _superseded(connection, study)
    unwanted = left_out_people(
        connection,
        study,
        named=settings.without_labelers,
        states=settings.members,
        minimum_gold_accuracy=settings.minimum_gold_accuracy,
    )
    for event in events.iterate(connection, study_id=study.id, kinds=IN_LOG):
        if event.author not in unwanted:
            log.write(_line(event.to_json()))
        if event.kind not in COMPARES | DEMONSTRATES | JUDGED_OTHERWISE:
            continue
        why = _why_left_out(event, superseded, settings)
        who = "" if why else unwanted.get(event.author, "")
        record = None
        if not (why or who) and event.kind not in JUDGED_OTHERWISE:
            record = _record(event, study.settings.name)
        if record is not None and form is not None and form.render is not None:
            try:
                rows = list(form.render(record))
                why = "" if rows else "ties, which this format does not have"
            except DataError:
                why = "with a text that this format cannot express"
        if why or who:
            tally.leave_out(event, why or who, for_who=bool(who))
        else:
            tally.take(event)
            if record is None:
                kept.write(_line(event.to_json()))
            else:
                yield record


def _superseded(connection: Connection, study: Study) -> set[str]:
    """Ids of the events that others have taken the place of; few, since people err rarely."""
    later = events_table.c
    statement = select(later.supersedes).where(
        later.study_id == study.id, later.kind.in_(sorted(IN_LOG)), ~events.is_first()
    )
    return {one for one in connection.execute(statement).scalars() if one is not None}


def _why_left_out(event: Event, superseded: set[str], settings: ExportSettings) -> str:
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


def _record(event: Event, source: str) -> Comparison | Demonstration:
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


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


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
        raise DataError(
            f"'{path}' is no data snapshot: its snapshot.json is not JSON; export it again"
        ) from None
    if not isinstance(about, dict) or not {"data", "labels", "left_out", "settings"} <= set(about):
        raise DataError(
            f"'{path}' is no data snapshot: its snapshot.json describes none; export it again"
        )
    return about
