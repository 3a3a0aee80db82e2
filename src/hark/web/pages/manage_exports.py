"""Data snapshots: made by a button, listed with their cards, fetched file by file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from hark.errors import DataError
from hark.feedback.export import HASH_CHARACTERS, ExportSettings, Format, export_study
from hark.feedback.refusals import NotFoundError
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
        snapshots=[] if folder is None else list_snapshots(folder, study.settings.name),
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
) -> Response:
    """Make a snapshot; the same labels make the same one."""
    if not uses:
        raise DataError("choose at least one use of items: train, test, or both")
    settings = ExportSettings.parse(
        {"format": format, "minimum_strength": minimum_strength, "uses": tuple(uses)}
    )
    export_study(store, study.settings.name, _folder(request), settings)
    return go(f"/manage/{study.settings.name}/export", "The snapshot is made.")


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
    named = re.compile(rf"{re.escape(study)}-[0-9a-f]{{{HASH_CHARACTERS}}}")
    paths = [one for one in folder.glob(f"{study}-*") if named.fullmatch(one.name)]
    paths.sort(key=lambda one: one.stat().st_mtime, reverse=True)
    return [_snapshot(path) for path in paths]


def _snapshot(path: Path) -> Snapshot:
    about = json.loads((path / "snapshot.json").read_text(encoding="utf-8"))
    return Snapshot(
        name=path.name,
        made_at=path.stat().st_mtime,
        about=about,
        card=(path / "card.md").read_text(encoding="utf-8"),
        files=tuple((one.name, one.stat().st_size) for one in sorted(path.iterdir())),
    )
