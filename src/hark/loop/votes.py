"""Votes between models, read from files of judged comparisons and from exports of the application.

A comparison votes if its responses' models are named, and once for each of its pairs; the response
that comes earlier counts as the one that was shown first. In an export that is told by the events
beside the comparisons, which say in which order each labeler saw them.
"""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hark.data.formats import read_comparisons
from hark.data.records import Comparison
from hark.errors import DataError
from hark.evaluation.elo import Outcome, Vote
from hark.feedback.events import Event
from hark.feedback.votes import votes_of
from hark.loop.inputs import data_files, read_files
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings

EVENTS = "events.jsonl"


@dataclass(frozen=True, kw_only=True)
class CastVotes:
    """What files say of models."""

    votes: tuple[Vote, ...]
    left_out: dict[str, int]
    """Reason → comparisons or labels."""


def vote_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are read for these paths, each once: of an export its events.

    Raises: DataError for a path without files.
    """
    found = (_source(file) for path in paths for file in data_files(str(path)))
    return list(dict.fromkeys(found))


def read_votes(paths: Sequence[Path], settings: DataStageSettings, run: Run) -> CastVotes:
    """Every vote in the files. Raises: DataError if there is none."""
    votes: list[Vote] = []
    left_out: collections.Counter[str] = collections.Counter()
    for path in vote_files(paths):
        if path.name == EVENTS:
            found = votes_of_export(path)
        else:
            found = votes_of_comparisons(read_files(read_comparisons, [path], settings, run))
        votes += found.votes
        left_out.update(found.left_out)
    if not votes:
        reasons = "; ".join(f"{count} {why}" for why, count in left_out.items())
        raise DataError(
            f"no vote between models in {', '.join(map(str, paths))} ({reasons or 'no label'}): "
            "comparisons must name the models of their responses ('models'; in battles 'model_a')"
        )
    return CastVotes(votes=tuple(votes), left_out=dict(left_out))


def votes_of_comparisons(comparisons: Sequence[Comparison]) -> CastVotes:
    """One vote for each pair of responses of each comparison that names the models."""
    named = [each for each in comparisons if each.models is not None]
    missing = len(comparisons) - len(named)
    why = {"of responses whose models are not named": missing} if missing else {}
    return CastVotes(votes=tuple(vote for each in named for vote in _pairs(each)), left_out=why)


def votes_of_export(path: Path) -> CastVotes:
    """The votes in an export's events. Raises: DataError for a line that is no event."""
    events = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            events.append(Event.from_json(json.loads(line), position=number))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: not an event of an export ({type(error).__name__}: {error}); "
                "export the study again with hark feedback export"
            ) from None
    found = votes_of(events)
    votes = (
        Vote(
            first=each.first,
            second=each.second,
            outcome=each.outcome,
            labeler=each.labeler,
            prompt=each.prompt,
        )
        for each in found.ballots
    )
    return CastVotes(votes=tuple(votes), left_out=found.left_out)


def _source(file: Path) -> Path:
    events = file.parent / EVENTS
    exported = (file.parent / "snapshot.json").is_file() and events.is_file()
    return events if exported else file


def _pairs(comparison: Comparison) -> Iterator[Vote]:
    assert comparison.models is not None
    won = set(comparison.ordered_pairs())
    for one, other in itertools.combinations(range(len(comparison.responses)), 2):
        outcome: Outcome = "tie"
        if (one, other) in won:
            outcome = "first"
        elif (other, one) in won:
            outcome = "second"
        yield Vote(
            first=comparison.models[one],
            second=comparison.models[other],
            outcome=outcome,
            labeler=comparison.labeler,
            prompt=comparison.prompt,
        )
