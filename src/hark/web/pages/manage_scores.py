"""Scores of a preference model, by files: candidates out, scores in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import UploadFile

from hark.errors import DataError
from hark.feedback import candidate_scores
from hark.feedback.candidate_rows import candidate_rows
from hark.feedback.candidate_scores import CandidateScores
from hark.feedback.store import Store
from hark.web.identity import Manager, Place
from hark.web.pages.manage_frame import ManageRoute, Sent, Shown, file_of, go

router = APIRouter(route_class=ManageRoute)


@router.get("/{name}/candidates.jsonl")
def fetch_candidates(store: Place, _caller: Manager, study: Shown) -> StreamingResponse:
    """Every candidate with what it answers, for a model to score: one JSON object a line."""
    headers = {
        "Content-Disposition": f'attachment; filename="{study.settings.name}-candidates.jsonl"'
    }
    lines = _lines(store, study.id)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


def _lines(store: Store, study_id: str) -> Iterator[str]:
    with store.read() as connection:
        for row in candidate_rows(connection, study_id):
            yield json.dumps(row, ensure_ascii=False) + "\n"


@router.post("/{name}/scores")
def put_scores(store: Place, caller: Manager, study: Shown, form: Sent) -> Response:
    """Keep a model's scores: lines of `{"candidate": "…", "score": 1.5}`."""
    values = {"model": form.get("model", ""), "scores": read_scores(file_of(form))}
    given = CandidateScores.read(values, what="these scores")
    candidate_scores.put_scores(store, study.id, given, by=caller.person.id)
    return go(f"/manage/{study.settings.name}/dashboard", "The scores are kept.")


def read_scores(file: UploadFile) -> dict[str, Any]:
    """Candidate → score. Raises: DataError with the line that cannot be read."""
    scores = {}
    for number, line in enumerate(file.file.read().splitlines(), start=1):
        try:
            row = json.loads(line)
            scores[row["candidate"]] = row["score"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(
                f'{file.filename}:{number}: expected {{"candidate": "…", "score": 1.5}}'
            ) from None
    if not scores:
        raise DataError(f"{file.filename}: there is no score in it")
    return scores
