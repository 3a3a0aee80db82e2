"""Sampling responses to prompts of mixed length, beside transformers.

    python -m benchmarks.generation [--continuous] [--model SFT_RUN --data PROMPTS ...]

The peer is `generate` on batches sorted by length, or with `--continuous` its continuous batching.
Both sample at temperature 1 until a natural end; the rate is in new tokens, end tokens included.
Random numbers differ, so the check is on the most probable tokens of a few prompts.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks import sides
from benchmarks.contender import Contender, Repetition
from benchmarks.contest import Contest
from benchmarks.inputs import Inputs
from benchmarks.options import parser
from benchmarks.rounds import TOLERANCE, DisagreementError, require_agreement
from benchmarks.table import Report
from hark.models import flops
from hark.models.tokenizer import end_token_ids, padding_id

SETTINGS: dict[str, dict[str, Any]] = {
    "batches of 64": {"batch": 64},
    "batches of 128": {"batch": 128},
    "batches of 32": {"batch": 32},
    "continuous, 64 requests": {"requests": 64, "batch_tokens": 512},
    "continuous, 16 requests": {"requests": 16, "batch_tokens": 256},
}
TRIED = ("batches of 64",)
TRIED_CONTINUOUS = ("continuous, 64 requests", "continuous, 16 requests")
CHECKED, CHECKED_TOKENS = 16, 16
LEAST_ALIKE = {"float32": 0.9, "bfloat16": 0.5}
"""Least share of the checked prompts whose tokens are all the same: near ties may fall apart."""


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings=SETTINGS, tried=TRIED)
    options.add_argument("--continuous", action="store_true", help="the peer batches continuously")
    options.add_argument("--prompts", type=int, default=128, help="the goals are for 256")
    options.add_argument(
        "--tokens", type=int, default=128, help="new tokens of a response, at most"
    )
    options.add_argument("--rows", type=int, default=128, help="responses hark draws side by side")
    asked = options.parse_args()
    if asked.continuous and asked.settings == list(TRIED):
        asked.settings = list(TRIED_CONTINUOUS)
    kind = "continuous" if asked.continuous else "batches"
    work = sides.work_directory(asked, f"generation-{kind}")
    inputs = Inputs.of(asked)
    prompts = [tokens for _, tokens in inputs.prompts(asked.prompts, room=asked.tokens)]
    data = work / "prompts.jsonl"
    data.write_text("".join(json.dumps(tokens) + "\n" for tokens in prompts))
    settings = {
        "model": str(inputs.directory), "data": str(data), "work": str(work), "seed": asked.seed,
        "tokens": asked.tokens, "rows": asked.rows,
        "ends": list(end_token_ids(inputs.tokenizer)), "pad": padding_id(inputs.tokenizer),
    }  # fmt: skip
    shape = flops.Shape.of(inputs.model)

    def useful(repetition: Repetition) -> int:
        return sum(flops.generation(shape, each) for each in repetition.sequences)

    with (
        sides.peer("transformers_generation", (), settings, asked) as theirs,
        sides.hark("generation", settings, asked) as ours,
    ):
        contest = Contest(
            ours=ours, theirs=theirs, settings={name: SETTINGS[name] for name in asked.settings},
            request=lambda trial: {}, useful=useful,
            check=lambda dtype, warm, trial: same_tokens(
                dtype, ours, theirs, SETTINGS[asked.settings[0]], warm, trial
            ),
        )  # fmt: skip
        results = contest.run(asked.dtypes, asked.repetitions)
    lengths = [len(prompt) for prompt in prompts]
    beside = " beside continuous batching" if asked.continuous else ""
    Report(
        workload=f"Generation{beside}, {len(prompts)} prompts, up to {asked.tokens} new tokens",
        peer="transformers " + ("continuous batching" if asked.continuous else "generate"),
        unit="new tokens",
        circumstances=sides.circumstances(
            inputs, asked, f"prompts of {min(lengths)} to {max(lengths)} tokens, mean "
            f"{statistics.mean(lengths):.0f}; hark draws {asked.rows} rows side by side",
        ),
        results=results,
    ).publish(asked.append)  # fmt: skip


def same_tokens(
    dtype: str,
    ours: Contender,
    theirs: Contender,
    setting: dict[str, Any],
    warm: Repetition,
    trial: Repetition,
) -> str:
    """Both draw the same most probable tokens, and responses of like length when they sample."""
    request = {"dtype": dtype, "check": CHECKED, "tokens": CHECKED_TOKENS}
    mine, other = ours.repeat(**request), theirs.repeat(**request, **setting)
    alike = [i for i, drawn in enumerate(mine.batches) if drawn == other.batches[i]]
    share = len(alike) / len(mine.batches)
    if share < LEAST_ALIKE[dtype]:
        raise DisagreementError(f"only {share:.0%} of the most probable responses are the same")
    said = require_agreement(
        f"most probable tokens the same for {share:.0%} of {len(mine.batches)} prompts, with mean "
        "log-probabilities",
        [mine.losses[i] for i in alike], [other.losses[i] for i in alike],
        tolerance=TOLERANCE[dtype],
    )  # fmt: skip
    means = [one.amount / len(one.sequences) for one in (warm, trial)]
    return f"{said}; sampled responses of {means[0]:.1f} and {means[1]:.1f} tokens on average"


if __name__ == "__main__":
    main()
