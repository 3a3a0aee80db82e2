"""What a loop found, round by round, as numbers and as one page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hark.errors import RunError
from hark.evaluation.elo import Ratings
from hark.evaluation.intervals import Estimate, clustered_mean
from hark.evaluation.samples import Sample, read_samples
from hark.loop.online.journal import EXPERIMENT
from hark.loop.online.place import START, Loop
from hark.loop.online.training import CALIBRATION, NEW, PREVIOUS
from hark.loop.online.votes import ratings_of
from hark.report.drawing import Figure
from hark.report.loop_figures import by_round, score_histograms
from hark.report.page import Facts, Report, pick_samples, write_report
from hark.report.run_record import RunRecord
from hark.runs.files import write_json

PROMPTS_SHOWN = 6


def findings_of(loop: Loop) -> dict[str, Any]:
    """Plain values: rounds, ratings, tranches; numbers are `Estimate`s as JSON.

    Raises: RunError before round 0 is finished.
    """
    finished = loop.journal.rounds_finished
    if finished < 0:
        raise RunError(f"no round of '{loop.path}' is finished: `hark loop round {loop.path}`")
    ratings = ratings_of(loop)
    newest = loop.journal.facts(finished, "measured")
    return {
        "loop": loop.settings.name,
        "rounds_finished": finished,
        "rounds": [_round(loop, number, ratings) for number in range(finished + 1)],
        "tranches": newest["tranches"],
        "ratings": ratings.to_json(),
        "experiment": loop.journal.find(EXPERIMENT, "finished"),
        "collected": [
            {"tranche": entry.step.removesuffix(": closed"), **entry.facts}
            for entry in loop.journal.entries
            if entry.step.endswith(": closed")
        ],
    }


def _round(loop: Loop, number: int, ratings: Ratings) -> dict[str, Any]:
    journal = loop.journal
    measured = {one["tranche"]: one for one in journal.facts(number, "measured")["tranches"]}
    newest = measured[list(measured)[-1]]
    exported = {
        name: facts["labels"]
        for name, facts in loop.exports().items()
        if int(name.rpartition("-")[2]) == number
    }
    name = loop.snapshot(number)
    preference = journal.facts(number, "preference")
    return {
        "round": number,
        "snapshot": name,
        "labels": exported,
        "trained_on": journal.facts(number, "merged")["training"],
        "newest_tranche": newest["tranche"],
        "accuracy": newest["accuracy"],
        **{key: preference[key] for key in CALIBRATION if key in preference},
        "accuracy_by_tranche": {key: one["accuracy"] for key, one in measured.items()},
        **gold_gain(read_samples(Path(journal.facts(number, "compared")["run"]) / SAMPLES)),
        "elo": ratings.of(name).elo.to_json(),
    }


SAMPLES = Path("data") / "samples.jsonl"


def gold_gain(
    samples: Sequence[Sample], *, before: str = PREVIOUS, after: str = NEW
) -> dict[str, Any]:
    """Mean judge score of both policies, and of the difference, paired and clustered by prompt.

    samples: both policies' replies to the same prompts, each in the same order.
    """
    own = {name: [one for one in samples if one.policy == name] for name in (before, after)}
    pairs = list(zip(own[before], own[after], strict=True))
    assert all(one.prompt == other.prompt for one, other in pairs)
    clusters = [[one.prompt for one, _ in pairs]]

    def mean(values: list[float]) -> dict[str, Any]:
        return clustered_mean(values, clusters=clusters).to_json()

    return {
        "judge_before": mean([one.scores["judge"] for one, _ in pairs]),
        "judge": mean([other.scores["judge"] for _, other in pairs]),
        "judge_gain": mean([other.scores["judge"] - one.scores["judge"] for one, other in pairs]),
    }


def write_loop_report(loop: Loop) -> dict[str, Any]:
    """Write `report.html` and `report.json` in the loop's directory; what was found, for a table.

    Raises: RunError before round 0 is finished, or if the disk refuses.
    """
    found = findings_of(loop)
    page = loop.path / "report.html"
    write_report(page, _page(loop, found))
    write_json(loop.path / "report.json", found)
    return {
        **found,
        "rounds": [_shown_round(row) for row in found["rounds"]],
        "shown_ratings": [
            {"snapshot": one["model"], "Elo": said(one["elo"]), "wins": one["wins"],
             "losses": one["losses"]}
            for one in found["ratings"]["ratings"]
        ],
        "page": str(page),
    }  # fmt: skip


def _shown_round(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "round": row["round"],
        "labels": sum(row["labels"].values()),
        "trained_on": row["trained_on"],
        "judge": said(row["judge"]),
        "gain": said(row["judge_gain"]),
        "accuracy_newest": said(row["accuracy"]),
        "calibration_error": _calibration(row),
        "Elo": said(row["elo"]),
    }


def _calibration(row: Mapping[str, Any]) -> str:
    """A round's calibration error with its interval, on all that is held out."""
    value, interval = row.get("calibration_error"), row.get("calibration_interval")
    if value is None:
        return "nothing held out"
    return f"{value:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def said(estimate: Mapping[str, Any]) -> str:
    """A number with its interval, or why there is none."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return str(estimate["state"])
    digits = 0 if abs(value) >= 100 else 3
    text = f"{value:.{digits}f}"
    return text if low is None else f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def _page(loop: Loop, found: Mapping[str, Any]) -> Report:
    finished = found["rounds_finished"]
    last = Path(loop.journal.facts(finished, "compared")["run"])
    rows = [_shown_round(row) for row in found["rounds"]]
    facts = [
        Facts(
            title=f"Round {row['round']}",
            rows=tuple((name.replace("_", " "), str(value)) for name, value in row.items()),
        )
        for row in rows
    ]
    runs = [
        RunRecord.read(Path(loop.journal.facts(number, step)["run"]))
        for number in range(finished + 1)
        for step in ("preference", "policy")
    ]
    return Report(
        title=f"Online training: {loop.settings.name}",
        summary=tuple(summary_of(found)),
        figures=tuple(figures_of(loop, found)),
        facts=tuple(facts),
        samples=pick_samples(read_samples(last / SAMPLES), PROMPTS_SHOWN),
        notes=(
            "Elo is by the votes of labelers, clustered by labeler; a policy is rated once a later "
            "round has served it.",
            "The judge's gain is paired by prompt; every policy answers the same held-out prompts.",
        ),
        next_steps=(
            (
                "Which labels a policy comes from:",
                f"hark trace {loop.path}#{loop.snapshot(finished)}",
            ),
            ("The next round:", f"hark loop round {loop.path}"),
        ),
        runs=tuple(runs),
    )


def summary_of(found: Mapping[str, Any]) -> list[str]:
    """What was found, in sentences."""
    rounds = found["rounds"]
    labels = sum(sum(row["labels"].values()) for row in rounds)
    better = sum((row["judge_gain"]["low"] or 0) > 0 for row in rounds)
    sentences = [
        f"{found['rounds_finished']} rounds with {labels} labels after a start from known "
        f"comparisons; {found['ratings']['votes']} votes between snapshots.",
        f"By the judge, {better} of {len(rounds)} policies are better than the one before them "
        "(the interval of the paired difference is above zero).",
    ]
    sentences += [
        f"Round {row['round']}: {warning}." for row in rounds for warning in row.get("warnings", ())
    ]
    if found["experiment"] is not None:
        gain = found["experiment"]["judge_gain"]
        sentences.append(
            f"At equal numbers of pairs the mixture's policy is {said(gain)} ahead of the "
            "static tranche's, by the judge."
        )
    return sentences


def figures_of(loop: Loop, found: Mapping[str, Any]) -> list[Figure]:
    """Scores by tranche, accuracy, Elo and the judge's score by round."""
    rounds = found["rounds"]

    def line(key: str) -> list[tuple[float, Estimate]]:
        return [(row["round"], Estimate.from_json(row[key])) for row in rounds]

    judged = [(-1.0, Estimate.from_json(rounds[0]["judge_before"])), *line("judge")]
    start = next(
        one["elo"] for one in found["ratings"]["ratings"] if one["model"] == loop.snapshot(START)
    )
    figures = [
        score_histograms(scores_of(loop)),
        by_round(
            {"newest tranche": line("accuracy"), **_accuracies(found)},
            name="accuracy-by-round", title="Accuracy of each round’s preference model",
            y_label="held-out accuracy", percent=True,
            caption="Of comparisons that the model was not trained on, parted by request. Bai et "
            "al. (2022): 74, 70, 67 % on the base, rejection-sampled and online tests.",
        ),
        by_round(
            {"judge": judged}, name="judge-by-round", title="The judge’s score of each policy",
            y_label="judge’s score",
            caption="Mean over held-out prompts, with intervals clustered by prompt; round −1 is "
            "the policy that every round restarts from.",
        ),
    ]  # fmt: skip
    if found["ratings"]["votes"]:
        elo = [(-1.0, Estimate.from_json(start)), *line("elo")]
        figures.append(
            by_round(
                {"by votes": elo}, name="elo-by-round", title="Elo of each policy by votes",
                y_label="Elo",
                caption="The policy that rounds restart from (round −1) is at 1000. Policies that "
                "nobody has voted on are left out; intervals are clustered by labeler.",
            )
        )  # fmt: skip
    return figures


def _accuracies(found: Mapping[str, Any]) -> dict[str, list[tuple[float, Estimate]]]:
    """The accuracy on each tranche over rounds, where there is more than one."""
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for row in found["rounds"]:
        for tranche, accuracy in row["accuracy_by_tranche"].items():
            lines.setdefault(tranche, []).append((row["round"], Estimate.from_json(accuracy)))
    return {name: points for name, points in lines.items() if name == "static"}


def scores_of(loop: Loop) -> dict[str, list[float]]:
    """Tranche → what the newest preference model says of its replies."""
    run = Path(loop.journal.facts(loop.journal.rounds_finished, "measured")["run"])
    scores: dict[str, list[float]] = {}
    for line in (run / "data" / "scores.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            scores.setdefault(row["tranche"], []).append(row["score"])
    return scores
