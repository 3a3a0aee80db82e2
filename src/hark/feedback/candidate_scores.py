"""Scores of a preference model for the candidates of a study, to hold it against the labelers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final

from pydantic import Field
from sqlalchemy import Connection, delete, insert, select

from hark.feedback import accounts
from hark.feedback.records import Name, Record
from hark.feedback.refusals import NotFoundError
from hark.feedback.store import Store
from hark.feedback.studies import MANAGERS, lock_study
from hark.feedback.tables import candidate_scores, candidates, items

AT_ONCE: Final = 500
"""Ids in one statement; SQLite takes some thousands of parameters."""


class CandidateScores(Record):
    """What one model says of many candidates."""

    model: Name
    scores: dict[Name, Annotated[float, Field(allow_inf_nan=False)]]
    """Candidate's id → its score; higher is better."""


def put_scores(store: Store, study_id: str, given: CandidateScores, *, by: str) -> int:
    """Keep a model's scores in place of what it said of these candidates before; return how many.

    Raises: NotAllowedError; NotFoundError for a candidate that is not of this study.
    """
    now = store.clock()
    with store.write() as connection:
        accounts.require(connection, by, MANAGERS)
        lock_study(connection, study_id)
        for ids in _portions(list(given.scores)):
            _check_known(connection, study_id, ids)
            ours = candidate_scores.c.candidate_id.in_(ids)
            connection.execute(
                delete(candidate_scores).where(candidate_scores.c.model == given.model, ours)
            )
            rows = [
                {
                    "model": given.model,
                    "candidate_id": one,
                    "score": given.scores[one],
                    "created_at": now,
                }
                for one in ids
            ]
            connection.execute(insert(candidate_scores), rows)
    return len(given.scores)


def _check_known(connection: Connection, study_id: str, ids: Sequence[str]) -> None:
    known: Mapping[str, None] = dict.fromkeys(
        connection.execute(
            select(candidates.c.id)
            .join(items, items.c.id == candidates.c.item_id)
            .where(items.c.study_id == study_id, candidates.c.id.in_(ids))
        ).scalars()
    )
    if unknown := [one for one in ids if one not in known]:
        raise NotFoundError(
            f"this study has no candidate '{unknown[0]}'; the ids are in its events and items"
        )


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
