"""What a study is filled with: items from a file, and how far each is."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import UploadFile

from hark.errors import DataError
from hark.feedback import items, registers, reviews, rosters, studies
from hark.feedback.item_files import read_items
from hark.feedback.items import NewItem
from hark.feedback.statistics_progress import count_uses
from hark.feedback.store import Store
from hark.feedback.studies import Study
from hark.web.identity import Caller, Manager, Place
from hark.web.pages.manage_frame import (
    ManageRoute,
    Sent,
    Shown,
    Start,
    Word,
    file_of,
    go,
    show,
)

router = APIRouter(route_class=ManageRoute)

USES = ("train", "test", "gold", "screening")
LONGEST_NAME = 60
"""Characters; in bytes four times as many, which every disk takes."""
STATES = ("waiting", "fresh", "begun", "full")


@router.get("/{name}/items")
def show_items(
    store: Place, caller: Manager, study: Shown, use: Word = "", state: Word = "", start: Start = 0
) -> HTMLResponse:
    """Counts, a form to add more, and the items themselves."""
    start = max(0, start)
    rows, total = registers.list_items(store, study.id, use=use, state=state, start=start)
    with store.read() as connection:
        counts = count_uses(connection, study.id)
    return show(
        "items.html",
        caller,
        study=study,
        here="items",
        rows=rows,
        total=total,
        start=start,
        page=registers.PAGE,
        use=use,
        state=state,
        uses=USES,
        states=STATES,
        counts=counts,
        gist=gist,
        warnings=lambda names: {name: study.settings.categories.get(name, "") for name in names},
        example=example(study.settings.task),
        sources=_sources(store, caller) if study.settings.task == "review" else [],
    )


def _sources(store: Store, caller: Caller) -> list[Study]:
    """Studies whose attacks could be reviewed."""
    known = [study for study, _ in rosters.list_studies(store, caller.person.id)]
    return [study for study in known if study.settings.task == "dialogue"]


@router.post("/{name}/items")
def add_items(store: Place, caller: Manager, study: Shown, form: Sent) -> Response:
    """Add the items of a file, all or none."""
    file = file_of(form)
    new = read_upload(file)
    count = len(set(items.add_items(store, study.id, new, by=caller.person.id)))
    what = f"{count:,} {'item' if count == 1 else 'items'} of {file.filename}"
    return go(f"/manage/{study.settings.name}/items", f"The study has the {what}.")


@router.post("/{name}/attacks")
def add_attacks(store: Place, caller: Manager, study: Shown, form: Sent) -> Response:
    """Add a red-team study's finished attacks to this review study."""
    source = studies.find_study(store, str(form.get("source") or ""))
    counts = reviews.add_attacks(store, study.id, source.id, by=caller.person.id)
    said = (
        f"{counts.added:,} new attacks of {source.settings.name}; {counts.there:,} were there, "
        f"{counts.without_consent:,} are without their attackers' consent, and of those that were "
        f"there {counts.withdrawn:,} are given to nobody, as it was taken back."
    )
    return go(f"/manage/{study.settings.name}/items", said)


def read_upload(file: UploadFile) -> list[NewItem]:
    """Items of a file that a browser sent. Raises: DataError with the file's name and line."""
    name = Path(file.filename or "").name
    if not name.isprintable() or not Path(name).suffix or len(name) > LONGEST_NAME:
        raise DataError(f"{ascii(name)[:80]} is no file of JSON lines (.jsonl) or Parquet")
    with tempfile.TemporaryDirectory(prefix="hark-items-") as folder:
        path = Path(folder) / name
        with path.open("wb") as aside:
            shutil.copyfileobj(file.file, aside)
        try:
            found = read_items(path)
        except DataError as error:
            raise DataError(str(error).replace(f"{folder}/", "")) from None
    if not found:
        raise DataError(f"{name}: there is no item in it")
    return found


def gist(content: dict[str, Any]) -> str:
    """What an item is about, in a line."""
    for field in ("prompt", "transcript", "opening"):
        if content.get(field):
            return str(content[field][-1 if field == "prompt" else 0]["content"])
    for field in ("title", "question", "use_case", "theme", "post", "style"):
        if content.get(field):
            return str(content[field])
    return str(content["kind"])


def example(task: str) -> str:
    """A line of a file of items, for those who write one."""
    pair = '[{"text": "…", "snapshot": "model-a"}, {"text": "…", "snapshot": "model-b"}]'
    prompt = '"prompt": [{"role": "user", "content": "…"}]'
    lines = {
        "dialogue": '{"task": {"kind": "dialogue", "mode": "helpful"}}',
        "ranking": f'{{"task": {{"kind": "ranking", {prompt}}}, "candidates": [4 to 9 like '
        '{"text": "…", "snapshot": "model-a"}]}',
        "demonstration": f'{{"task": {{"kind": "demonstration", {prompt}}}}}',
        "summary": f'{{"task": {{"kind": "summary", "post": "…"}}, "candidates": {pair}}}',
        "vote": f'{{"task": {{"kind": "vote", {prompt}}}, "candidates": {pair}}}',
        "review": '{"task": {"kind": "review", "transcript": [{"role": "user", "content": "…"}, '
        '{"role": "assistant", "content": "…"}]}}',
        "audit": '{"task": {"kind": "audit", "behaviour": "…", "question": "…", '
        '"answers": ["…", "…"]}}',
        "question": '{"task": {"kind": "question", "question": "…", "options": ["…", "…"], '
        '"answer": 0}}',
    }
    return lines[task]
