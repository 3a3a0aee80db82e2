"""Whether intervals hold what they state: studies are drawn again, with other people and prompts.

A redrawn study has the shape of the first: as many labelers of the same kinds, each with as many
items, shared among as many. Its labelers are drawn anew, and so are its items, from those that
there are, with the side on which each response stands. The truth is what endlessly many such
studies say together, estimated from all redrawn votes. Nothing is sent anywhere; what a character
would vote is a function of who it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hark.data.records import Dialogue
from hark.evaluation.elo import Outcome, Vote, rate
from hark.evaluation.intervals import Estimate
from hark.evaluation.matchups import matchups
from hark.loop.simulation import truths
from hark.loop.simulation.answering import preference
from hark.loop.simulation.characters import Character, CrowdSettings, crowd
from hark.loop.simulation.draws import uniform

REDRAW_SEEDS = 1_000_000
"""Redraw k of seed s has seed s + k times this, far from any seed that people choose."""
RESAMPLES = 400
"""Of the bootstrap behind win rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """A vote that was cast, as far as it can be cast again."""

    labeler: int
    """Index of the character."""
    item: str
    prompt: Dialogue
    models: tuple[str, str]
    """In the order shown, as `texts`."""
    texts: tuple[str, str]
    outcome: Outcome

    @property
    def vote(self) -> Vote:
        """As it was cast."""
        return Vote(
            first=self.models[0],
            second=self.models[1],
            outcome=self.outcome,
            labeler=str(self.labeler),
            prompt=self.item,
        )

    def cast_again(self, by: Character, about: Ballot, *, swapped: bool) -> Ballot:
        """In the same place of the study, by somebody else, about something else."""
        (first, second), (one, two) = about.models, about.texts
        if swapped:
            first, second, one, two = second, first, two, one
        content = replace(about, models=(first, second), texts=(one, two))
        return replace(
            content, labeler=self.labeler, item=self.item, outcome=content.outcome_by(by)
        )

    def outcome_by(self, character: Character) -> Outcome:
        """How somebody would vote."""
        likings = {
            name: character.likes(self.prompt, text, place)
            for place, (name, text) in enumerate(zip(("first", "second"), self.texts, strict=True))
        }
        chosen, _ = preference(character, likings)
        return "tie" if chosen is None else "first" if chosen == "first" else "second"


def ballots_of(records: Iterable[Mapping[str, Any]], index_of: Mapping[str, int]) -> list[Ballot]:
    """The votes of simulated labelers in canonical records.

    index_of: pseudonym → index of the character; others' votes are left out.
    """
    found = []
    for one in records:
        usable = one["kind"] == "vote" and not one["gold"] and one["labeler"] in index_of
        if not usable or one["late"] or any(c["snapshot"] is None for c in one["candidates"]):
            continue
        shown = [one["candidates"][place] for place in one["display_order"]]
        first, second = shown
        chosen = one["answer"]["chosen"]
        outcomes: dict[str | None, Outcome] = {
            first["id"]: "first", second["id"]: "second", None: "tie"
        }  # fmt: skip
        found.append(
            Ballot(
                labeler=index_of[one["labeler"]],
                item=one["task_id"],
                prompt=truths.dialogue_of(one["context"]["task"]["prompt"]),
                models=(first["snapshot"], second["snapshot"]),
                texts=(first["text"], second["text"]),
                outcome=outcomes[chosen],
            )
        )
    return found


def redrawn(ballots: Sequence[Ballot], characters: Sequence[Character], seed: int) -> list[Ballot]:
    """A study of the same shape."""
    contents = list({one.item: one for one in ballots}.values())
    drawn = {
        one.item: contents[int(uniform(seed, "item", place) * len(contents))]
        for place, one in enumerate(contents)
    }
    return [
        one.cast_again(
            characters[one.labeler],
            drawn[one.item],
            swapped=uniform(seed, "side", place) < 0.5,
        )
        for place, one in enumerate(ballots)
    ]


def estimates(votes: Sequence[Vote]) -> dict[str, Estimate]:
    """Strengths against the first model and win rates of pairs, as dashboards show them."""
    ratings = rate(votes)
    found = {f"Elo of {one.model}": one.elo for one in ratings.ratings}
    for one in matchups(votes, resamples=RESAMPLES):
        if one.row < one.column:
            found[f"wins of {one.row} over {one.column}"] = one.rate.estimate
    return found


def coverage(
    ballots: Sequence[Ballot], settings: CrowdSettings, *, redraws: int
) -> dict[str, Any] | None:
    """Intervals of this study, and of `redraws` others like it, against the truth.

    None without votes.
    """
    if not ballots:
        return None
    told = estimates([one.vote for one in ballots])
    pooled: list[Vote] = []
    again: list[dict[str, Estimate]] = []
    for number in range(1, redraws + 1):
        seed = settings.seed + number * REDRAW_SEEDS
        others = crowd(settings.model_copy(update={"seed": seed}))
        votes = [one.vote for one in redrawn(ballots, others, seed)]
        again.append(estimates(votes))
        pooled += [replace(one, labeler=str(number)) for one in votes]
    truth = {name: one.value for name, one in estimates(pooled).items()}
    covered = [_covers(one.get(name), truth[name]) for one in again for name in truth]
    known = [one for one in covered if one is not None]
    lines = [_line(name, one, truth.get(name)) for name, one in told.items()]
    lines = [one for one in lines if one["holds"] is not None]
    return {
        "votes": len(ballots),
        "level": 0.95,
        "intervals": lines,
        "covered": sum(bool(one["holds"]) for one in lines),
        "of": len(lines),
        "redraws": redraws,
        "redrawn_coverage": sum(known) / len(known) if known else None,
        "redrawn_intervals": len(known),
    }


def _covers(estimate: Estimate | None, truth: float | None) -> bool | None:
    """None where there is no interval."""
    if estimate is None or truth is None or estimate.low is None or estimate.high is None:
        return None
    return bool(estimate.low <= truth <= estimate.high)


def _line(name: str, estimate: Estimate, truth: float | None) -> dict[str, Any]:
    return {
        "of": name,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "truth": truth,
        "holds": _covers(estimate, truth),
    }
