from __future__ import annotations

import math

import pytest
import torch

from hark.training.objectives import (
    best_of_k_loss,
    language_modelling_loss,
    pair_losses,
    pairwise_loss,
    ranked_pairs,
    ranking_loss,
    soft_pair_loss,
    sum_by_comparison,
    weighted_mean,
)


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_instructgpt_ranking() -> None:
    # Rewards 3, 1, 0, −1 in rank order; differences 2, 3, 4, 1, 2, 1:
    # log(1+e^−Δ) = .126928 + .048587 + .018150 + .313262 + .126928 + .313262 = .947117; /6
    loss = ranking_loss(torch.tensor([3.0, 1.0, 0.0, -1.0]), (1, 2, 3, 4))
    assert loss.item() == pytest.approx(0.15785, abs=1e-5)


def test_ranking_follows_the_ranks_and_not_the_order() -> None:
    loss = ranking_loss(torch.tensor([0.0, 3.0, -1.0, 1.0]), (3, 1, 4, 2))
    assert loss.item() == pytest.approx(0.15785, abs=1e-5)


def test_tied_pairs_are_dropped_from_sum_and_count() -> None:
    # Ranks 1, 2, 2: two pairs are left, Δ = 2 and Δ = 3: (.126928 + .048587)/2
    loss = ranking_loss(torch.tensor([3.0, 1.0, 0.0]), (1, 2, 2))
    assert loss.item() == pytest.approx(0.0877575, abs=1e-6)


def test_tied_pairs_as_half() -> None:
    # The third pair, Δ = 1 with p = ½: (.313262 + 1.313262)/2 = .813262; (.175515 + .813262)/3
    loss = ranking_loss(torch.tensor([3.0, 1.0, 0.0]), (1, 2, 2), ties="half")
    assert loss.item() == pytest.approx(0.329592, abs=1e-6)


def test_an_all_tied_ranking_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="all tied"):
        ranking_loss(torch.tensor([1.0, 2.0]), (1, 1))
    assert ranking_loss(torch.zeros(2), (1, 1), ties="half").item() == pytest.approx(math.log(2))


def test_ranked_pairs() -> None:
    assert ranked_pairs((2, 1, 2)) == ([1, 1], [0, 2], [1.0, 1.0])
    assert ranked_pairs((2, 1, 2), ties="half") == ([1, 0, 1], [0, 2, 2], [1.0, 0.5, 1.0])


def test_pair_by_hand() -> None:
    loss = pairwise_loss(torch.tensor([2.0]), torch.tensor([0.0]))
    assert loss.item() == pytest.approx(0.126928, abs=1e-6)


def test_the_sign_rewards_the_chosen_one() -> None:
    chosen = torch.zeros(1, requires_grad=True)
    rejected = torch.zeros(1, requires_grad=True)
    pairwise_loss(chosen, rejected).backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.5)  # −σ(−Δ) at Δ = 0
    assert rejected.grad.item() == pytest.approx(0.5)


def test_weights_make_a_weighted_mean() -> None:
    # (3·.126928 + 1·.313262)/4
    loss = pairwise_loss(torch.tensor([2.0, 1.0]), torch.zeros(2), weights=torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx(0.1735115, abs=1e-6)


def test_required_margin_shifts_the_pair() -> None:
    loss = pairwise_loss(torch.tensor([2.0]), torch.zeros(1), required_margins=torch.tensor([1.5]))
    assert loss.item() == pytest.approx(softplus(-0.5), abs=1e-6)


def test_soft_label_by_hand() -> None:
    # p = .75, Δ = 2: .75·.126928 + .25·2.126928 = .626928
    loss = soft_pair_loss(torch.tensor([2.0]), torch.zeros(1), torch.tensor([0.75]))
    assert loss.item() == pytest.approx(0.626928, abs=1e-6)


def test_soft_label_is_lowest_where_the_margin_is_its_logit() -> None:
    gap = torch.tensor([math.log(3.0)], requires_grad=True)  # logit of 0.75
    pair_losses(gap, probabilities=torch.tensor([0.75])).sum().backward()
    assert gap.grad is not None
    assert gap.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_soft_labels_are_symmetric() -> None:
    gap, probability = torch.tensor([0.7]), torch.tensor([0.2])
    forwards = pair_losses(gap, probabilities=probability)
    assert forwards.item() == pytest.approx(pair_losses(-gap, probabilities=1 - probability).item())


def test_pair_losses_are_finite_far_out() -> None:
    assert pair_losses(torch.tensor([-1e4])).item() == pytest.approx(1e4)


def test_best_of_four_by_hand() -> None:
    # e² / (e² + e¹ + e⁰ + e⁰) = 7.389056/12.107338; −log = .493812
    loss = best_of_k_loss(torch.tensor([1.0, 2.0, 0.0, 0.0]), 1)
    assert loss.item() == pytest.approx(0.493812, abs=1e-5)


def test_best_of_two_is_the_pair_loss() -> None:
    scores = torch.tensor([[0.3, -1.1], [2.0, 2.5]])
    expected = pair_losses(torch.tensor([0.3 + 1.1, 2.5 - 2.0]))
    assert torch.allclose(best_of_k_loss(scores, torch.tensor([0, 1])), expected)


def test_language_modelling_is_a_mean_per_token() -> None:
    logprobs = torch.tensor([0.5, 0.25, 0.125, 1.0]).log()
    # (1 + 2 + 3 + 0)·ln 2 / 4; with the last left out (1 + 2 + 3)·ln 2 / 3
    assert language_modelling_loss(logprobs).item() == pytest.approx(1.5 * math.log(2))
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert language_modelling_loss(logprobs, weights).item() == pytest.approx(2 * math.log(2))


def test_weighted_mean_and_sums_by_comparison() -> None:
    values = torch.tensor([1.0, 2.0, 4.0])
    assert weighted_mean(values).item() == pytest.approx(7 / 3)
    assert weighted_mean(values, torch.tensor([0.0, 1.0, 3.0])).item() == 3.5
    assert sum_by_comparison(values, torch.tensor([1, 0, 1]), 3).tolist() == [2.0, 5.0, 0.0]
