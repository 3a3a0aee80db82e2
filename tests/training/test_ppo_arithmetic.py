"""The useful arithmetic of a PPO step, counted by hand."""

from __future__ import annotations

import pytest
import torch

from hark.data.records import ask
from hark.models.flops import Shape
from hark.runs.metrics import read_metrics
from hark.training.ppo_arithmetic import StepArithmetic
from hark.training.rollout import Episodes

POLICY = Shape(matrices=100, layers=2, attention_width=4, width=3, vocabulary=10)
SCORER = Shape(matrices=10, layers=1, attention_width=1, width=1, vocabulary=10)

EPISODES = Episodes(
    dialogues=(ask("a"),) * 2, prompts=((1, 2, 3),) * 2, prompt_of=(0, 0),
    responses=((4, 5), (6,)), texts=("", ""), is_complete=torch.ones(2, dtype=torch.bool),
    logprobs=torch.zeros(3),
)  # fmt: skip

# A prompt of 3 tokens, responses of 2 and 1, each token seeing itself and what is before it:
# 1 + 2 + 3 in the prompt, 4 + 5 and 4 after it, 19 in all.
TRUNK = 2 * 100 * 6 + 4 * 2 * 4 * 19
LOGITS = 2 * 3 * 10 * 3
# Drawn: nobody reads the last token of a response, so 3 + 1 tokens pass, seeing 6 + 4.
DRAWN = 2 * 100 * 4 + 4 * 2 * 4 * 10 + LOGITS
SCORED = 2 * 10 * 6 + 4 * 19


def arithmetic(critic: Shape | None, *scorers: Shape) -> StepArithmetic:
    return StepArithmetic(policy=POLICY, critic=critic, scorers=scorers)


def test_a_prompt_counts_once_for_all_its_responses() -> None:
    twice = Episodes(**{**vars(EPISODES), "prompt_of": (0, 1)})
    assert EPISODES.sequences == [(3, (2, 1))]
    assert twice.sequences == [(3, (2,)), (3, (1,))]


def test_a_step_with_a_critic_of_its_own(ppo_world) -> None:
    settings = ppo_world.settings(inner_epochs=2)
    # Draw, reference, values, two scorers; then policy and critic, forward and backward, twice.
    expected = DRAWN + (TRUNK + LOGITS) + TRUNK + 2 * SCORED + 2 * 3 * (2 * TRUNK + LOGITS)
    assert arithmetic(POLICY, SCORER, SCORER).of_step(EPISODES, settings) == expected


def test_a_step_with_a_shared_critic_and_no_model_that_scores(ppo_world) -> None:
    settings = ppo_world.settings(critic="shared")
    expected = DRAWN + (TRUNK + LOGITS) + TRUNK + 3 * (TRUNK + LOGITS)
    assert arithmetic(None).of_step(EPISODES, settings) == expected


def test_the_pretraining_mix_is_trained_on(ppo_world) -> None:
    given = {"pretraining_row_tokens": 4, "pretraining_rows_per_episode": 0.25}
    mixed = ppo_world.settings(pretraining_data=ppo_world.directory / "texts.jsonl", **given)
    # Two updates of 8 episodes with 2 rows of 4 tokens each: 1 + 2 + 3 + 4 seen, 3 predicted.
    row = 2 * 100 * 4 + 4 * 2 * 4 * 10 + 2 * 3 * 10 * 3
    plain = arithmetic(None).of_step(EPISODES, ppo_world.settings())
    assert arithmetic(None).of_step(EPISODES, mixed) == plain + 3 * 4 * row


def test_a_run_records_it_with_shares_of_every_phase(ppo_world) -> None:
    settings = ppo_world.settings(
        total_episodes=32,
        pretraining_data=ppo_world.directory / "texts.jsonl",
        pretraining_row_tokens=16,
        pretraining_rows_per_episode=0.25,
    )
    counted = []
    scorer = Shape.of(ppo_world.state(settings).critic)
    with pytest.MonkeyPatch.context() as patch:
        real = StepArithmetic.of_step

        def counting(self: StepArithmetic, *arguments: object) -> int:
            assert self.scorers == (scorer,)
            assert self.policy.vocabulary == 258
            counted.append(real(self, *arguments))
            return counted[-1]

        patch.setattr(StepArithmetic, "of_step", counting)
        run, _ = ppo_world.train(
            settings, scorers=[scorer], evaluate=lambda model, step: {"evaluated_step": step}
        )
    records = read_metrics(run.path / "timing.jsonl")
    assert len(records) == len(counted) == 2
    for record, useful in zip(records, counted, strict=True):
        shares = {name: value for name, value in record.items() if name.endswith("_share")}
        assert set(shares) == {
            f"{phase}_share"
            for phase in ("data", "generate", "score", "reference", "value", "pretraining",
                          "update", "evaluation", "checkpoint", "other")
        }  # fmt: skip
        assert sum(shares.values()) == pytest.approx(1.0)
        assert min(shares.values()) > 0
        seconds = record["step_seconds"]
        seconds -= record["evaluation_seconds"] + record["checkpoint_seconds"]
        assert record["useful_flops_per_second"] * seconds == pytest.approx(useful)
