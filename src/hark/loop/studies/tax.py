"""The alignment tax (HH, 2204.05862; InstructGPT, 2203.02155, section 4.2).

Each run is one of `hark compare` with held-out text and multiple-choice questions, its policies
named base, SFT, distilled, PPO and PPO-ptx; those that are not there are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from hark.evaluation.intervals import Estimate
from hark.evaluation.policies import PolicyEvaluation
from hark.loop.studies.seeds import SHARED_START, mean_over_seeds
from hark.loop.studies.trainings import source_of
from hark.report.drawing import DASHES, canvas, colour, save
from hark.report.effects import Effect, judged
from hark.report.run_record import RunRecord

SMALL = 0.1
"""Nats a token: a tax below it counts as small."""

Table = dict[str, PolicyEvaluation]
Read = Callable[[PolicyEvaluation], Estimate | None]


def analyse(runs: Sequence[RunRecord], directory: Path) -> list[Effect]:
    """What each policy lost of language and knowledge, against the policy that the claim names."""
    tables = [table_of(run) for run in runs]
    _draw(tables, directory / "alignment-tax.png")
    shared: dict[str, Any] = {
        "data": source_of(runs[0].settings["data"]), "seeds": len(tables),
        "figure": "alignment-tax.png",
        "setting": f"{len(tables)} seeds of each training on one base model; loss on held-out text "
        f"and {_questions(tables[0])} questions, answered by the likeliest option; {SHARED_START}",
    }  # fmt: skip
    found = (
        (
            "PPO raises the loss on plain text", "InstructGPT, 2203.02155, section 4.2",
            "Optimising preference alone costs performance on language tasks.",
            _between(tables, "PPO", "SFT", _loss), 0.0, inf,
        ),
        (
            "Mixing pretraining in lowers that cost", "InstructGPT, 2203.02155, section 4.2",
            "PPO-ptx mitigates the regressions that PPO causes.",
            _between(tables, "PPO-ptx", "PPO", _loss), -inf, 0.0,
        ),
        (
            "RLHF lowers a small model's answers to questions", "HH, 2204.05862, alignment tax",
            "Small models lose performance on zero-shot suites through RLHF; 13B and 52B gain.",
            _between(tables, "PPO", "SFT", _choices), -inf, 0.0,
        ),
        (
            "Context distillation costs little on plain text",
            "General Language Assistant, 2112.00861",
            "Distilling the context costs little, and the smallest models most.",
            _between(tables, "distilled", "base", _loss), -inf, SMALL,
        ),
    )  # fmt: skip
    return [
        Effect(
            name=name, paper=paper, claim=claim,
            measured=f"{'accuracy' if 'questions' in name else 'nats a token'}, {who}",
            **judged(estimate, above=low, below=high),
            **shared,
        )
        for name, paper, claim, (who, estimate), low, high in found
        if estimate.value is not None
    ]  # fmt: skip


def table_of(run: RunRecord) -> Table:
    """The policies of a comparison by name."""
    rows = [PolicyEvaluation.from_json(values) for values in run.results["policies"]]
    return {row.name: row for row in rows}


def difference(tables: Sequence[Table], policy: str, reference: str, read: Read) -> Estimate:
    """Mean over seeds of how much higher a policy's number is than another's."""
    pairs = [
        (read(table[policy]), read(table[reference]))
        for table in tables
        if policy in table and reference in table
    ]
    return mean_over_seeds(
        [
            own.value - other.value
            for own, other in pairs
            if own and other and own.value is not None and other.value is not None
        ]
    )


def _between(
    tables: Sequence[Table], policy: str, reference: str, read: Read
) -> tuple[str, Estimate]:
    """Who is compared, in words, and by how much they differ."""
    return f"{policy} less {reference}", difference(tables, policy, reference, read)


def _questions(table: Table) -> str:
    asked = [row.multiple_choice.n for row in table.values() if row.multiple_choice]
    return f"{asked[0]:,}" if asked else "no"


def _loss(row: PolicyEvaluation) -> Estimate | None:
    return row.language_loss


def _choices(row: PolicyEvaluation) -> Estimate | None:
    return row.multiple_choice


def _draw(tables: Sequence[Table], path: Path) -> None:
    names = [name for name, row in tables[0].items() if row.language_loss is not None]
    with canvas(height_inches=4.8) as drawing:
        losses, choices = drawing.subplots(2, 1, sharex=True)
        for axes, read in ((losses, _loss), (choices, _choices)):
            for number, table in enumerate(tables):
                values = [read(table[name]) if name in table else None for name in names]
                axes.plot(
                    names, [each.value if each and each.value is not None else float("nan")
                            for each in values],
                    marker="o", markersize=4, color=colour(number), linewidth=0.8,
                    linestyle=DASHES[number % len(DASHES)], label=f"run {number + 1}",
                )  # fmt: skip
        losses.set_ylabel("loss on text\n(nats a token)")
        choices.set_ylabel("questions\nanswered right")
        losses.legend()
        save(drawing, path)
