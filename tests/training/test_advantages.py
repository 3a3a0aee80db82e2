import pytest
import torch

from hark.training.advantages import generalised_advantages, whiten


def test_gae_of_a_hand_trajectory_beside_another():
    # Response 1: rewards 0 0 1, values ½ ½ ½. δ = (0 + ½ − ½, 0 + ½ − ½, 1 + 0 − ½) = (0, 0, ½).
    # A₃ = ½, A₂ = 0 + 0.95·½ = 0.475, A₁ = 0.95·0.475 = 0.45125; R = A + V.
    # Response 2: reward 2, value 1: A = 1, R = 2. Nothing flows from one response to the other.
    advantages, returns = generalised_advantages(
        torch.tensor([0.0, 0.0, 1.0, 2.0]),
        torch.tensor([0.5, 0.5, 0.5, 1.0]),
        torch.tensor([3, 1]),
    )
    torch.testing.assert_close(advantages, torch.tensor([0.45125, 0.475, 0.5, 1.0]))
    torch.testing.assert_close(returns, torch.tensor([0.95125, 0.975, 1.0, 2.0]))


def test_gae_with_discount():
    # γ = 0.9, λ = 0.95, γλ = 0.855. δ = (0.9·½ − ½, 0.9·½ − ½, 1 − ½) = (−0.05, −0.05, 0.5).
    # A₃ = 0.5, A₂ = −0.05 + 0.855·0.5 = 0.3775, A₁ = −0.05 + 0.855·0.3775 = 0.2727625.
    advantages, _ = generalised_advantages(
        torch.tensor([0.0, 0.0, 1.0]), torch.full((3,), 0.5), torch.tensor([3]), discount=0.9
    )
    torch.testing.assert_close(advantages, torch.tensor([0.2727625, 0.3775, 0.5]))


def test_lambda_one_gives_the_sum_of_rewards_to_go():
    rewards = torch.tensor([1.0, -2.0, 4.0])
    _, returns = generalised_advantages(
        rewards, torch.tensor([0.3, -0.7, 2.0]), torch.tensor([3]), gae_lambda=1.0
    )
    torch.testing.assert_close(returns, torch.tensor([3.0, 2.0, 4.0]))


def test_whitening_uses_the_biased_variance():
    # 1 2 3 4: μ = 2.5, biased variance 1.25 (the unbiased one, 5/3, would give ±1.1619).
    whitened = whiten(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    expected = torch.tensor([-1.3416408, -0.4472136, 0.4472136, 1.3416408])
    torch.testing.assert_close(whitened, expected)


def test_whitening_can_leave_the_mean_where_it_is():
    # As above, with μ = 2.5 added back.
    whitened = whiten(torch.tensor([1.0, 2.0, 3.0, 4.0]), shift_mean=False)
    expected = torch.tensor([1.1583592, 2.0527864, 2.9472136, 3.8416408])
    torch.testing.assert_close(whitened, expected)


def test_equal_advantages_whiten_to_zero():
    assert whiten(torch.full((5,), 3.0)).tolist() == pytest.approx([0.0] * 5)
