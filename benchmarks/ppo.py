"""PPO on prompts of natural length with a critic of its own, beside the last TRL with PPO.

    python -m benchmarks.ppo [--inner-epochs 4] [--model SFT_RUN --data PROMPTS ...]

Responses are drawn with random numbers of each side's own, so lengths differ by chance. The check
gives the peer the episodes that hark has drawn: policy, reference, critic and preference model must
say the same of them. Where a reward lands and what is whitened differs by design (see
`hark.training.rollout`), so losses are not compared.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks import environments, sides
from benchmarks.contender import Contender, Repetition
from benchmarks.contest import Contest
from benchmarks.inputs import Inputs, scalar_model
from benchmarks.options import parser
from benchmarks.rounds import TOLERANCE, require_agreement
from benchmarks.table import Report
from hark.data.formats import write_prompts
from hark.data.records import Prompt
from hark.models import flops
from hark.models.scalar_head import load_scalar_model
from hark.runs.run import resolve_model


def _setting(rollout: int, per_pass: int, **others: Any) -> dict[str, Any]:
    return {"rollout": rollout, "per_pass": per_pass, **others}


SETTINGS: dict[str, dict[str, Any]] = {
    "64 drawn, 64 trained at once": _setting(64, 64),
    "64 drawn, 16 trained at once": _setting(64, 16),
    "64 drawn, 4 trained at once": _setting(64, 4),
    "16 drawn, 16 trained at once": _setting(16, 16),
    "64 drawn, 16 trained at once, autocast": _setting(64, 16, autocast=True, only="bfloat16"),
}
"""The peer's mixed precision is that of its updates alone; `autocast` is around all it does."""
TRIED = (
    "64 drawn, 16 trained at once", "64 drawn, 4 trained at once",
    "64 drawn, 16 trained at once, autocast",
)  # fmt: skip
KINDS = ("log π", "log π_ref", "mean values", "scores")


def main() -> None:
    options = parser(__doc__.splitlines()[0], settings=SETTINGS, tried=TRIED)
    options.add_argument("--preference-model", help="a run or directory; a random head without")
    options.add_argument("--inner-epochs", type=int, default=1)
    options.add_argument("--episodes", type=int, default=64, help="of a step, trained on together")
    options.add_argument("--steps", type=int, default=1, help="of one repetition")
    options.add_argument("--tokens", type=int, default=128, help="of a response, at most")
    asked = options.parse_args()
    work = sides.work_directory(asked, f"ppo-{asked.inner_epochs}")
    inputs = Inputs.of(asked)
    prompts = inputs.prompts(asked.steps * asked.episodes, room=asked.tokens)
    write_prompts(work / "prompts.jsonl", [Prompt(prompt=dialogue) for dialogue, _ in prompts])
    data = work / "tokens.jsonl"
    data.write_text("".join(json.dumps(tokens) + "\n" for _, tokens in prompts))
    judge = asked.preference_model or scalar_model(inputs, work / "preference-model")
    settings = {
        "model": str(inputs.directory), "preference_model": str(resolve_model(judge)),
        "prompts": str(work / "prompts.jsonl"), "tokens": str(data), "work": str(work),
        "seed": asked.seed, "batch_episodes": asked.episodes, "inner_epochs": asked.inner_epochs,
        "max_tokens": asked.tokens, "learning_rate": 3e-6,
    }  # fmt: skip
    policy = flops.Shape.of(inputs.model)
    scalar = flops.Shape.of(load_scalar_model(settings["preference_model"]))

    def useful(repetition: Repetition) -> int:
        return sum(
            flops.ppo_episodes(policy, scalar, each, inner_epochs=asked.inner_epochs)
            for each in repetition.sequences
        )

    with (
        sides.peer("trl_ppo", environments.TRL_WITH_PPO, settings, asked) as theirs,
        sides.hark("ppo", settings, asked) as ours,
    ):
        contest = Contest(
            ours=ours, theirs=theirs, settings={name: SETTINGS[name] for name in asked.settings},
            request=lambda trial: {}, useful=useful,
            check=lambda dtype, warm, trial: same_findings(dtype, ours, theirs, warm, trial),
        )  # fmt: skip
        results = contest.run(asked.dtypes, asked.repetitions)
    mean = sum(len(tokens) for _, tokens in prompts) / len(prompts)
    Report(
        workload=f"PPO, {asked.inner_epochs} inner epoch" + "s" * (asked.inner_epochs > 1),
        peer="TRL 1.12 PPOTrainer",
        unit="episodes",
        circumstances=sides.circumstances(
            inputs, asked, f"{asked.episodes} episodes a step in one minibatch, prompts of "
            f"{mean:.0f} tokens on average, responses of up to {asked.tokens}",
        ),
        results=results,
    ).publish(asked.append)  # fmt: skip


def same_findings(
    dtype: str, ours: Contender, theirs: Contender, warm: Repetition, trial: Repetition
) -> str:
    """What the four models say of the same episodes, and how long the sampled responses are."""
    mine = ours.repeat(dtype=dtype, check=True)
    count = len(mine.batches)
    other = theirs.repeat(dtype=dtype, episodes=mine.batches, rollout=count, per_pass=count)
    said = [
        require_agreement(
            kind, *(found.losses[start : start + count] for found in (mine, other)),
            tolerance=TOLERANCE[dtype],
        )
        for kind, start in zip(KINDS, range(0, 4 * count, count), strict=True)
    ]  # fmt: skip
    means = [
        sum(responses[0] for _, responses in one.sequences) / len(one.sequences)
        for one in (warm, trial)
    ]
    lengths = f"responses of {means[0]:.1f} and {means[1]:.1f} tokens on average"
    return "; ".join((*said, lengths))


if __name__ == "__main__":
    main()
