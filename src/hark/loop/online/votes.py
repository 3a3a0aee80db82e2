"""Votes between snapshots, read from a loop's exports. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hark.evaluation.elo import Ratings, Vote, rate
from hark.feedback.events import Event
from hark.feedback.votes import Ballot, votes_of
from hark.loop.online.place import START, Loop


def read_events(export: Path) -> list[Event]:
    """The events behind an export, in their order."""
    lines = (export / "events.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [Event.from_json(row, position=place) for place, row in enumerate(rows, start=1)]


def ballots(exports: Sequence[Mapping[str, Any]]) -> list[Ballot]:
    """Which of two snapshots a labeler preferred, over several exports.

    Best-of-k studies have one snapshot, which tells nothing of how strong it is: it is left out.
    """
    found: list[Ballot] = []
    for facts in exports:
        for one in votes_of(read_events(Path(facts["path"]))).ballots:
            if one.first != one.second:
                found.append(one)
    return found


def ratings_of(loop: Loop) -> Ratings:
    """Elo of every snapshot by all votes between snapshots, with the start at 1000."""
    votes = [
        Vote(
            first=one.first,
            second=one.second,
            outcome=one.outcome,
            labeler=one.labeler,
            prompt=one.prompt,
        )
        for one in ballots(list(loop.exports().values()))
    ]
    return rate(votes, models=list(loop.snapshots()), anchor=loop.snapshot(START))
