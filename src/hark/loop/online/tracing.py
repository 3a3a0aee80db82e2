"""A loop's rating, traced to the votes behind it and the labels behind the model. No torch."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

from hark.errors import RunError, did_you_mean
from hark.loop.lineage import Node, owner_of, trace
from hark.loop.online.place import SETTINGS, Loop
from hark.loop.online.reporting import said
from hark.loop.online.votes import ballots, ratings_of


def is_of_loop(item: str) -> bool:
    """Whether an item is a snapshot of a loop: `LOOP#SNAPSHOT`, or a loop alone."""
    return (Path(item.partition("#")[0]) / SETTINGS).is_file()


def trace_rating(item: str) -> Node:
    """The tree of a snapshot's Elo: the votes that rate it, and the run that made its model.

    item: `LOOP#SNAPSHOT`, as `loops/weekly#weekly-round-2`; without a snapshot, the newest.
    Raises: RunError for an unknown snapshot.
    """
    directory, _, name = item.partition("#")
    loop = Loop.open(Path(directory))
    models = loop.snapshots()
    name = name or list(models)[-1]
    if name not in models:
        raise RunError(
            f"the loop has no snapshot '{name}'{did_you_mean(name, models)}; it has: "
            f"{', '.join(models)}"
        )
    elo = ratings_of(loop).of(name)
    children: list[Node] = []
    for facts in loop.exports().values():
        own = [one for one in ballots([facts]) if name in (one.first, one.second)]
        if own:
            children.append(_votes(facts, [(one.event_id, one.labeler) for one in own]))
    children.append(_model(models[name]))
    told = {
        "Elo": said(elo.elo.to_json()),
        "wins": elo.wins,
        "ties": elo.ties,
        "losses": elo.losses,
    }
    return Node(kind="rating", name=f"rating of {name}", facts=told, children=tuple(children))


def _model(model: str) -> Node:
    """Where a snapshot's model comes from; nothing is known of one that no run made."""
    path = Path(model)
    return trace(path) if owner_of(path) else Node(kind="file", name=path.name, path=model)


def _votes(facts: dict[str, Any], own: list[tuple[str, str]]) -> Node:
    labelers = collections.Counter(labeler for _, labeler in own)
    about = trace(Path(facts["path"]))
    return Node(
        kind="export",
        name=f"votes in {about.name}",
        path=facts["path"],
        state=about.state,
        facts={
            "study": facts["study"],
            "hash": facts["hash"],
            "votes": len(own),
            "labelers": dict(labelers.most_common()),
            "events": [event for event, _ in own],
        },
    )
