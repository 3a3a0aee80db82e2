"""What a simulation found: what was lost, how fast the server was, who was found out, what holds.

The records are those of the server's log, read after the crowd has ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hark.feedback.refusals import NotFoundError
from hark.loop.simulation import truths
from hark.loop.simulation.characters import SUSPECT, CrowdSettings
from hark.loop.simulation.coverage import ballots_of, coverage
from hark.loop.simulation.crowd import Outcome
from hark.loop.simulation.latency import by_route
from hark.web.client import FeedbackClient

Records = Sequence[Mapping[str, Any]]
ERRORS_SHOWN: Final = 20


def findings(
    outcome: Outcome,
    records: Records,
    crowd: CrowdSettings,
    *,
    suspicions: Mapping[str, frozenset[str]] | None,
    redraws: int,
) -> dict[str, Any]:
    """Everything that is to be told, in plain values.

    records: the canonical records of the study. suspicions: pseudonym → what the application says
    of them; None if it says nothing of anybody.
    """
    ours = {diary.pseudonym: diary.character for diary in outcome.diaries if diary.pseudonym}
    theirs = [one for one in records if one["labeler"] in ours]
    index_of = {name: character.index for name, character in ours.items()}
    answered = sum(one.status is not None for one in outcome.notes)
    return {
        "labelers": len(outcome.diaries),
        "seconds": outcome.seconds,
        "items": sum(diary.items for diary in outcome.diaries),
        "skipped": sum(diary.skipped for diary in outcome.diaries),
        "walked_off": sum(diary.walked_off for diary in outcome.diaries),
        "sent_twice": sum(diary.sent_twice for diary in outcome.diaries),
        "acknowledged": len(outcome.receipts),
        "acknowledged_per_second": len(outcome.receipts) / outcome.seconds,
        "requests_per_second": answered / outcome.seconds,
        "unanswered_attempts": len(outcome.notes) - answered,
        "errors": len(outcome.errors),
        "error_examples": outcome.errors[:ERRORS_SHOWN],
        "labels": dict(Counter(one["kind"] for one in theirs)),
        "ended": dict(Counter(diary.ended or "with an error" for diary in outcome.diaries)),
        **kept(outcome, theirs),
        "by_type": by_type(outcome, theirs),
        "routes": by_route(outcome.notes),
        "suspicions": None if suspicions is None else found_out(outcome, suspicions),
        "coverage": coverage(ballots_of(theirs, index_of), crowd, redraws=redraws),
    }


def kept(outcome: Outcome, records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Receipts against the log: how many acknowledged steps it lacks, has twice, or altered."""
    by_key = defaultdict[tuple[str, str], list[Mapping[str, Any]]](list)
    for one in records:
        by_key[one["labeler"], one["client"]["key"]].append(one)
    lost = doubled = altered = 0
    for receipt in outcome.receipts:
        found = by_key[receipt.labeler, receipt.key]
        lost += receipt.event_id not in [one["event_id"] for one in found]
        doubled += len(found) > 1
        altered += any(_differs(one["answer"], receipt.answer) for one in found if "answer" in one)
    return {"lost": lost, "doubled": doubled, "altered": altered}


def suspicions_of(owner: FeedbackClient, study: str) -> dict[str, frozenset[str]] | None:
    """What the application says of labelers by now: pseudonym → kinds of suspicion."""
    try:
        lines = [one["work"] for one in owner.labelers(study, fresh=True)]
    except NotFoundError:  # A server without dashboards.
        return None
    return {one["labeler"]: frozenset(said["kind"] for said in one["suspicions"]) for one in lines}


def _differs(kept_answer: Mapping[str, Any], sent: Mapping[str, Any]) -> bool:
    """Whether something that was sent is not there; what was left out has been filled in."""
    return any(kept_answer.get(name) != value for name, value in sent.items())


def by_type(outcome: Outcome, records: Records) -> list[dict[str, Any]]:
    """For each type of labeler: how many, what they did, how far they agree with what is right."""
    kind_of = {diary.pseudonym: diary.character.kind for diary in outcome.diaries}
    right = defaultdict[str, list[tuple[float, int]]](list)
    for one in records:
        if "answer" in one and "task" in one.get("context", {}):
            agreed = truths.agreement(one["kind"], one["context"]["task"], one)
            if agreed is not None:
                right[kind_of[one["labeler"]]].append(agreed)
    lines = []
    for kind, count in Counter(diary.character.kind for diary in outcome.diaries).items():
        pairs = sum(weight for _, weight in right[kind])
        lines.append(
            {
                "type": kind,
                "labelers": count,
                "items": sum(d.items for d in outcome.diaries if d.character.kind == kind),
                "judgements": pairs,
                "agreement_with_gold": sum(s for s, _ in right[kind]) / pairs if pairs else None,
            }
        )
    return sorted(lines, key=lambda line: -line["labelers"])


def found_out(outcome: Outcome, suspicions: Mapping[str, frozenset[str]]) -> list[dict[str, Any]]:
    """For each kind of suspicion: who deserves it, who is under it, and who is both."""
    lines = []
    for what in sorted(frozenset().union(*SUSPECT.values())):
        deserve = {
            diary.pseudonym
            for diary in outcome.diaries
            if what in SUSPECT.get(diary.character.kind, frozenset())
        }
        under = {diary.pseudonym for diary in outcome.diaries} & {
            name for name, said in suspicions.items() if what in said
        }
        lines.append(
            {
                "suspicion": what,
                "deserved": len(deserve),
                "raised": len(under),
                "rightly": len(deserve & under),
            }
        )
    return lines
