"""Who may label: the four measures of InstructGPT's screening test (2203.02155, appendix B.1).

1. The paper's cut-offs are soft: labelers were chosen by hand with them in view. Here they decide,
   and a study's owner may decide otherwise (`studies.set_member_state`).
2. A measure without observations is neither passed nor failed: the decision is then "undecided".
3. So it is while test items are skipped: else one would pass by the one item that one is sure of.
   A skip costs nothing, but a researcher decides.
4. The last self-assessment counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection, Select, select

from hark.feedback import events
from hark.feedback.gold import Gold, score
from hark.feedback.tables import assignments, items
from hark.settings import Settings

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Grade = Annotated[float, Field(ge=1, le=7, allow_inf_nan=False)]
Decision = Literal["passed", "failed", "undecided"]


class CutOffs(Settings):
    """What each measure must reach; None asks nothing of it, as where the test does not measure it.

    The defaults are the paper's (2203.02155, appendix B.1); point 2 above says what comes of a
    measure that is asked for and never taken.
    """

    flag_agreement: Share | None = 0.75
    """With the known flags of sensitive content."""
    ranking_agreement: Share | None = 0.75
    """With researchers' choices and rankings."""
    demonstration_grade: Grade | None = 6.0
    """Mean of researchers' grades, 1 to 7, for demonstrations."""
    self_assessment: Grade | None = None
    """How able they say they are to recognise sensitive speech, 1 to 7; no cut-off in the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """A labeler's results; None where nothing has been observed."""

    flag_agreement: float | None = None
    ranking_agreement: float | None = None
    demonstration_grade: float | None = None
    self_assessment: float | None = None
    items_left: int = 0
    """Screening items that they have not done."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def decide(measures: Measures, cut_offs: CutOffs) -> tuple[Decision, tuple[str, ...]]:
    """The decision, and the measures that it rests on: those that failed, or are still open."""
    wanted = {name: value for name, value in cut_offs.model_dump().items() if value is not None}
    reached: Mapping[str, float | None] = {name: getattr(measures, name) for name in wanted}
    if measures.items_left:
        return "undecided", ("items_left",)
    failed = [name for name, got in reached.items() if got is not None and got < wanted[name]]
    if failed:
        return "failed", tuple(failed)
    unknown = [name for name, got in reached.items() if got is None]
    return ("undecided", tuple(unknown)) if unknown else ("passed", ())


def measure(connection: Connection, study_id: str, person_id: str, pseudonym: str) -> Measures:
    """What the store knows of a labeler's screening."""
    wanted = (items.c.study_id == study_id) & (items.c.use == "screening")
    known = {row.id: row.gold for row in connection.execute(select(items).where(wanted))}
    done = set(
        connection.execute(
            select(assignments.c.item_id).where(
                assignments.c.person_id == person_id,
                assignments.c.item_id.in_(list(known)),
                assignments.c.state.in_(("done", "late")),
            )
        ).scalars()
    )
    preferences: list[float] = []
    flags: list[float] = []
    taken = tests_taken(study_id).where(assignments.c.person_id == person_id)
    theirs = events.iterate(connection, among=taken, kinds=events.LABELS - {"notes"}, current=True)
    for event in theirs:
        gold = known.get(event.item_id or "")
        if gold is not None:
            ids = [one["id"] for one in event.body["candidates"]]
            got = score(event.body["answer"], Gold.model_validate(gold), ids)
            preferences += [] if got.preference is None else [got.preference]
            flags += [] if got.flags is None else [got.flags]
    grades, said = _graded(connection, study_id, pseudonym)
    return Measures(
        flag_agreement=_mean(flags),
        ranking_agreement=_mean(preferences),
        demonstration_grade=_mean(grades),
        self_assessment=said[-1] if said else None,
        items_left=len(known.keys() - done),
    )


def tests_taken(study_id: str) -> Select[tuple[str]]:
    """Ids of the assignments of a study's screening items."""
    of_test = items.c.use == "screening"
    return (
        select(assignments.c.id)
        .join(items, items.c.id == assignments.c.item_id)
        .where(assignments.c.study_id == study_id, of_test)
    )


def _graded(
    connection: Connection, study_id: str, pseudonym: str
) -> tuple[list[float], list[float]]:
    """Researchers' grades of the labeler's demonstrations, and their own assessment."""
    grades: list[float] = []
    said: list[float] = []
    for event in events.iterate(connection, study_id=study_id, kinds=("screening",), current=True):
        if event.body.get("labeler") == pseudonym:
            if "demonstration_grade" in event.body:
                grades.append(event.body["demonstration_grade"])
            if "self_assessment" in event.body and event.author == pseudonym:
                said.append(event.body["self_assessment"])
    return grades, said


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
