"""Context distillation (Askell et al., 2112.00861; HH), over seeds.

Each run is one of `hark distill` with held-out text. One claim: the model without the context comes
to behave as the prompted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hark.errors import RunError
from hark.loop.studies.seeds import mean_over_seeds
from hark.report.drawing import DASHES, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

LEAST_CLOSED = 0.7
"""The share of the gap that a small model should close."""


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """The share of KL(prompted ‖ without the context) that distillation has closed.

    Raises: RunError if a run has measured no gap.
    """
    if unmeasured := [run.path for run in runs if "gap_closed" not in run.results]:
        raise RunError(f"'{unmeasured[0]}' measured no gap: distil with evaluation_data")
    _draw(runs, directory / "distillation.png")
    closed = mean_over_seeds([run.results["gap_closed"] for run in runs])
    before = runs[0].results["gap_before"]
    return [
        Effect(
            name="Context distillation closes the gap to the prompted model",
            paper="General Language Assistant, 2112.00861; HH, 2204.05862",
            claim="A model fine-tuned on the prompted model's predictions behaves about as it does "
            "with the prompt.",
            setting=f"{len(runs)} students of the quickstart's base model; a context of "
            f"{runs[0].results['context_tokens']} tokens, {runs[0].results['text_tokens']} tokens "
            f"of text and {runs[0].results['answer_tokens']} of answers, 50 classes and the rest; "
            "seeds vary the order of data and sampling, world and base are one",
            data="playground",
            measured="share of KL(prompted ‖ without the context) on held-out text that is closed "
            f"(it was {before:.3f} nats a token before, over the whole vocabulary)",
            seeds=len(runs),
            figure="distillation.png",
            **judged(closed, above=LEAST_CLOSED),
        )
    ]


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
