"""Label Studio's export in its format JSON: tasks with their annotations.

    {"id": 1, "data": {"prompt": …, "answer1": …, "answer2": …}, "annotations": [{"id": 7,
     "completed_by": 3, "was_cancelled": false, "ground_truth": false, "lead_time": 12.5,
     "result": [{"from_name": "pw", "to_name": "txt-1,txt-2", "type": "pairwise",
                 "value": {"selected": "left"}}]}]}

Read are the controls Pairwise, Choices (between two), Ranker (one list, over a list of items),
Rating (of a response that it names) and TextArea (a demonstration, or else notes). A result says
which display elements it is about, not which fields of the data: Pairwise's left is the first
response, in the order of the fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hark.data.formats.fields import BadRecordError
from hark.data.records import Dialogue
from hark.data.rows import Fields, iterate_rows
from hark.feedback.imports.fields import (
    FieldNames,
    find_prompt,
    find_responses,
    place_of,
    ranks_of_choice,
)
from hark.feedback.imports.findings import Finding, FoundLabel, FoundRecord, LeftOut
from hark.feedback.tasks import TaskKind

ITEM_TEXTS: Final = ("body", "text", "html", "content", "value", "title")
HIGHEST_RATING: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class _Responses:
    """What annotators compared."""

    names: tuple[str, ...]
    """Fields, or the ids of a list's items."""
    texts: tuple[str, ...]
    models: tuple[str | None, ...] = ()


def read(path: Path, kind: TaskKind, names: FieldNames) -> Iterator[Finding]:
    """The tasks of a file, with those annotations that are labels of this kind of task."""
    for row in iterate_rows(path):
        if row.fields is None:
            yield LeftOut(where=row.where, why=row.problem)
            continue
        where = f"{row.where}, task {row.fields['id']}" if "id" in row.fields else row.where
        try:
            yield from _task(row.fields, where, kind, names)
        except BadRecordError as error:
            yield LeftOut(where=where, why=str(error))


def _task(row: Fields, where: str, kind: TaskKind, names: FieldNames) -> Iterator[Finding]:
    data, annotations = row.get("data"), row.get("annotations", [])
    if not isinstance(data, dict) or not isinstance(annotations, list) or "id" not in row:
        raise BadRecordError(
            "is no task with 'id', 'data' and 'annotations'; export from Label Studio as JSON, "
            "not as JSON-MIN or CSV"
        )
    prompt = find_prompt(data, names)
    judged = _Responses(names=(), texts=())
    if kind != "demonstration":
        judged = _responses(data, prompt, names)
    labels: list[FoundLabel] = []
    for number, annotation in enumerate(annotations, start=1):
        place = f"{where}, annotation {_id(annotation, number)}"
        if isinstance(annotation, dict) and annotation.get("was_cancelled"):
            yield LeftOut(where=place, why="was skipped by its annotator (was_cancelled)")
            continue
        try:
            label, unread = _label(annotation, number, kind, judged)
        except BadRecordError as error:
            yield LeftOut(where=place, why=str(error))
            continue
        labels.append(label)
        yield from (LeftOut(where=place, why=why) for why in unread)
    yield FoundRecord(
        where=where,
        id=str(row["id"]),
        prompt=prompt,
        responses=judged.texts,
        models=judged.models,
        shown=tuple(range(len(judged.texts))) if len(judged.texts) == 2 else None,
        labels=tuple(labels),
    )


def _responses(data: Fields, prompt: Dialogue, names: FieldNames) -> _Responses:
    """A list of items, as Ranker has it, or fields of their own."""
    for value in [data.get(name) for name in names.responses] or list(data.values()):
        if isinstance(value, list) and len(value) > 1 and all(map(_is_item, value)):
            return _Responses(
                names=tuple(str(item["id"]) for item in value),
                texts=tuple(_item_text(item) for item in value),
                models=tuple(_model(item) for item in value),
            )
    found = find_responses(data, names)
    return _Responses(names=tuple(found), texts=tuple(found.values()))


def _is_item(value: Any) -> bool:
    return isinstance(value, dict) and "id" in value


def _item_text(item: Mapping[str, Any]) -> str:
    for name in ITEM_TEXTS:
        if isinstance(value := item.get(name), str) and value.strip():
            return value
    raise BadRecordError(f"has no text in the item '{item['id']}' of its list")


def _model(item: Mapping[str, Any]) -> str | None:
    return next((str(item[name]) for name in ("model", "snapshot") if item.get(name)), None)


def _id(annotation: Any, number: int) -> str:
    known = annotation.get("id") if isinstance(annotation, dict) else None
    return f"#{number}" if known is None else str(known)


def _label(
    annotation: Any, number: int, kind: TaskKind, judged: _Responses
) -> tuple[FoundLabel, list[str]]:
    """The label in an annotation, and why some of its results are not in it."""
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
        raise BadRecordError("has no list 'result'")
    if not annotation["result"]:
        raise BadRecordError("is empty: its annotator submitted nothing")
    said = _Said(judged=judged, kind=kind)
    for result in annotation["result"]:
        said.take(result)
    if kind == "demonstration":
        if len(said.texts) != 1:
            raise BadRecordError(f"has {len(said.texts)} text areas; a demonstration is one")
        response, notes = said.texts.popitem()[1], ""
    else:
        response, notes = None, "\n\n".join(said.texts.values())
        if said.ranks is None:
            raise BadRecordError("; ".join(said.unread) or "does not say which response is better")
    return FoundLabel(
        id=_id(annotation, number),
        annotator=_annotator(annotation),
        ranks=said.ranks,
        both_bad=said.both_bad,
        response=response,
        ratings=said.ratings,
        notes=notes,
        milliseconds=_milliseconds(annotation.get("lead_time")),
        written_at=annotation.get("created_at"),
        ground_truth=bool(annotation.get("ground_truth")),
    ), said.unread


def _milliseconds(seconds: Any) -> int | None:
    known = isinstance(seconds, int | float) and math.isfinite(seconds) and seconds >= 0
    return round(float(seconds) * 1000) if known else None


def _annotator(annotation: Mapping[str, Any]) -> str:
    """`completed_by` is a number, or in some exports an object with one."""
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("id", who.get("email"))
    if who is None:
        raise BadRecordError("does not say who made it (completed_by)")
    return str(who)


class _Said:
    """What the results of an annotation say together."""

    def __init__(self, *, judged: _Responses, kind: TaskKind) -> None:
        self.judged = judged
        self.kind = kind
        self.ranks: tuple[int, ...] | None = None
        self.both_bad = False
        self.ratings: dict[int, int] = {}
        self.texts: dict[str, str] = {}
        """Control → what was written in it."""
        self.unread: list[str] = []

    def take(self, result: Any) -> None:
        """One result; what cannot be read is noted in `unread`."""
        if not isinstance(result, dict) or not isinstance(value := result.get("value"), dict):
            self.unread.append("has a result without 'value'")
            return
        control, control_type = str(result.get("from_name")), str(result.get("type"))
        if control_type == "textarea":
            texts = value.get("text")
            self.texts[control] = "\n\n".join(
                map(str, texts if isinstance(texts, list) else [texts])
            )
        elif control_type == "rating" and self._rate(result, value.get("rating")):
            pass
        elif (ranks := self._ranks(control_type, value)) is None:
            self.unread.append(f"has a result of type '{control_type}' that cannot be expressed")
        elif self.ranks is not None and self.ranks != ranks:
            raise BadRecordError("has two results that contradict each other")
        else:
            self.ranks = ranks

    def _rate(self, result: Mapping[str, Any], rating: Any) -> bool:
        named = (result.get("to_name"), result.get("from_name"))
        places = {place_of(name, self.judged.names) for name in named} - {None}
        fits = isinstance(rating, int) and 1 <= rating <= HIGHEST_RATING
        if self.kind != "ranking" or len(places) != 1 or not fits:
            return False
        self.ratings[places.pop()] = rating  # type: ignore[index]
        return True

    def _ranks(self, control_type: str, value: Mapping[str, Any]) -> tuple[int, ...] | None:
        count = len(self.judged.texts)
        if control_type == "pairwise" and count == 2:
            return {"left": (1, 2), "right": (2, 1)}.get(str(value.get("selected")))
        if control_type == "choices" and count == 2 and _is_one(value.get("choices")):
            found = ranks_of_choice(str(value["choices"][0]), self.judged.names)
            if found is not None:
                self.both_bad = found[1]
                return found[0]
        if control_type == "ranker":
            return _ranking(value.get("ranker"), self.judged.names)
        return None


def _is_one(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 1


def _ranking(ranker: Any, names: Sequence[str]) -> tuple[int, ...] | None:
    """A list of ids, best first, or such a list under one name; buckets are no order."""
    if isinstance(ranker, dict):
        filled = [ids for ids in ranker.values() if ids]
        ranker = filled[0] if len(filled) == 1 else None
    if not isinstance(ranker, list) or sorted(map(str, ranker)) != sorted(names):
        return None
    order = [str(name) for name in ranker]
    return tuple(order.index(name) + 1 for name in names)
