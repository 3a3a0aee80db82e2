"""Data snapshots of a study, made and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse

from hark.feedback.export import HASH_CHARACTERS, ExportSettings, export_study
from hark.feedback.refusals import ConflictError, NotFoundError
from hark.feedback.studies import Study
from hark.web.api.descriptions import KNOWN, refusals
from hark.web.api.seen import Managed
from hark.web.bodies import ExportBody, ExportFile
from hark.web.identity import Manager, Place, settings_of

router = APIRouter(tags=["exports"], dependencies=KNOWN)
Part = Annotated[str, PathParameter(max_length=120)]
BYTES = "application/octet-stream"


@router.post(
    "/studies/{name}/exports", status_code=201, responses=refusals(400, 401, 403, 404, 409)
)
def make_export(
    request: Request, store: Place, _caller: Manager, study: Managed, settings: ExportSettings
) -> ExportBody:
    """Write a data snapshot; the same labels give the same one."""
    made = export_study(store, study.settings.name, _folder(request), settings)
    return _export_body(made)


@router.get("/studies/{name}/exports", responses=refusals(401, 403, 404, 409))
def list_exports(request: Request, _caller: Manager, study: Managed) -> list[ExportBody]:
    """The data snapshots that there are of a study."""
    found = _snapshots(_folder(request), study)
    return [_export_body(path) for path in found if (path / "snapshot.json").is_file()]


@router.get(
    "/studies/{name}/exports/{snapshot}/{file}",
    response_class=FileResponse,
    responses={
        200: {"content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}},
        **refusals(401, 403, 404, 409),
    },
)
def get_export_file(
    request: Request, _caller: Manager, study: Managed, snapshot: Part, file: Part
) -> FileResponse:
    """A file of a data snapshot."""
    # Looked up among the names that there are: no name that was sent becomes a path.
    for directory in _snapshots(_folder(request), study):
        for path in directory.iterdir():
            if (directory.name, path.name) == (snapshot, file):
                return FileResponse(path, media_type=BYTES, filename=file)
    raise NotFoundError(f"study '{study.settings.name}' has no file '{snapshot}/{file}'")


def _folder(request: Request) -> Path:
    folder = settings_of(request).exports
    if folder is None:
        raise ConflictError("this server was given no directory for exports: set 'exports'")
    return folder


def _snapshots(folder: Path, study: Study) -> list[Path]:
    if not folder.is_dir():
        return []
    name = study.settings.name
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name[: -HASH_CHARACTERS - 1] == name
    )


def _export_body(path: Path) -> ExportBody:
    files = [ExportFile(name=one.name, bytes=one.stat().st_size) for one in sorted(path.iterdir())]
    return ExportBody(name=path.name, hash=path.name[-HASH_CHARACTERS:], files=files)
