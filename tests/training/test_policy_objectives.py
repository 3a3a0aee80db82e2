import pytest
import torch

from hark.training.policy_objectives import (
    explained_variance,
    is_clipped,
    policy_losses,
    probability_ratio,
    value_losses,
)


def test_policy_loss_clips_where_that_is_the_worse_promise():
    # ε = 0.2; loss = max(−Aρ, −A clip(ρ)):
    # ρ 1.5, A +1: max(−1.5, −1.2) = −1.2 clipped;   ρ 1.5, A −1: max(1.5, 1.2) = 1.5
    # ρ 0.5, A +1: max(−0.5, −0.8) = −0.5;           ρ 0.5, A −1: max(0.5, 0.8) = 0.8 clipped
    # ρ 1.1, A +1: −1.1 inside the range
    logprobs = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]).log().requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    losses = policy_losses(logprobs, torch.zeros(5), advantages, clip_range=0.2)
    torch.testing.assert_close(losses, torch.tensor([-1.2, 1.5, -0.5, 0.8, -1.1]))
    clipped = is_clipped(logprobs, torch.zeros(5), advantages, clip_range=0.2)
    assert clipped.tolist() == [True, False, False, True, False]
    # A clipped token has no gradient; another's is −A ρ.
    losses.sum().backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([0.0, 1.5, -0.5, 0.0, -1.1]))


def test_descending_the_loss_raises_the_probability_of_a_good_action():
    logprobs = torch.tensor([-1.0, -1.0], requires_grad=True)
    advantages = torch.tensor([2.0, -2.0])
    policy_losses(logprobs, logprobs.detach(), advantages, clip_range=0.2).sum().backward()
    good, bad = (-logprobs.grad).tolist()
    assert good > 0 > bad


def test_the_ratio_of_equal_policies_is_one():
    logprobs = torch.randn(100)
    assert (probability_ratio(logprobs, logprobs) == 1).all()


def test_value_loss_takes_the_worse_of_clipped_and_unclipped():
    # ε = 0.2, V_old = 0:
    # V 1, R 0.5: ½ max(0.25, (0.2 − 0.5)² = 0.09) = 0.125
    # V 1, R 1:   ½ max(0, (0.2 − 1)² = 0.64) = 0.32, and no gradient: V has moved far enough
    # V 0.1, R 1: ½ (0.1 − 1)² = 0.405, not clipped
    values = torch.tensor([1.0, 1.0, 0.1], requires_grad=True)
    returns = torch.tensor([0.5, 1.0, 1.0])
    losses = value_losses(values, torch.zeros(3), returns, clip_range=0.2)
    torch.testing.assert_close(losses, torch.tensor([0.125, 0.32, 0.405]))
    losses.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([0.5, 0.0, -0.9]))


def test_value_loss_without_a_range_is_half_the_square():
    losses = value_losses(torch.tensor([1.0]), torch.zeros(1), torch.tensor([3.0]), clip_range=None)
    assert losses.tolist() == [2.0]


def test_explained_variance():
    returns = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert explained_variance(returns + 5, returns) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(4), returns) == pytest.approx(0.0)
    # Errors R − V = 2R: four times the variance.
    assert explained_variance(-returns, returns) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(4)) is None
