"""Labels as the records that training and evaluation read.

In red teaming the labeler picks the *more harmful* response; the record says which is better, so
that it is turned round here and nowhere else (2204.05862; 2209.07858, section 3.3).
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row

from hark.data.formats.judged import summary_query
from hark.data.records import Comparison, Demonstration, Dialogue, Message, ask
from hark.feedback.events import Event

COMPARES: Final = frozenset({"comparison", "ranking", "summary", "vote"})
DEMONSTRATES: Final = frozenset({"demonstration", "edit"})


def comparison_of(event: Event, *, source: str | None = None) -> Comparison:
    """The comparison behind a label of a kind in `COMPARES`; its responses in the item's order.

    source: the study, for mixing and reports.
    """
    assert event.kind in COMPARES, event.kind
    body = event.body
    candidates: list[dict[str, Any]] = body["candidates"]
    live = event.kind == "comparison"
    strength = body["answer"].get("strength")
    snapshots = [one["snapshot"] for one in candidates]
    return Comparison(
        prompt=_prompt(event),
        responses=tuple(one["text"] for one in candidates),
        ranks=ranks_of(event, [one["id"] for one in candidates]),
        strength=None if strength is None else float(strength),
        labeler=event.author,
        models=None if None in snapshots else tuple(snapshots),
        user=event.author if live else None,
        source=source,
        id=event.id,
    )


def ranks_of(event: Event | Row[Any], ids: Sequence[str]) -> tuple[int, ...]:
    """How good each candidate is by a label of a kind in `COMPARES`: 1 is best, ties share a rank.

    ids: of the candidates, in the order of the result.
    """
    answer = event.body["answer"]
    if event.kind == "ranking":
        group = {name: n for n, names in enumerate(answer["ranking"], start=1) for name in names}
        return tuple(group[name] for name in ids)
    chosen = answer["chosen"]
    if chosen is None:
        return (1, 1)
    attacks = event.kind == "comparison" and event.body["context"]["task"]["mode"] == "redteam"
    return tuple(1 if (name == chosen) != attacks else 2 for name in ids)


def _prompt(event: Event) -> Dialogue:
    context = event.body["context"]
    task = context["task"]
    if event.kind == "summary":
        community = task["community"].removeprefix("r/")
        return ask(summary_query(community, task["title"], task["post"]))
    turns = context["messages"] if event.kind == "comparison" else task["prompt"]
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def demonstration_of(event: Event, *, source: str | None = None) -> Demonstration:
    """The demonstration behind a label of a kind in `DEMONSTRATES`."""
    assert event.kind in DEMONSTRATES, event.kind
    answer, task = event.body["answer"], event.body["context"]["task"]
    prompt = tuple(Message(turn["role"], turn["content"]) for turn in task["prompt"])
    written = not prompt
    if written:
        shots = [f"{one['query']}\n{one['response']}" for one in answer["examples"]]
        asked = [answer["query"]] if shots else []
        prompt = ask("\n\n".join([answer["prompt"], *shots, *asked]))
    return Demonstration(
        prompt=prompt,
        response=answer["response"],
        user=event.author if written else None,
        labeler=event.author,
        source=source,
        id=event.id,
    )


def preference_units(labels: Iterable[Event]) -> list[list[float]]:
    """For each pair of responses of each item what its labelers said: 1, 0 (tie) or −1.

    The form in which `agreement` takes them. Live dialogues have no pair in common and give none.
    """
    said: dict[tuple[str | None, int, int], list[float]] = collections.defaultdict(list)
    for label in labels:
        if label.kind in COMPARES - {"comparison"}:
            ids = [one["id"] for one in label.body["candidates"]]
            ranks = ranks_of(label, ids)
            for i, j in itertools.combinations(range(len(ranks)), 2):
                sign = float((ranks[i] < ranks[j]) - (ranks[i] > ranks[j]))
                said[label.item_id, i, j].append(sign)
    return list(said.values())
