"""Argilla 2's records, as its SDK writes them or its server answers.

The SDK's `to_json` has the responses to each question, and the server's records those of each user:

    {"id": "r1", "fields": {"prompt": …, "response_1": …, "response_2": …},
     "responses": {"preference": [{"value": …, "user_id": "…"}]}}
    {"id": "…", "external_id": "r1", "fields": {…}, "responses": [{"user_id": "…",
     "status": "submitted", "values": {"preference": {"value": [{"value": "response_1",
     "rank": 1}, {"value": "response_2", "rank": 1}]}}}]}

The SDK tells neither the status of a response nor the ranks of a ranking, so that drafts pass for
submitted and ties for an order; the server tells both. Read are ranking questions, label questions
between two responses, ratings named after a response, and texts (a demonstration, or else notes).
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hark.data.formats.fields import BadRecordError
from hark.data.rows import Fields, iterate_rows
from hark.feedback.imports.fields import (
    FieldNames,
    find_prompt,
    find_responses,
    place_of,
    plain,
    ranks_of_choice,
)
from hark.feedback.imports.findings import Finding, FoundLabel, FoundRecord, LeftOut, Remark
from hark.feedback.tasks import TaskKind

WITHOUT_STATUS: Final = "does not say whether it was submitted; taken as if it was"
WITHOUT_RANKS: Final = "has a ranking without ranks; taken as an order without ties"
HIGHEST_RATING: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    """What one user said of a record."""

    user: str
    status: str | None
    values: Mapping[str, Any]
    """Question → answer."""
    written_at: str | None


def read(path: Path, kind: TaskKind, names: FieldNames) -> Iterator[Finding]:
    """The records of a file, with those responses that are labels of this kind of task."""
    for row in iterate_rows(path):
        if row.fields is None:
            yield LeftOut(where=row.where, why=row.problem)
            continue
        records = row.fields.get("items")  # The server's answer holds a page of them.
        for record in records if isinstance(records, list) else [row.fields]:
            if not isinstance(record, dict):
                yield LeftOut(where=row.where, why="holds something that is no record")
                continue
            name = record.get("external_id") or record.get("id")
            where = row.where if name is None else f"{row.where}, record {name}"
            try:
                yield from _record(record, where, kind, names)
            except BadRecordError as error:
                yield LeftOut(where=where, why=str(error))


def _record(record: Fields, where: str, kind: TaskKind, names: FieldNames) -> Iterator[Finding]:
    fields, name = record.get("fields"), record.get("external_id") or record.get("id")
    if not isinstance(fields, dict) or name is None:
        raise BadRecordError("is no record with 'id' and 'fields'; export from Argilla 2 as JSON")
    fields = {field: value for field, value in fields.items() if value is not None}
    prompt = find_prompt(fields, names)
    judged = {} if kind == "demonstration" else find_responses(fields, names)
    labels: list[FoundLabel] = []
    for response in list(_responses(record.get("responses") or {})):
        place = f"{where}, user {response.user}"
        if response.status not in (None, "submitted"):
            yield LeftOut(where=place, why=f"is {response.status}, not submitted")
            continue
        try:
            label, unread, remarks = _label(response, kind, tuple(judged))
        except BadRecordError as error:
            yield LeftOut(where=place, why=str(error))
            continue
        labels.append(label)
        yield from (LeftOut(where=place, why=why) for why in unread)
        yield from (Remark(where=place, what=what) for what in remarks)
    yield FoundRecord(
        where=where,
        id=str(name),
        prompt=prompt,
        responses=tuple(judged.values()),
        shown=tuple(range(len(judged))) if judged else None,
        labels=tuple(labels),
    )


def _responses(responses: Any) -> Iterator[_Response]:
    """By user, whichever of the two forms the file has."""
    if isinstance(responses, list):
        for one in map(_object, responses):
            said = _object(one.get("values") or {})
            values = {name: _object(answer).get("value") for name, answer in said.items()}
            yield _Response(
                user=str(one.get("user_id")),
                status=one.get("status"),
                values=values,
                written_at=one.get("updated_at") or one.get("inserted_at"),
            )
        return
    by_user = collections.defaultdict[str, dict[str, Any]](dict)
    status: dict[str, str | None] = {}
    for question, answers in _object(responses).items():
        for one in map(_object, answers if isinstance(answers, list) else [answers]):
            by_user[str(one.get("user_id"))][question] = one.get("value")
            status[str(one.get("user_id"))] = one.get("status")
    for user, values in by_user.items():
        yield _Response(user=user, status=status[user], values=values, written_at=None)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRecordError("has responses in a form that is not Argilla's")
    return value


def _label(
    response: _Response, kind: TaskKind, names: Sequence[str]
) -> tuple[FoundLabel, list[str], list[str]]:
    """The label in a response, why some answers are not in it, and what was assumed."""
    ranks: tuple[int, ...] | None = None
    both_bad = False
    texts: dict[str, str] = {}
    ratings: dict[int, int] = {}
    unread: list[str] = []
    remarks = [WITHOUT_STATUS] if response.status is None else []
    for question, value in response.values.items():
        if (found := _preference(value, names)) is not None:
            if ranks is not None and ranks != found[0]:
                raise BadRecordError("has two answers that contradict each other")
            ranks, both_bad = found
            remarks += [WITHOUT_RANKS] if _is_order(value) else []
        elif kind == "ranking" and (place := _rated(question, value, names)) is not None:
            ratings[place] = value
        elif isinstance(value, str) and value.strip():
            texts[question] = value
        else:
            unread.append(f"has an answer to '{question}' that cannot be expressed")
    written = None
    if kind == "demonstration":
        if len(texts) != 1:
            raise BadRecordError(f"has {len(texts)} answers in text; a demonstration is one")
        written = texts.popitem()[1]
    elif ranks is None:
        raise BadRecordError("; ".join(unread) or "does not say which response is better")
    label = FoundLabel(
        id=response.user,
        annotator=response.user,
        ranks=ranks,
        both_bad=both_bad,
        response=written,
        ratings=ratings,
        notes="\n\n".join(texts.values()),
        written_at=response.written_at,
    )
    return label, unread, remarks


def _is_order(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _preference(value: Any, names: Sequence[str]) -> tuple[tuple[int, ...], bool] | None:
    """Ranks, and whether both are bad, if an answer says them of all the responses."""
    if isinstance(value, str) and len(names) == 2:
        return ranks_of_choice(value, names)
    if isinstance(value, dict) and isinstance(value.get("rank"), list):  # a table's columns
        columns = zip(value["rank"], value.get("value") or (), strict=False)
        value = [{"rank": rank, "value": name} for rank, name in columns]
    if not isinstance(value, list) or len(value) != len(names) or not names:
        return None
    if _is_order(value):
        value = [{"rank": n, "value": name} for n, name in enumerate(value, start=1)]
    ranks: dict[int, int] = {}
    for one in value:
        place = place_of(one.get("value"), names) if isinstance(one, dict) else None
        if place is None or not isinstance(rank := one.get("rank"), int):
            return None
        ranks[place] = rank
    if len(ranks) != len(names):
        return None
    groups = sorted(set(ranks.values()))
    return tuple(groups.index(ranks[place]) + 1 for place in range(len(names))), False


def _rated(question: str, value: Any, names: Sequence[str]) -> int | None:
    """The response that a rating question is named after: `response_1_rating`, `rate response 1`.

    None if none, several, or the rating is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= HIGHEST_RATING:
        return None
    asked = plain(question)
    places = [n for n, name in enumerate(names) if re.search(rf"{plain(name)}(?!\d)", asked)]
    return places[0] if len(places) == 1 else None
