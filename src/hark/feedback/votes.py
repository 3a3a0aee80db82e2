"""Labels as ballots between models, for ratings and win rates.

Feedback does not know how ratings are made; whoever does turns these records into its own.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hark.feedback.events import Event
from hark.feedback.identifiers import hash_of_json
from hark.feedback.judgements import COMPARES, comparison_of

MEASURED: Final = frozenset({"train", "test"})
"""Uses whose labels say something of models; the others have answers known beforehand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """Which of two models' responses a labeler preferred; in red teaming the less harmful one."""

    first: str
    """The snapshot whose response was shown first; perhaps the same as `second`."""
    second: str
    outcome: Literal["first", "second", "tie"]
    labeler: str
    prompt: str
    """The item; of a live dialogue the assignment, since its prompts are its labeler's own."""
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballots:
    """What labels say of models."""

    ballots: tuple[Ballot, ...]
    left_out: dict[str, int]
    """Reason → labels."""


def votes_of(events: Iterable[Event], *, uses: Collection[str] = MEASURED) -> Ballots:
    """The ballots in the labels of a study: one of each pair, K(K−1)/2 of a ranking of K.

    events: all of them, in order, so that what was corrected is known.
    """
    kept = list(events)
    superseded = {one.supersedes for one in kept}
    ballots: list[Ballot] = []
    left_out: collections.Counter[str] = collections.Counter()
    for event in kept:
        if event.kind not in COMPARES:
            continue
        if event.id in superseded:
            left_out["corrected or retracted"] += 1
        elif event.body["use"] not in uses:
            left_out[f"of use '{event.body['use']}'"] += 1
        elif event.body["late"]:
            left_out["late, beyond the overlap"] += 1
        elif event.body.get("names_model"):
            left_out["of a response that names its model"] += 1
        elif None in (names := [one["snapshot"] for one in event.body["candidates"]]):
            left_out["of responses whose model is not named"] += 1
        else:
            ballots.extend(_ballots_of(event, names))
    return Ballots(ballots=tuple(ballots), left_out=dict(left_out))


def _ballots_of(event: Event, snapshots: Sequence[str]) -> Iterator[Ballot]:
    ranks = comparison_of(event).ranks
    assert ranks is not None
    live = event.kind == "comparison"
    order = shown_order(event.id, event.body["display_order"], len(snapshots))
    for one, other in itertools.combinations(order, 2):
        yield Ballot(
            first=snapshots[one],
            second=snapshots[other],
            outcome=_outcome(ranks[one], ranks[other]),
            labeler=event.author,
            prompt=str(event.assignment_id if live else event.item_id),
            event_id=event.id,
        )


def shown_order(event_id: str, order: Sequence[int] | None, count: int) -> list[int]:
    """Places as they stood on the screen; of an import that does not tell, as a hash has it."""
    if order is not None:
        return list(order)
    return sorted(range(count), key=lambda place: hash_of_json([event_id, place]))


def _outcome(one: int, other: int) -> Literal["first", "second", "tie"]:
    if one == other:
        return "tie"
    return "first" if one < other else "second"
