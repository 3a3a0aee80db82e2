"""Iterated online training (Bai et al., 2204.05862), over several seeds.

Each run is one of the stage `online`. Claims: every round's policy is better than the one before,
and the last than the first; scores of the replies that people compare move right; newer comparisons
are harder to call; more rounds, more Elo; at equal size a mixture with online data beats the base
tranche alone. Beside them, what this code promises: nothing acknowledged is lost or doubled,
whatever is killed.

Departures
1. The paper's accuracies (74, 70, 67 %) are of base, rejection-sampled and online tests, all by one
   model. Our base tranche are rankings with distractors by another labeler, whose accuracy has
   another meaning; so the last online tranche is held against the first, by the last model.
2. Who is better is also said by the playground's gold grade; the paper had its workers alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hark.evaluation.intervals import NOTHING, Estimate
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import source_of
from hark.report.drawing import DASHES, canvas, colour, save
from hark.report.effects import Effect, Verdict, judged
from hark.report.loop_figures import draw_by_round, draw_score_histograms
from hark.report.run_record import RunRecord

PAPER = "HH, 2204.05862, iterated online training"


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """Gains by round, tranches, Elo, the experiment, and what kills left of the labels."""
    results = [run.results for run in runs]
    rounds = len(results[0]["rounds"]) - 1
    _draw(runs, directory)
    shared: dict[str, Any] = {
        "paper": PAPER, "data": source_of(runs[0].settings["measure"]["data"]), "seeds": len(runs),
        "setting": f"{rounds} rounds of {_task(runs)} with {_labelers(runs)} simulated labelers "
        "through the feedback application, after a start from comparisons of the SFT model's "
        "replies",
    }  # fmt: skip
    effects = [_gain(results, number, shared) for number in range(1, rounds + 1)]
    effects.append(_rise(results, shared))
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
        figure="online-gold.png", **judged(gain, above=0.0), **shared,
    )  # fmt: skip


def _rise(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    """Over all rounds, where the gain of one may be too small to be seen."""
    rises = [_last_less_first(result["rounds"], "judge") for result in results]
    return Effect(
        name="The last online policy is better than the one that saw no online data",
        claim="Five weeks of online training improve the policy.",
        measured="gold score, 0 to 1, of the last round's policy less that of round 0",
        figure="online-gold.png", **judged(_over_seeds(rises), above=0.0), **shared,
    )  # fmt: skip


def _scores(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    def moved(result: Mapping[str, Any]) -> float | None:
        return _last_less_first(_online(result), "score")

    rise = _over_seeds([moved(result) for result in results])
    return Effect(
        name="Scores of the compared replies move right",
        claim="The distribution of preference-model scores of collected replies moves up with "
        "every round.",
        measured="mean score of the last online tranche less that of the first, by the last "
        "preference model, in logits",
        figure="online-scores.png", **judged(rise, above=0.0), **shared,
    )  # fmt: skip


def _accuracy(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    def fell(result: Mapping[str, Any]) -> float | None:
        return _last_less_first(_online(result), "accuracy")

    fall = _over_seeds([fell(result) for result in results])
    return Effect(
        name="The newest comparisons are harder to call",
        claim="Votes between better policies are harder to call: one model's accuracy is 74 % on "
        "the base test, 70 % on the rejection-sampled and 67 % on the online one.",
        measured="accuracy on what is held out of the last online tranche less that of the first, "
        "both by the last preference model: the same labelers and task, later policies",
        figure="online-accuracy.png", **judged(fall, below=0.0), **shared,
    )  # fmt: skip


def _elo(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    def rose(result: Mapping[str, Any]) -> float | None:
        return _last_less_first(result["rounds"][:-1], "elo")

    rise = _over_seeds([rose(result) for result in results])
    return Effect(
        name="Elo rises with rounds",
        claim="Labelers prefer the policies of later rounds.",
        measured="Elo of the newest policy that was voted on (the last but one: votes on a policy "
        "come in the round after it) less that of round 0, by the votes that the loop collected",
        figure="online-elo.png", **judged(rise, above=0.0), **shared,
    )  # fmt: skip


def _draw_experiment(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    with canvas() as drawing:
        axes = drawing.subplots()
        for place, result in enumerate(results):
            arms = [result["experiment"][arm]["value"] for arm in ("base_only", "mixture")]
            axes.plot(
                ["base alone", "mixture"], arms, marker="o", markersize=4, color=colour(place),
                linestyle=DASHES[place % len(DASHES)], label=f"seed {place}",
            )  # fmt: skip
        axes.set_ylabel("gold score")
        axes.legend()
        save(drawing, path)


def _experiment(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    gain = _over_seeds([result["experiment"]["gain"]["value"] for result in results])
    counts = [count for result in results for count in result["experiment"]["pairs"].values()]
    size = f"{min(counts)}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    return Effect(
        name="A mixture with online data beats base data of the same size",
        claim="With 44,000 base comparisons against about 15,000 each of base, rejection sampling "
        "and online, labelers prefer the policy of the mixture.",
        measured=f"difference in gold score at {size} pairs each, one of each comparison, paired "
        "by held-out prompt",
        figure="online-experiment.png", **judged(gain, above=0.0), **shared,
    )  # fmt: skip


def _kept(results: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> Effect:
    told = sum(result["receipts"]["steps"]["acknowledged"] for result in results)
    wrong = sum(
        counts[what]
        for result in results
        for counts in result["receipts"].values()
        for what in ("lost", "doubled", "unasked")
    )
    spared = sorted(
        {name for result in results for name in result["to_kill"] if not result["killed"].get(name)}
    )
    drilled = all(result["to_kill"] for result in results) and not spared
    verdict, why = kept_verdict(told, wrong, drilled=drilled, spared=spared)
    kills = sum((Counter(result["killed"]) for result in results), Counter())
    killed = ", ".join(f"{name} {count}" for name, count in sorted(kills.items()))
    share = NOTHING
    if told:
        share = Estimate(
            value=wrong / told, low=None, high=None, n=told, clusters=len(results), state="exact"
        )
    return Effect(
        name="Nothing is lost, whatever is killed",
        claim="None of the paper's: that of this loop.",
        measured=f"share of {told} acknowledged steps that are lost, doubled or unasked on the "
        f"server, or as labels in the exports, after {kills.total()} kills ({killed})",
        rule="it is 0 and, with every seed, each of these processes was killed at least once",
        estimate=share, verdict=verdict, reason=why, **shared,
    )  # fmt: skip


def kept_verdict(
    told: int, wrong: int, *, drilled: bool, spared: Sequence[str]
) -> tuple[Verdict, str]:
    """Whether labels were kept, and why it is said so.

    told: steps acknowledged. wrong: lost, doubled or unasked ones, on the server or in exports.
    drilled: whether all that was to be killed was. spared: what was not.
    """
    counted = f"{wrong} of {told} are lost, doubled or unasked"
    if wrong:
        return "not reproduced", f"{counted}."
    if not told:
        return "cannot be seen", "Nothing was acknowledged."
    if not drilled:
        whom = ", ".join(spared) or "anything"
        return "cannot be seen", f"{counted}, but with some seed nobody killed {whom}."
    return "reproduced", f"{counted}; every process was killed with every seed."


def _draw(runs: Sequence[RunRecord], directory: Path) -> None:
    """Figures with a line a seed; histograms of the first seed."""
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
    if all(result.get("experiment") for result in results):
        _draw_experiment(results, directory / "online-experiment.png")


def _task(runs: Sequence[RunRecord]) -> str:
    return f"{runs[0].settings['collect']['task']}s"


def _labelers(runs: Sequence[RunRecord]) -> int:
    return max(int(one["labelers"]) for run in runs for one in run.results["collected"])


def _online(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The online tranches in their order, by the last preference model."""
    return [one for one in result["tranches"] if one["tranche"].startswith("online")]


def _last_less_first(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """None of a single row, whose last is its first."""
    return _difference(rows[-1][key], rows[0][key]) if len(rows) > 1 else None


def _difference(later: Mapping[str, Any], earlier: Mapping[str, Any]) -> float | None:
    """Of two estimates; None if one of them has no number."""
    if later["value"] is None or earlier["value"] is None:
        return None
    return float(later["value"]) - float(earlier["value"])


def _over_seeds(values: Sequence[float | None]) -> Estimate:
    """Nothing unless it was measured with every seed."""
    known = [value for value in values if value is not None]
    return mean_over_seeds(known) if len(known) == len(values) else NOTHING
