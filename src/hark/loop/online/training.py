"""What a round does with its labels: merge, train, measure, compare; each a stage.

`run_stage` takes a complete run of the same settings, inputs and code, and continues an interrupted
one, so that each of these functions may be called again after any kill.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hark.loop.online.place import START, Loop
from hark.loop.stages import STAGES, StageOutcome, run_stage

STATIC = "static"
PREVIOUS, NEW = "previous", "new"
CALIBRATION = ("calibration_error", "calibration_interval", "warnings")
"""Results of a preference model that a round's report shows."""


def merge(loop: Loop, number: int) -> dict[str, Any]:
    """All tranches up to a round as one training set."""
    return merge_tranches(loop, tranches_up_to(loop, number), name=f"round-{number}")


def merge_tranches(
    loop: Loop, tranches: Mapping[str, Mapping[str, Any]], *, name: str, single_pairs: bool = False
) -> dict[str, Any]:
    """tranches: name → data, weight, maximum. single_pairs: draw one pair of each ranking."""
    settings = loop.settings
    values = {
        "tranches": {key: dict(value) for key, value in tranches.items()},
        "held_out": settings.held_out,
        "single_pairs": single_pairs,
    }
    done = stage(loop, "merge", name, values)
    return {"run": str(done.run_path), **done.results}


def tranches_up_to(loop: Loop, number: int) -> dict[str, dict[str, Any]]:
    """Name → data, weight and maximum of every tranche that a round trains on."""
    settings = loop.settings
    static = settings.static
    found: dict[str, dict[str, Any]] = {
        STATIC: {
            "data": [str(path) for path in static.data],
            "weight": static.weight,
            "maximum": static.maximum,
        }
    }
    for name, facts in loop.exports().items():
        kind, _, of_round = name.rpartition("-")
        if int(of_round) > number:
            continue
        options = settings.rejection if kind == "rejection" else settings.collect
        assert options is not None
        found[name] = {
            "data": [facts["data"]],
            "weight": options.weight,
            "maximum": options.maximum,
        }
    return found


def train(
    loop: Loop,
    kind: str,
    number: int,
    *,
    preference: str = "",
    merged: str = "",
    name: str = "",
) -> dict[str, Any]:
    """A preference model or a policy, from the checkpoint that every round restarts from.

    What was held out of the tranches measures the preference model, its calibration too.
    kind: `preference` or `ppo`. preference: the run of the preference model, for a policy.
    merged: the run of the training set, by default the round's.
    """
    settings = loop.settings
    if kind == "preference":
        merged = merged or str(loop.journal.facts(number, "merged")["run"])
        data = Path(merged) / "data"
        held_out = [str(path) for path in sorted(data.glob("*-heldout.jsonl"))]
        values = {
            "evaluation_data": held_out,
            **settings.preference,
            "data": [str(data / "comparisons.jsonl")],
        }
    else:
        values = {**settings.policy, "preference_model": [preference]}
    done = stage(loop, kind, name or f"round-{number}", values)
    shown = CALIBRATION if kind == "preference" else ()
    told = {key: done.results[key] for key in shown if key in done.results}
    return {"run": str(done.run_path), **told}


def measure(loop: Loop, number: int) -> dict[str, Any]:
    """Scores and held-out accuracy of the round's preference model, tranche by tranche."""
    merged = Path(loop.journal.facts(number, "merged")["run"])
    tranches = tranches_up_to(loop, number)
    held_out = {
        name: [str(path)]
        for name in tranches
        if (path := merged / "data" / f"{name}-heldout.jsonl").exists()
    }
    values: dict[str, Any] = {
        "model": loop.journal.facts(number, "preference")["run"],
        "replies": {name: one["data"] for name, one in tranches.items()},
        "held_out": held_out,
    }
    if loop.settings.measure.judge == "playground":
        values["judge"] = "playground"
    done = stage(loop, "tranches", f"round-{number}", values)
    return {"run": str(done.run_path), **done.results}


def compare(loop: Loop, number: int) -> dict[str, Any]:
    """The round's policy against the previous one on held-out prompts, before people have voted."""
    models = loop.snapshots()
    previous = loop.snapshot(START if number == 0 else number - 1)
    new = loop.snapshot(number)
    done = compare_policies(
        loop, {PREVIOUS: models[previous], NEW: models[new]}, baseline=PREVIOUS,
        preference=str(loop.journal.facts(number, "preference")["run"]), name=f"round-{number}",
    )  # fmt: skip
    return {"previous": previous, "new": new, **done}


def compare_policies(
    loop: Loop, policies: Mapping[str, str], *, baseline: str, preference: str, name: str
) -> dict[str, Any]:
    """Several policies on the held-out prompts."""
    settings = loop.settings
    limit = {} if settings.measure.limit is None else {"limit": settings.measure.limit}
    values = {
        "policies": {key: {"model": model} for key, model in policies.items()},
        "baseline": baseline,
        "data": [str(path) for path in settings.measure.data] * settings.measure.replies,
        "judge": settings.measure.judge,
        "preference_model": preference,
        "long_prompts": "skip",
        "sampling": {
            "temperature": settings.collect.sampling.temperature,
            "top_p": settings.collect.sampling.top_p,
            "max_response_tokens": settings.collect.max_response_tokens,
        },
        **limit,
    }
    done = stage(loop, "compare", name, values)
    return {"run": str(done.run_path)}


def stage(loop: Loop, kind: str, name: str, values: Mapping[str, Any]) -> StageOutcome:
    """Run a stage in the loop's directory, or find that it is done."""
    settings = loop.settings
    shared = {
        "name": name,
        "output": str(loop.runs),
        "seed": values.get("seed", settings.seed),
        "device": settings.device,
        "dtype": values.get("dtype", settings.dtype),
    }
    where = f"stage '{kind}' of the loop '{settings.name}'"
    parsed = STAGES[kind].settings.parse({**values, **shared}, where=where)
    return run_stage(kind, parsed, command=["hark", *sys.argv[1:]], reuse_complete=True)
