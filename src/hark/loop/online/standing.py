"""Where a loop stands: one row for each round. No torch."""

from __future__ import annotations

from typing import Any

from hark.loop.online.journal import EXPERIMENT
from hark.loop.online.place import Loop

STEPS = ("merged", "preference", "policy", "measured", "compared")


def standing(loop: Loop) -> dict[str, Any]:
    """Plain values: the loop, its rounds, what comes next."""
    journal = loop.journal
    numbers = sorted({entry.round for entry in journal.entries} - {EXPERIMENT})
    return {
        "loop": loop.settings.name,
        "directory": str(loop.path),
        "finished": max(0, journal.rounds_finished),
        "experiment": journal.find(EXPERIMENT, "finished") is not None,
        "rounds": [_row(loop, number) for number in numbers],
    }


def _row(loop: Loop, number: int) -> dict[str, Any]:
    entries = [entry for entry in loop.journal.entries if entry.round == number]
    last = entries[-1]
    facts = {entry.step: entry.facts for entry in entries}
    exported = [one for step, one in facts.items() if step.endswith(": exported")]
    closed = [one for step, one in facts.items() if step.endswith(": closed")]
    opened = [one["study"] for step, one in facts.items() if step.endswith(": opened")]
    done = last.step == "finished"
    return {
        "round": number,
        "state": "finished" if done else f"after '{last.step}'",
        "studies": ", ".join(opened) or None,
        "labels": sum(one["labels"] for one in closed) if closed else None,
        "exported": sum(one["labels"] for one in exported) if exported else None,
        "trained_on": facts["merged"]["training"] if "merged" in facts else None,
        "snapshot": loop.snapshot(number) if "policy" in facts else None,
        "since": last.time,
    }
