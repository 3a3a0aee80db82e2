"""Context distillation (Askell et al., 2112.00861; HH), over seeds.

Each run is one of `hark distill` with held-out text: the model without the context comes to behave
as the prompted one. With runs of `hark compare` beside them, whose policies are named "distilled"
and "PPO from distilled", also that reinforcement learning may start there, as in HH.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hark.errors import RunError
from hark.evaluation.policies import PolicyEvaluation
from hark.loop.studies.seeds import mean_over_seeds
from hark.loop.studies.trainings import source_of
from hark.report.drawing import DASHES, canvas, colour, save
from hark.report.effects import Effect, judged, number
from hark.report.run_record import RunRecord

LEAST_CLOSED = 0.7
"""The share of the gap that a small model should close."""
START, TRAINED = "distilled", "PPO from distilled"
"""How a comparison names the distilled model and what was trained from it."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """The share of KL(prompted ‖ without the context) that distillation closed; what RL adds.

    Raises: RunError if no run is of hark distill, if one has measured no gap, or a comparison has
    no gold grades of the two policies.
    """
    comparisons = [run for run in runs if run.manifest.stage == "compare"]
    distilled = [run for run in runs if run.manifest.stage == "distill"]
    if not distilled:
        raise RunError("none of the runs is of hark distill; name those that are studied")
    if unmeasured := [run.path for run in distilled if "gap_closed" not in run.results]:
        raise RunError(f"'{unmeasured[0]}' measured no gap: distil with evaluation_data")
    effects = [_closing(distilled, directory)]
    return [*effects, _start_of_training(comparisons, directory)] if comparisons else effects


def _closing(runs: Sequence[RunRecord], directory: Path) -> Effect:
    _draw(runs, directory / "distillation.png")
    closed = mean_over_seeds([run.results["gap_closed"] for run in runs])
    before = runs[0].results["gap_before"]
    return Effect(
        name="Context distillation closes the gap to the prompted model",
        paper="General Language Assistant, 2112.00861; HH, 2204.05862",
        claim="A model fine-tuned on the prompted model's predictions behaves about as it does "
        "with the prompt.",
        setting=f"{len(runs)} students of one base model; a context of "
        f"{runs[0].results['context_tokens']} tokens, {runs[0].results['text_tokens']} tokens "
        f"of text and {runs[0].results['answer_tokens']} of answers, "
        f"{runs[0].settings['classes']} classes and the rest; "
        "seeds vary the order of data and sampling, world and base are one",
        data=source_of(runs[0].settings["data"]),
        measured="share of KL(prompted ‖ without the context) on held-out text that is closed "
        f"(it was {before:.3f} nats a token before, over the whole vocabulary)",
        seeds=len(runs), figure="distillation.png",
        **judged(closed, above=LEAST_CLOSED),
    )  # fmt: skip


def _start_of_training(runs: Sequence[RunRecord], directory: Path) -> Effect:
    """What reinforcement learning from the distilled model gains over it."""
    grades = [_grades(run) for run in runs]
    gain = mean_over_seeds([trained - start for start, trained in grades])
    start, trained = (mean_over_seeds([*each]) for each in zip(*grades, strict=True))
    with canvas() as drawing:
        axes = drawing.subplots()
        for place, (run, pair) in enumerate(zip(runs, grades, strict=True)):
            axes.plot(
                [START, TRAINED], pair, color=colour(place), marker="o", markersize=4,
                linestyle=DASHES[place % len(DASHES)], label=f"seed {run.manifest.seed}",
            )  # fmt: skip
        axes.set_ylabel("gold grade")
        axes.legend()
        save(drawing, directory / "from-distilled.png")
    return Effect(
        name="Reinforcement learning improves the distilled model", paper="HH, 2204.05862",
        claim="RLHF starts from the context-distilled model, which it improves.",
        setting=f"{len(runs)} trainings by PPO, each from a distilled model of its own that has "
        "seen no demonstrations",
        data=source_of(runs[0].settings["data"]),
        measured="gold grade after training less that of the distilled model",
        seeds=len(runs), figure="from-distilled.png",
        **judged(gain, above=0.0, further=f"From {number(start)} to {number(trained)}."),
    )  # fmt: skip


def _grades(run: RunRecord) -> tuple[float, float]:
    rows = map(PolicyEvaluation.from_json, run.results["policies"])
    found = {row.name: row.grade for row in rows}
    start, trained = found.get(START), found.get(TRAINED)
    if start is None or trained is None:
        raise RunError(
            f"'{run.path}' has no gold grades of policies '{START}' and '{TRAINED}'; compare both "
            "with judge playground"
        )
    return start, trained


def _draw(runs: Sequence[RunRecord], path: Path) -> None:
    with canvas() as drawing:
        axes = drawing.subplots()
        for number, run in enumerate(runs):
            steps, values = run.series("evaluation_loss")
            style = DASHES[number % len(DASHES)]
            axes.plot(
                steps, values, color=colour(number), linestyle=style, marker="o", markersize=3,
                label=f"seed {run.manifest.seed}",
            )  # fmt: skip
        axes.set(xlabel="training step", ylabel="KL on held-out text (nats a token)")
        axes.set_ylim(bottom=0)
        axes.legend()
        save(drawing, path)
