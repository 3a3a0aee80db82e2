"""SFT on dialogues of natural length, context 512, beside TRL's `SFTTrainer`.

    python -m benchmarks.sft [--model SFT_RUN --data DEMONSTRATIONS ...]

The peer packs and batches as it likes; hark is given the same demonstrations step by step, so that
the loss of every step is the same up to rounding. Tokens are those of prompts and responses.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks import environments, sides
from benchmarks.contender import Repetition
from benchmarks.contest import Contest
from benchmarks.inputs import Inputs
from benchmarks.options import parser
from benchmarks.rounds import TOLERANCE, require_agreement
from benchmarks.table import Report
from hark.models.flops import Shape, language_model, training


def _arguments(batch: int, accumulated: int, **others: Any) -> dict[str, Any]:
    arguments = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    return {"arguments": arguments | others}


SETTINGS: dict[str, dict[str, Any]] = {
    "packed 16×512 at once": _arguments(16, 1, packing=True),
    "packed 4×512": _arguments(4, 4, packing=True),
    "packed 1×512": _arguments(1, 16, packing=True),
    "padded by length 16": _arguments(16, 3, train_sampling_strategy="group_by_length"),
    "padded by length 4": _arguments(4, 12, train_sampling_strategy="group_by_length"),
}
"""Steps of 16 packed rows, or of 48 padded demonstrations. Packed rows of one pass are laid in one
row with a mask as large as its square, so that fewer rows a pass cost less."""
TRIED = ("packed 1×512", "packed 4×512", "padded by length 4")


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings=SETTINGS, tried=TRIED)
    options.add_argument("--demonstrations", type=int, default=400, help="to draw batches from")
    options.add_argument("--steps", type=int, default=1, help="of one repetition")
    asked = options.parse_args()
    work = sides.work_directory(asked, "sft")
    inputs = Inputs.of(asked)
    trees = inputs.demonstrations(asked.demonstrations)
    rows = ({"prompt": list(tree.prompt), "response": list(tree.responses[0])} for tree in trees)
    data = work / "demonstrations.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": str(inputs.directory), "data": str(data), "work": str(work),
        "context": inputs.context, "steps": asked.steps, "seed": asked.seed, "learning_rate": 1e-5,
    }  # fmt: skip
    shape = Shape.of(inputs.model)

    def useful(repetition: Repetition) -> int:
        taken = (trees[place] for batch in repetition.batches for place in batch)
        lengths = ((len(tree.prompt), (len(tree.responses[0]),)) for tree in taken)
        return sum(training(language_model(shape, each)) for each in lengths)

    with (
        sides.peer("trl_sft", environments.TRL, settings, asked) as theirs,
        sides.hark("sft", settings, asked) as ours,
    ):
        contest = Contest(
            ours=ours, theirs=theirs, settings={name: SETTINGS[name] for name in asked.settings},
            request=lambda trial: {"batches": trial.batches}, useful=useful, check=first_losses,
        )  # fmt: skip
        results = contest.run(asked.dtypes, asked.repetitions)
    mean = sum(tree.tokens for tree in trees) / len(trees)
    Report(
        workload=f"SFT, dialogues of natural length, context {inputs.context}",
        peer="TRL 1.16 SFTTrainer",
        unit="tokens",
        circumstances=sides.circumstances(
            inputs, asked, f"demonstrations of {mean:.0f} tokens on average"
        ),
        results=results,
    ).publish(asked.append)


def first_losses(dtype: str, ours: Repetition, theirs: Repetition) -> str:
    """The loss of the first batch, from the same weights."""
    return require_agreement(
        "loss of the first batch", ours.losses[:1], theirs.losses[:1], tolerance=TOLERANCE[dtype]
    )


if __name__ == "__main__":
    main()
