"""The controlled experiment of Bai et al. (2204.05862): does online data help?

Two preference models and two policies, alike but for the data: as many pairs of the static
tranche alone as of an equal mixture of all kinds there are (the paper: 44,000 against about 15,000
each of base, rejection sampling and online).

Departures
1. Who is better is said by the judge over held-out prompts, paired by prompt; the paper asked its
   workers.
2. Of a ranking one pair is drawn by lot, in both arms: the static tranche may be rankings, a vote
   is one pair, and the paper's comparisons are all pairs. So both arms have equal numbers of pairs,
   of comparisons and of steps.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hark.errors import RunError
from hark.evaluation.samples import read_samples
from hark.loop.online.journal import EXPERIMENT
from hark.loop.online.place import Loop
from hark.loop.online.reporting import SAMPLES, gold_gain
from hark.loop.online.training import (
    STATIC,
    compare_policies,
    merge_tranches,
    train,
    tranches_up_to,
)

BASE, MIXTURE = "base-only", "mixture"
Tranches = dict[str, dict[str, Any]]


def run_experiment(loop: Loop) -> dict[str, Any]:
    """Train both arms and compare them; a complete step is not done again.

    Raises: RunError before round 1 has collected anything.
    """
    journal, last = loop.journal, loop.journal.rounds_finished
    if last < 1:
        raise RunError("the experiment needs a finished round: there is no online tranche yet")
    found = journal.find(EXPERIMENT, "planned")
    if found is None:
        found = journal.append(EXPERIMENT, "planned", plan_arms(loop, last))
    made: dict[str, dict[str, Any]] = {}
    for arm in (BASE, MIXTURE):
        train_arm = functools.partial(_arm, loop, found[arm], arm)
        made[arm] = journal.once(EXPERIMENT, arm, train_arm)
    facts = journal.once(EXPERIMENT, "compared", lambda: _compare(loop, made))
    done = journal.once(EXPERIMENT, "finished", lambda: {**facts, "planned": found["counts"]})
    return {
        "pairs": {arm: made[arm]["pairs"] for arm in made},
        "base_only": done["judge_before"],
        "mixture": done["judge"],
        "gain": done["judge_gain"],
        "run": done["run"],
    }


def plan_arms(loop: Loop, last: int) -> dict[str, Any]:
    """The tranches of both arms, capped to equal numbers of comparisons, each of them one pair."""
    tranches = tranches_up_to(loop, last)
    available = _trainable(loop, last)
    kinds: dict[str, list[str]] = {}
    for name in tranches:
        kinds.setdefault(name.rpartition("-")[0] or name, []).append(name)
    totals = {kind: sum(available[name] for name in names) for kind, names in kinds.items()}
    count, shares = equal_shares(totals, base=STATIC)
    mixture: Tranches = {}
    for kind, names in kinds.items():
        parts = spread(shares[kind], [available[name] for name in names])
        for name, part in zip(names, parts, strict=True):
            mixture[name] = {**tranches[name], "weight": 1.0, "maximum": part}
    base = {STATIC: {**tranches[STATIC], "weight": 1.0, "maximum": count}}
    return {BASE: base, MIXTURE: mixture, "counts": {"each": count, "mixture": shares}}


def _trainable(loop: Loop, last: int) -> dict[str, int]:
    """Comparisons of each tranche that are not held out, caps aside."""
    told = loop.journal.facts(last, "merged")["tranches"]
    return {one["tranche"]: one["training"] + one["beyond_cap"] for one in told}


def equal_shares(totals: Mapping[str, int], *, base: str) -> tuple[int, dict[str, int]]:
    """The largest number of comparisons that `base` alone and equal parts of all kinds both have.

    totals: what there is of each kind.
    """
    each = min(*totals.values(), totals[base] // len(totals))
    return each * len(totals), dict.fromkeys(totals, each)


def spread(total: int, room: list[int]) -> list[int]:
    """`total` over several tranches as evenly as there is room. Requires sum(room) ≥ total."""
    parts = [0] * len(room)
    left = total
    # The smallest first: what they lack is spread over those with more room.
    for done, place in enumerate(sorted(range(len(room)), key=lambda each: room[each])):
        parts[place] = min(room[place], -(-left // (len(room) - done)))
        left -= parts[place]
    return parts


def _arm(loop: Loop, tranches: Tranches, arm: str) -> dict[str, Any]:
    merged = merge_tranches(loop, tranches, name=f"experiment-{arm}", single_pairs=True)
    named: dict[str, Any] = {"name": f"experiment-{arm}"}
    model = train(loop, "preference", EXPERIMENT, merged=merged["run"], **named)
    policy = train(loop, "ppo", EXPERIMENT, preference=model["run"], **named)
    return {
        "pairs": merged["pairs"],
        "merged": merged["run"],
        "preference": model["run"],
        "run": policy["run"],
    }


def _compare(loop: Loop, made: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    last = loop.journal.rounds_finished
    done = compare_policies(
        loop, {arm: str(facts["run"]) for arm, facts in made.items()}, baseline=BASE,
        preference=str(loop.journal.facts(last, "preference")["run"]), name="experiment",
    )  # fmt: skip
    samples = read_samples(Path(done["run"]) / SAMPLES)
    return {**done, **gold_gain(samples, before=BASE, after=MIXTURE)}
