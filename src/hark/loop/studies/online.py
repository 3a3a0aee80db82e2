"""Iterated online training (Bai et al., 2204.05862, section 4.5), over several seeds.

Each run is one of the stage `online`. Claims: every round's policy is better than the one before;
scores of the replies that people compare move right; newer comparisons are harder to call; more
rounds, more Elo; at equal size a mixture with online data beats the base tranche alone. Beside
them, what this code promises: nothing acknowledged is lost or doubled whatever is killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hark.evaluation.intervals import NOTHING, Estimate
from hark.loop.studies.seeds import mean_over_seeds
from hark.report.drawing import canvas, save
from hark.report.effects import Effect, above, below
from hark.report.loop_figures import draw_by_round, draw_score_histograms
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862, section 4.5"


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Gains by round, tranches, Elo, the experiment, and what kills left of the labels."""
    results = [run.results for run in runs]
    rounds = len(results[0]["rounds"]) - 1
    _draw(runs, directory)
    shared: dict[str, Any] = {
        "paper": PAPER, "data": "playground", "seeds": len(runs),
        "setting": f"{rounds} rounds of dialogues with {_labelers(runs)} simulated labelers "
        "through the feedback application, after a start from comparisons of the SFT model's "
        "replies",
    }  # fmt: skip
    effects = [_gain(results, number, shared) for number in range(1, rounds + 1)]
    effects += [_scores(results, shared), _accuracy(results, shared), _elo(results, shared)]
    if all(result.get("experiment") for result in results):
        effects.append(_experiment(results, shared))
    effects.append(_kept(results, shared))
    return effects


def _gain(results: Sequence[Mapping[str, Any]], number: int, shared: Mapping[str, Any]) -> Effect:
    gains = [result["rounds"][number]["judge_gain"]["value"] for result in results]
    gain = _over_seeds(gains)
    return Effect(
        name=f"Online round {number} is better than the round before",
        claim="Each week's policy, trained with the comparisons of the last one, is better.",
        measured="difference in gold score, 0 to 1, paired by held-out prompt",
        rule="the interval over seeds lies above 0",
        estimate=gain, verdict=above(gain, 0.0), figure="online-gold.png",
        reason="What a round adds is more comparisons, of replies nearer to the policy's own.",
        **shared,
    )  # fmt: skip


def _scores(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    def moved(result: Mapping[str, Any]) -> float | None:
        online = [one for one in result["tranches"] if one["tranche"].startswith("online")]
        return _difference(online[-1]["score"], online[0]["score"])

    rise = _over_seeds([moved(result) for result in results])
    return Effect(
        name="Scores of the compared replies move right",
        claim="The distribution of preference-model scores of collected replies moves up with "
        "every round.",
        measured="mean score of the last online tranche less that of the first, by the last "
        "preference model, in logits",
        rule="the interval over seeds lies above 0",
        estimate=rise, verdict=above(rise, 0.0), figure="online-scores.png",
        reason="One model scores all tranches, so that the scale is the same.", **shared,
    )  # fmt: skip


def _accuracy(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    def fell(result: Mapping[str, Any]) -> float | None:
        return _difference(result["rounds"][-1]["accuracy"], result["rounds"][0]["accuracy"])

    fall = _over_seeds([fell(result) for result in results])
    return Effect(
        name="The newest comparisons are harder to call",
        claim="Accuracy falls from 74 % on the base tranche to 70 % (rejection sampling) and 67 % "
        "(online).",
        measured="held-out accuracy on the newest tranche in the last round less that in round 0",
        rule="the interval over seeds lies below 0",
        estimate=fall, verdict=below(fall, 0.0), figure="online-accuracy.png",
        reason="Simulated labelers choose by the gap in gold, which good replies have less of; "
        "prompts of online dialogues are the labelers' own.", **shared,
    )  # fmt: skip


def _elo(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    def rose(result: Mapping[str, Any]) -> float | None:
        return _difference(result["rounds"][-2]["elo"], result["rounds"][0]["elo"])

    rise = _over_seeds([rose(result) for result in results])
    return Effect(
        name="Elo rises with rounds",
        claim="Labelers prefer the policies of later rounds.",
        measured="Elo of the newest policy that was voted on less that of round 0, by the votes "
        "that the loop collected",
        rule="the interval over seeds lies above 0",
        estimate=rise, verdict=above(rise, 0.0), figure="online-elo.png",
        reason="The newest policy is the last but one: the votes on a policy come in the round "
        "after it.", **shared,
    )  # fmt: skip


def _experiment(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    gain = _over_seeds([result["experiment"]["gain"]["value"] for result in results])
    counts = results[0]["experiment"]["comparisons"]
    return Effect(
        name="A mixture with online data beats base data of the same size",
        claim="With 44,000 base comparisons against about 15,000 each of base, rejection sampling "
        "and online, labelers prefer the policy of the mixture.",
        measured=f"difference in gold score at about {min(counts.values())} comparisons each",
        rule="the interval over seeds lies above 0",
        estimate=gain, verdict=above(gain, 0.0),
        reason="The judge is the playground's gold grade, paired by held-out prompt.", **shared,
    )  # fmt: skip


def _kept(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    told = sum(result["receipts"]["acknowledged"] for result in results)
    wrong = sum(
        result["receipts"][what] for result in results for what in ("lost", "doubled", "unasked")
    )
    kills = sum(sum(result["killed"].values()) for result in results)
    share = Estimate(
        value=wrong / told, low=None, high=None, n=told, clusters=len(results), state="exact"
    )
    return Effect(
        name="Nothing is lost, whatever is killed",
        claim="None of the paper's: that of this loop.",
        measured=f"share of {told} acknowledged steps that are lost, doubled or unasked, after "
        f"{kills} kills of loop, server, models' server and labelers",
        rule="it is 0",
        estimate=share, verdict="reproduced" if wrong == 0 else "not reproduced",
        reason=f"{wrong} of {told}; every receipt was held against the exported events.", **shared,
    )  # fmt: skip


def _draw(runs: Sequence[RunRecord], directory: Path) -> None:
    """Four figures, a line a seed; histograms of the first seed."""
    results = [run.results for run in runs]
    scores = json.loads((runs[0].path / "data" / "scores.json").read_text(encoding="utf-8"))

    def line(result: Mapping[str, Any], key: str) -> list[tuple[float, Estimate]]:
        return [(row["round"], Estimate.from_json(row[key])) for row in result["rounds"]]

    for key, label, name in (
        ("judge", "gold score", "gold"),
        ("accuracy", "accuracy on the newest tranche", "accuracy"),
        ("elo", "Elo", "elo"),
    ):
        lines = {f"seed {seed}": line(result, key) for seed, result in enumerate(results)}
        with canvas() as drawing:
            draw_by_round(drawing.subplots(), lines, y_label=label)
            save(drawing, directory / f"online-{name}.png")
    with canvas() as drawing:
        draw_score_histograms(drawing.subplots(), scores)
        save(drawing, directory / "online-scores.png")


def _labelers(runs: Sequence[RunRecord]) -> int:
    return max(int(one["labelers"]) for run in runs for one in run.results["collected"])


def _difference(later: Mapping[str, Any], earlier: Mapping[str, Any]) -> float | None:
    """Of two estimates; None if one of them has no number."""
    if later["value"] is None or earlier["value"] is None:
        return None
    return float(later["value"]) - float(earlier["value"])


def _over_seeds(values: Sequence[float | None]) -> Estimate:
    """Nothing unless it was measured with every seed."""
    known = [value for value in values if value is not None]
    return mean_over_seeds(known) if len(known) == len(values) else NOTHING
