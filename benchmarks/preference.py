"""Preference models from pairs, or from rankings of K, beside TRL's `RewardTrainer`.

    python -m benchmarks.preference [--rankings] [--model SFT_RUN --data COMPARISONS ...]

Both train the same scalar model on the same comparisons in the same order. A ranking of nine is one
comparison to hark and 36 pairs to the peer; the mean of their losses is the same.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import environments, sides
from benchmarks.contender import Repetition
from benchmarks.contest import Contest
from benchmarks.inputs import Inputs, scalar_model
from benchmarks.options import parser
from benchmarks.rounds import TOLERANCE, require_agreement
from benchmarks.table import Report
from hark.models.flops import Shape, training, trunk
from hark.models.packing import PromptTree
from hark.models.scalar_head import load_scalar_model


def _passes(pairs: int, *, by_length: bool) -> dict[str, Any]:
    return {"pairs_per_pass": pairs, "by_length": by_length}


SETTINGS: dict[str, dict[str, Any]] = {
    "all at once": _passes(0, by_length=False),
    "4 at once": _passes(4, by_length=False),
    "4 at once, by length": _passes(4, by_length=True),
    "2 at once, by length": _passes(2, by_length=True),
    "1 at once": _passes(1, by_length=False),
}
"""How many of a step's pairs go through the model together, gradients being accumulated, and
whether those of like length do: the less of them, the less padding."""
TRIED = ("all at once", "4 at once, by length", "1 at once")


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings=SETTINGS, tried=TRIED)
    options.add_argument("--rankings", action="store_true", help="of K responses, not pairs")
    options.add_argument("--responses", type=int, default=9, help="K, of a ranking")
    options.add_argument("--batch-size", type=int, help="comparisons a step (16 pairs, 1 ranking)")
    options.add_argument("--steps", type=int, help="of one repetition (2, and 1 for rankings)")
    asked = options.parse_args()
    steps = asked.steps or (1 if asked.rankings else 2)
    size = asked.batch_size or (1 if asked.rankings else 16)
    responses = asked.responses if asked.rankings else 2
    pairs_per_unit = responses * (responses - 1) // 2
    unit = "rankings" if asked.rankings else "pairs"

    work = sides.work_directory(asked, f"preference-{unit}")
    inputs = Inputs.of(asked)
    trees = inputs.comparisons(steps * size, responses=responses)
    model = scalar_model(inputs, work / "model")
    settings = {
        "model": str(model), "work": str(work), "seed": asked.seed, "learning_rate": 1e-5,
        "data": _write(work / "pairs.jsonl", _pairs(trees)),
        "trees": _write(work / "trees.jsonl", _rows(trees)),
        "steps": steps, "comparisons_per_step": size, "pairs_per_step": size * pairs_per_unit,
        "pairs_per_unit": pairs_per_unit,
    }  # fmt: skip
    shape = Shape.of(load_scalar_model(model))
    lengths = [(len(tree.prompt), tuple(map(len, tree.responses))) for tree in trees]
    work_of_all = sum(training(trunk(shape, each)) for each in lengths)

    with (
        sides.peer("trl_preference", environments.TRL, settings, asked) as theirs,
        sides.hark("preference", settings, asked) as ours,
    ):
        contest = Contest(
            ours=ours, theirs=theirs, settings=_settings(asked.settings, size * pairs_per_unit),
            request=lambda trial: {}, useful=lambda repetition: work_of_all, check=first_losses,
        )  # fmt: skip
        results = contest.run(asked.dtypes, asked.repetitions)
    prompt = sum(len(tree.prompt) for tree in trees) / len(trees)
    Report(
        workload=f"Preference model, {unit}" + (f" of K = {responses}" if asked.rankings else ""),
        peer="TRL 1.16 RewardTrainer"
        + (f" on {pairs_per_unit} pairs each" if asked.rankings else ""),
        unit=unit,
        circumstances=sides.circumstances(
            inputs, asked, f"{size} {unit} a step, prompts of {prompt:.0f} tokens on average"
        ),
        results=results,
    ).publish(asked.append)


def first_losses(dtype: str, ours: Repetition, theirs: Repetition) -> str:
    """The mean loss of the pairs of the first step, from the same weights."""
    return require_agreement(
        "loss of the first step", ours.losses[:1], theirs.losses[:1], tolerance=TOLERANCE[dtype]
    )


def _settings(names: Sequence[str], pairs_per_step: int) -> dict[str, dict[str, Any]]:
    """The peer's settings, with the number of pairs that "all at once" stands for."""
    chosen = {name: SETTINGS[name] for name in names}
    return {
        name: {**setting, "pairs_per_pass": setting["pairs_per_pass"] or pairs_per_step}
        for name, setting in chosen.items()
    }


def _rows(trees: Sequence[PromptTree]) -> list[dict[str, Any]]:
    return [{"prompt": tree.prompt, "responses": tree.responses} for tree in trees]


def _pairs(trees: Sequence[PromptTree]) -> list[dict[str, Any]]:
    """Each response beside each that ranks below it, prompts repeated."""
    return [
        {"chosen_ids": tree.prompt + better, "rejected_ids": tree.prompt + worse}
        for tree in trees
        for better, worse in itertools.combinations(tree.responses, 2)
    ]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


if __name__ == "__main__":
    main()
