import pytest
import torch

from hark.models.checkpoint import load_state
from hark.models.logprobs import token_losses
from hark.training.ppo import advantages_and_returns, ppo_step
from hark.training.ppo_episodes import encode_prompts, judge, prompts_of_step, sample
from hark.training.ppo_passes import (
    behaviour_logprobs,
    minibatches,
    reference_logprobs,
    token_values_of,
)
from hark.training.ppo_state import update_average
from hark.training.ppo_update import (
    UpdateReport,
    add_pretraining_gradients,
    add_rollout_gradients,
    update_from,
)
from hark.training.rewards import token_rewards
from hark.training.rollout import Rollout, sums_per_response


@pytest.fixture
def roll_out(ppo_world):
    """The models at the start of a run, its first rollout and that rollout's first epoch."""

    def make(settings, score=None):
        state = ppo_world.state(settings)
        encoded = encode_prompts(ppo_world.prompts, state.tokenizer, settings, context=48)
        episodes = sample(state, prompts_of_step(encoded.prompts, settings, 0), settings)
        raw, scores = judge(state, episodes, score or ppo_world.letters, settings)
        epoch = minibatches(episodes, state.readers, settings, step=0, epoch=0)
        old = behaviour_logprobs(state, episodes, epoch, settings)
        reference = reference_logprobs(state, epoch, settings)
        values = token_values_of(state, epoch, settings)
        rewards = token_rewards(scores, old, reference, episodes.lengths, kl_coefficient=0.0)
        advantages, returns = advantages_and_returns(rewards, values, episodes.lengths, settings)
        rollout = Rollout(
            episodes=episodes,
            raw_scores=raw,
            scores=scores,
            behaviour_logprobs=old,
            reference_logprobs=reference,
            values=values,
            rewards=rewards,
            advantages=advantages,
            returns=returns,
        )
        return state, rollout, epoch

    return make


def gradients(model):
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


def test_the_first_ratio_is_one(ppo_world, roll_out):
    # Sampling decodes from a cache and rounds differently: about 1. Recomputed: exactly 1, for the
    # same tokens go through the same model in the same rows.
    for recompute in (False, True):
        settings = ppo_world.settings(
            recompute_behaviour_logprobs=recompute, temperature=0.7, micro_batch_tokens=64
        )
        state, rollout, epoch = roll_out(settings)
        report = update_from(state, rollout, epoch, settings, None)
        assert report.updates == 2
        assert report.first_ratio_error < 1e-5
        assert (report.first_ratio_error == 0.0) or not recompute
        # The second minibatch meets a policy that has moved.
        assert report.means()["update_kl"] > 0


def test_reference_equals_policy_at_the_start_at_any_temperature(ppo_world, roll_out):
    for temperature in (1.0, 0.5):
        settings = ppo_world.settings(temperature=temperature)
        _, rollout, _ = roll_out(settings)
        torch.testing.assert_close(
            rollout.behaviour_logprobs, rollout.reference_logprobs, atol=1e-5, rtol=0
        )


def test_pretraining_gradient_adds_to_the_rollouts(ppo_world, roll_out):
    settings = ppo_world.settings(
        pretraining_data=ppo_world.directory / "texts.jsonl",
        pretraining_coefficient=3.0,
        micro_batch_tokens=64,
    )
    state, rollout, epoch = roll_out(settings)
    rows = torch.randint(3, 250, (6, 16), generator=torch.Generator().manual_seed(0))

    add_rollout_gradients(state, rollout, epoch[0], settings, UpdateReport())
    of_rollout = gradients(state.policy)
    state.policy.zero_grad()
    add_pretraining_gradients(state, rows, settings, UpdateReport())
    of_text = gradients(state.policy)
    state.policy.zero_grad()
    (3.0 * token_losses(state.policy, rows).mean()).backward()
    by_definition = gradients(state.policy)
    state.policy.zero_grad()
    add_rollout_gradients(state, rollout, epoch[0], settings, UpdateReport())
    add_pretraining_gradients(state, rows, settings, UpdateReport())

    for name, total in gradients(state.policy).items():
        torch.testing.assert_close(of_text[name], by_definition[name], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(total, of_rollout[name] + of_text[name], atol=1e-6, rtol=1e-4)
    assert any(gradient.abs().max() > 1e-3 for gradient in of_text.values())
    assert any(gradient.abs().max() > 1e-3 for gradient in of_rollout.values())


def test_passes_of_any_size_give_the_gradient_of_the_whole_minibatch(ppo_world, roll_out):
    found = []
    for tokens in (10_000, 40):
        settings = ppo_world.settings(micro_batch_tokens=tokens)
        state, rollout, epoch = roll_out(settings)
        add_rollout_gradients(state, rollout, epoch[0], settings, UpdateReport())
        found.append((len(epoch[0].passes), gradients(state.policy), gradients(state.critic)))
    (one, policy, critic), (many, policy_in_parts, critic_in_parts) = found
    assert one == 1
    assert many > 2
    for whole, parts in ((policy, policy_in_parts), (critic, critic_in_parts)):
        for name in whole:
            torch.testing.assert_close(whole[name], parts[name], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("critic", ["preference_model", "shared"])
def test_an_update_makes_well_scored_responses_more_likely(ppo_world, roll_out, critic):
    settings = ppo_world.settings(
        critic=critic,
        minibatch_episodes=16,
        incomplete_responses="keep",
        optimizer={"learning_rate": 3e-4, "warmup_steps": 0},
    )

    def alternating(dialogues):
        return torch.tensor([1.0, -1.0]).repeat(len(dialogues) // 2)

    state, rollout, epoch = roll_out(settings, alternating)
    update_from(state, rollout, epoch, settings, None)
    after = behaviour_logprobs(
        state,
        rollout.episodes,
        epoch,
        settings.model_copy(update={"recompute_behaviour_logprobs": True}),
    )
    change = sums_per_response(after - rollout.behaviour_logprobs, rollout.lengths)
    assert change[0::2].mean() > 0.01
    assert change[1::2].mean() < -0.01


def test_values_move_towards_the_returns(ppo_world, roll_out):
    settings = ppo_world.settings(minibatch_episodes=16, value_learning_rate=1e-4)
    state, rollout, epoch = roll_out(settings)
    update_from(state, rollout, epoch, settings, None)
    before = (rollout.values - rollout.returns).square().mean()
    after = (token_values_of(state, epoch, settings) - rollout.returns).square().mean()
    assert after < before


def test_values_are_clipped_as_the_settings_say(ppo_world, roll_out):
    found = {}
    for clip_range in (None, 0.2):
        settings = ppo_world.settings(value_clip_range=clip_range)
        state, rollout, epoch = roll_out(settings)
        # Every value is now one higher than when the rollout was made.
        state.critic.config.reward_bias = 1.0
        report = UpdateReport()
        add_rollout_gradients(state, rollout, epoch[0], settings, report)
        places = torch.cat([one.places for one in epoch[0].passes])
        old, returns = rollout.values[places], rollout.returns[places]
        squares = [(old + 1 - returns) ** 2, (old + (clip_range or 1) - returns) ** 2]
        expected = 0.5 * torch.maximum(*squares).mean()
        found[clip_range] = report.means()["value_loss"]
        assert found[clip_range] == pytest.approx(float(expected), rel=1e-4)
    assert found[None] < found[0.2]


def test_advantages_follow_the_settings(ppo_world):
    # Responses of 1 and 1 token, rewards 1 and 3, values 0 and 1: A = 1, 2; R = 1, 3.
    rewards, values = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    lengths = torch.tensor([1, 1])

    def advantages(**given):
        found = advantages_and_returns(rewards, values, lengths, ppo_world.settings(**given))
        return [tensor.tolist() for tensor in found]

    plain = {"whiten_advantages": False}
    assert advantages(**plain) == [[1.0, 2.0], [1.0, 3.0]]
    # A: mean 1.5, deviation ½; returns stay.
    assert advantages() == [pytest.approx([-1.0, 1.0]), [1.0, 3.0]]
    # Rewards 1 3 have mean 2 and deviation 1: whitened about their mean they stay as they are;
    # 2 6 with mean 4 and deviation 2 become 3 5.
    assert advantages(**plain, whiten_rewards=True)[1] == pytest.approx([1.0, 3.0])
    rewards = 2 * rewards
    assert advantages(**plain, whiten_rewards=True)[1] == pytest.approx([3.0, 5.0])
    # One response of two tokens, γ = ½, λ = 0: A = 2 + ½·1 − 0, 6 − 1.
    lengths = torch.tensor([2])
    assert advantages(**plain, discount=0.5, gae_lambda=0.0)[0] == [2.5, 5.0]


def test_a_shared_critic_starts_at_zero_and_sends_its_gradient_through_the_trunk(
    ppo_world, roll_out
):
    settings = ppo_world.settings(critic="shared", value_coefficient=1.0)
    state, rollout, epoch = roll_out(settings)
    assert (rollout.values == 0).all()
    assert state.critic.model is state.policy.model
    assert state.value_optimizer is None
    with torch.no_grad():
        state.critic.score.weight.fill_(0.1)
    # Without advantages only the value loss speaks.
    silent = Rollout(
        **{name: getattr(rollout, name) for name in rollout.__dataclass_fields__}
        | {"advantages": torch.zeros_like(rollout.advantages)}
    )
    add_rollout_gradients(state, silent, epoch[0], settings, UpdateReport())
    found = gradients(state.policy)
    assert found["model.layers.0.mlp.up_proj.weight"].abs().max() > 0
    assert state.critic.score.weight.grad.abs().max() > 0


def test_the_reference_and_the_average_take_no_gradient(ppo_world, roll_out):
    settings = ppo_world.settings()
    state, rollout, epoch = roll_out(settings)
    before = {name: p.clone() for name, p in state.reference.named_parameters()}
    update_from(state, rollout, epoch, settings, None)
    for name, parameter in state.reference.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None
    assert not any(parameter.requires_grad for parameter in state.average.parameters())


def test_the_moving_average_of_one_update(ppo_world):
    # θ̄ ← 0.992·θ̄ + 0.008·θ: from 1 with θ = 2 to 1.008.
    state = ppo_world.state(ppo_world.settings())
    with torch.no_grad():
        for mean, parameter in zip(
            state.average.parameters(), state.policy.parameters(), strict=True
        ):
            mean.fill_(1.0)
            parameter.fill_(2.0)
    update_average(state.average, state.policy, decay=0.992)
    for mean in state.average.parameters():
        torch.testing.assert_close(mean, torch.full_like(mean, 1.008))


def test_dropout_is_off_and_stays_off(ppo_world, roll_out):
    state, _, _ = roll_out(ppo_world.settings())
    assert [m.training for m in (state.policy, state.critic, state.reference)] == [False] * 3


def test_learning_rates_follow_the_ppo_step(ppo_world):
    settings = ppo_world.settings(
        optimizer={"learning_rate": 1e-3, "warmup_steps": 2}, inner_epochs=2
    )
    state = ppo_world.state(settings)
    encoded = encode_prompts(ppo_world.prompts, state.tokenizer, settings, context=48)
    rates = []
    for step in range(4):
        prompts = prompts_of_step(encoded.prompts, settings, step)
        _, metrics = ppo_step(state, prompts, ppo_world.letters, settings)
        rates.append(metrics["learning_rate"])
    # A tenth at first, then halfway, then the peak: all updates of a step alike.
    assert rates == pytest.approx([1e-4, 5.5e-4, 1e-3, 1e-3])
    assert state.value_optimizer.param_groups[0]["lr"] == pytest.approx(9e-6)


def test_a_checkpoint_keeps_the_coefficient_and_both_optimizers(ppo_world):
    settings = ppo_world.settings(kl_target=1e-9, kl_horizon=100.0)
    run, _ = ppo_world.train(settings)
    saved = load_state(run.checkpoint_path(4))
    assert saved.step == 4
    assert saved.scalars["kl_coefficient"] != settings.kl_coefficient
    assert any(name.startswith("policy.") for name in saved.tensors)
    assert any(name.startswith("value.") for name in saved.tensors)
