"""Data snapshots: made by a button, listed with their cards, fetched file by file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from hark.errors import DataError
from hark.feedback.export import (
    HASH_CHARACTERS,
    ExportSettings,
    Format,
    export_study,
    read_about,
)
from hark.feedback.refusals import NotFoundError
from hark.feedback.studies import MemberState
from hark.web.identity import Manager, Place, settings_of
from hark.web.pages.manage_frame import ManageRoute, Shown, go, show

router = APIRouter(route_class=ManageRoute)

FORMATS: Final[dict[Format, str]] = {
    "hark": "hark: ties and rankings whole",
    "hh": "hh: chosen and rejected",
    "trl": "trl: prompt, chosen, rejected",
    "openai": "openai: summary comparisons",
    "parquet": "parquet: as hark, in columns",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A data snapshot on the disk."""

    name: str
    """Of its directory."""
    made_at: float
    about: dict[str, Any]
    """Its `snapshot.json`."""
    card: str
    """Markdown."""
    files: tuple[tuple[str, int], ...]
    """Names and bytes."""


@router.get("/{name}/export")
def show_exports(request: Request, caller: Manager, study: Shown) -> HTMLResponse:
    """The form, and the snapshots that were made."""
    folder = settings_of(request).exports
    return show(
        "exports.html",
        caller,
        study=study,
        here="export",
        folder=folder,
        formats=FORMATS,
        states=get_args(MemberState),
        usual=ExportSettings().members,
        snapshots=[] if folder is None else list_snapshots(folder, study.settings.name),
        foreign=[] if folder is None else list_foreign(folder, study.settings.name),
    )


@router.post("/{name}/export")
def export(
    request: Request,
    store: Place,
    caller: Manager,
    study: Shown,
    format: Annotated[Format, Form()] = "hark",
    minimum_strength: Annotated[int, Form(ge=0, le=4)] = 0,
    uses: Annotated[list[str], Form()] = [],  # noqa: B006 (FastAPI copies it)
    members: Annotated[list[str], Form()] = [],  # noqa: B006
    without_labelers: Annotated[str, Form()] = "",
    minimum_gold_accuracy: Annotated[str, Form()] = "",
) -> Response:
    """Make a snapshot; the same labels make the same one."""
    if not uses:
        raise DataError("choose at least one use of items: train, test, or both")
    if not members:
        raise DataError("choose at least one state of members whose labels are wanted")
    least = minimum_gold_accuracy.strip().replace(",", ".")
    settings = ExportSettings.parse(
        {
            "format": format,
            "minimum_strength": minimum_strength,
            "uses": tuple(uses),
            "members": tuple(members),
            "without_labelers": names_in(without_labelers),
            "minimum_gold_accuracy": _share(least) if least else None,
        }
    )
    export_study(store, study.settings.name, _folder(request), settings)
    return go(f"/manage/{study.settings.name}/export", "The snapshot is made.")


def names_in(text: str) -> tuple[str, ...]:
    """Names that stand one on a line, or between commas; a login may hold blanks."""
    names = (one.strip() for one in re.split(r"[,\n]", text))
    return tuple(one for one in names if one)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"a gold accuracy is a number from 0 to 1, not '{text[:20]}'") from None


@router.get("/{name}/export/{snapshot}/{file}")
def fetch(
    request: Request, _caller: Manager, study: Shown, snapshot: str, file: str
) -> FileResponse:
    """One file of a snapshot."""
    folder = _folder(request)
    for one in list_snapshots(folder, study.settings.name):
        if one.name == snapshot and file in dict(one.files):
            return FileResponse(folder / snapshot / file, filename=f"{snapshot}-{file}")
    raise NotFoundError(f"study '{study.settings.name}' has no file '{snapshot}/{file}'")


def _folder(request: Request) -> Path:
    folder = settings_of(request).exports
    if folder is None:
        raise NotFoundError("this server has no directory for exports: name one when it is started")
    return folder


def list_snapshots(folder: Path, study: str) -> list[Snapshot]:
    """The snapshots of a study below a directory, the newest first."""
    found = [_snapshot(path) for path in _named_after(folder, study)]
    return [one for one in found if one is not None]


def list_foreign(folder: Path, study: str) -> list[str]:
    """Directories that are named like snapshots of a study and are none: unfinished, or others'."""
    return [path.name for path in _named_after(folder, study) if _snapshot(path) is None]


def _named_after(folder: Path, study: str) -> list[Path]:
    named = re.compile(rf"{re.escape(study)}-[0-9a-f]{{{HASH_CHARACTERS}}}")
    paths = [one for one in folder.glob(f"{study}-*") if named.fullmatch(one.name)]
    return sorted(paths, key=lambda one: one.stat().st_mtime, reverse=True)


def _snapshot(path: Path) -> Snapshot | None:
    try:
        about = read_about(path)
        card = (path / "card.md").read_text(encoding="utf-8")
    except (DataError, OSError, ValueError):
        return None
    return Snapshot(
        name=path.name,
        made_at=path.stat().st_mtime,
        about=about,
        card=card,
        files=tuple((one.name, one.stat().st_size) for one in sorted(path.iterdir())),
    )
