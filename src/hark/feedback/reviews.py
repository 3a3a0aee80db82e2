"""Attacks for a second opinion: finished red-team dialogues as items of a review study.

Of a red-team study, those attacks become items whose attacker has said that others may review them
(`RedteamAnswer.may_be_reviewed`), and has not taken it back. Adding them again adds only what is
new. An attack whose attacker takes it back later is given to nobody any more from that moment, and
whoever has it in hand holds it no longer: what they still send is kept as late.

1. The reviewers of 2209.07858 (section 3.5) knew the attack's description and rated its success on
   the attacker's scale. They are not told the attacker's own rating here: agreement is worked out
   from two ratings that are independent.
2. An item goes by the id of its attack, by which nobody is given their own (`selection`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from hark.feedback import accounts, events
from hark.feedback.assignment import return_items
from hark.feedback.items import NewItem, known_ids, put_items, warnings_of
from hark.feedback.queue import fill_of, requeue
from hark.feedback.refusals import ConflictError
from hark.feedback.store import Store
from hark.feedback.studies import MANAGERS, Study, lock_study
from hark.feedback.tables import assignments, items
from hark.feedback.tasks import ReviewTask
from hark.feedback.transcripts import read_transcripts

AT_ONCE: Final = 200
"""Transcripts in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackCounts:
    """What became of the finished attacks of a study."""

    added: int
    there: int
    """That had been added before."""
    without_consent: int
    """Whose attackers have not said that others may review them."""
    withdrawn: int
    """Of those that are there: whose attackers took it back, so that nobody is given them."""


def add_attacks(store: Store, study_id: str, source_id: str, *, by: str) -> AttackCounts:
    """Add the finished attacks of a red-team study to a review study, all that are new or none.

    Raises: NotAllowedError; ConflictError if the studies are of other kinds, or the review study
    has no warning for a category of an attack.
    """
    with store.write() as connection:
        accounts.require(connection, by, MANAGERS)
        # The source first, as `labelling.correct` does: nobody takes consent back meanwhile.
        source, study = lock_study(connection, source_id), lock_study(connection, study_id)
        _check_kinds(study, source)
        finished, allowed = _finished(connection, source_id), _allowed(connection, source_id)
        known = known_ids(connection, study_id)
        there = [one for one in finished if one in known]
        new = [one for one in finished if one in allowed and one not in known]
        added = 0
        for start in range(0, len(new), AT_ONCE):
            reviews = list(_reviews(connection, source, new[start : start + AT_ONCE]))
            added += len(put_items(connection, study, reviews, now=store.clock()))
        for one in there:
            _open_or_close(connection, study, known[one], one in allowed)
        return AttackCounts(
            added=added,
            there=len(there),
            without_consent=sum(one not in allowed and one not in known for one in finished),
            withdrawn=sum(one not in allowed for one in there),
        )


def _check_kinds(study: Study, source: Study) -> None:
    for one, kind in ((study, "review"), (source, "dialogue")):
        if one.settings.task != kind:
            raise ConflictError(
                f"study '{one.settings.name}' is of kind '{one.settings.task}': attacks go from a "
                "study of kind 'dialogue' to one of kind 'review'"
            )


def _finished(connection: Connection, study_id: str) -> list[str]:
    """Assignments whose attack is over and rated, in the order in which they ended."""
    rated = events.iterate(connection, study_id=study_id, kinds=("redteam",))
    attacks = {one.assignment_id for one in rated}
    over = (assignments.c.study_id == study_id) & assignments.c.state.in_(("done", "late"))
    ended = select(assignments.c.id).where(over).order_by(assignments.c.finished_at)
    return [one for one in connection.execute(ended).scalars() if one in attacks]


def _allowed(connection: Connection, study_id: str) -> set[str | None]:
    """Assignments whose attacker agrees, as it stands, to a review."""
    rated = events.iterate(connection, study_id=study_id, kinds=("redteam",), current=True)
    return {one.assignment_id for one in rated if one.body["answer"].get("may_be_reviewed")}


def _reviews(
    connection: Connection, source: Study, assignment_ids: Sequence[str]
) -> Iterator[NewItem]:
    transcripts = read_transcripts(connection, source.id, assignment_ids)
    warnings = warnings_of(connection, source, {one.item_id for one in transcripts.values()})
    for name in assignment_ids:
        if (attack := transcripts.get(name)) is not None:
            task = ReviewTask(transcript=attack.messages, description=attack.description)
            yield NewItem(task=task, categories=tuple(warnings[attack.item_id]), id=name)


def set_consent(connection: Connection, attack: str, agrees: bool) -> None:
    """The attacker of an assignment has said anew whether others may review it; its study is
    locked."""
    found = select(items.c.id, items.c.study_id).where(items.c.source_id == attack)
    for row in connection.execute(found.order_by(items.c.study_id)).all():
        study = lock_study(connection, row.study_id)
        if study.settings.task == "review":
            _open_or_close(connection, study, row.id, agrees)


def _open_or_close(connection: Connection, study: Study, item_id: str, wanted: bool) -> None:
    """Let an item be given to as many as the study asks, or to nobody; the study is locked.

    A closed item has as many places as reviews, and a review keeps its place: none comes free.
    """
    this = items.c.id == item_id
    before = connection.execute(select(items.c.slots).where(this)).scalar_one()
    if before is None:
        return
    if not wanted:
        return_items(connection, assignments.c.item_id == item_id)
    taken = connection.execute(select(items.c.taken).where(this)).scalar_one()
    slots = max(before, study.settings.overlap) if wanted else taken
    if slots != before:
        values = {"slots": slots, "fill": fill_of(taken, slots)}
        connection.execute(update(items).where(this).values(values))
        requeue(connection, study.id, [item_id])
