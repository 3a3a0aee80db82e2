from __future__ import annotations

import math

import pytest
import torch

from hark.training.objectives import (
    Ties,
    best_of_k_losses,
    mean_over_pairs,
    pair_losses,
    ranked_pairs,
)


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def ranking_loss(scores: list[float], ranks: tuple[int, ...], *, ties: Ties = "drop") -> float:
    """One comparison, put together as the training step does."""
    first, second, probabilities = ranked_pairs(ranks, ties=ties)
    values = torch.tensor(scores)
    losses = pair_losses(values[first] - values[second], probabilities=torch.tensor(probabilities))
    pairs = len(first)
    (loss,) = mean_over_pairs(losses, torch.zeros(pairs, dtype=torch.long), torch.tensor([pairs]))
    return float(loss)


def test_instructgpt_ranking() -> None:
    # Rewards 3, 1, 0, −1 in rank order; differences 2, 3, 4, 1, 2, 1:
    # log(1+e^−Δ) = .126928 + .048587 + .018150 + .313262 + .126928 + .313262 = .947117; /6
    loss = ranking_loss([3.0, 1.0, 0.0, -1.0], (1, 2, 3, 4))
    assert loss == pytest.approx(0.15785, abs=1e-5)


def test_ranking_follows_the_ranks_and_not_the_order() -> None:
    loss = ranking_loss([0.0, 3.0, -1.0, 1.0], (3, 1, 4, 2))
    assert loss == pytest.approx(0.15785, abs=1e-5)


def test_tied_pairs_are_dropped_from_sum_and_count() -> None:
    # Ranks 1, 2, 2: two pairs are left, Δ = 2 and Δ = 3: (.126928 + .048587)/2
    loss = ranking_loss([3.0, 1.0, 0.0], (1, 2, 2))
    assert loss == pytest.approx(0.0877575, abs=1e-6)


def test_tied_pairs_as_half() -> None:
    # The third pair, Δ = 1 with p = ½: (.313262 + 1.313262)/2 = .813262; (.175515 + .813262)/3
    loss = ranking_loss([3.0, 1.0, 0.0], (1, 2, 2), ties="half")
    assert loss == pytest.approx(0.329592, abs=1e-6)


def test_an_all_tied_ranking_has_no_pairs_or_only_halves() -> None:
    assert ranked_pairs((1, 1), ties="drop") == ([], [], [])
    assert ranking_loss([3.0, 3.0], (1, 1), ties="half") == pytest.approx(math.log(2))


def test_ranked_pairs() -> None:
    assert ranked_pairs((2, 1, 2), ties="drop") == ([1, 1], [0, 2], [1.0, 1.0])
    assert ranked_pairs((2, 1, 2), ties="half") == ([1, 0, 1], [0, 2, 2], [1.0, 0.5, 1.0])


def test_pair_by_hand() -> None:
    assert pair_losses(torch.tensor([2.0])).item() == pytest.approx(0.126928, abs=1e-6)


def test_the_sign_rewards_the_chosen_one() -> None:
    scores = torch.zeros(2, requires_grad=True)
    pair_losses(scores[:1] - scores[1:]).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [-0.5, 0.5]  # ∓σ(−Δ) at Δ = 0


def test_required_margin_shifts_the_pair() -> None:
    loss = pair_losses(torch.tensor([2.0]), required_margins=torch.tensor([1.5]))
    assert loss.item() == pytest.approx(softplus(-0.5), abs=1e-6)


def test_soft_label_by_hand() -> None:
    # p = .75, Δ = 2: .75·.126928 + .25·2.126928 = .626928
    loss = pair_losses(torch.tensor([2.0]), probabilities=torch.tensor([0.75]))
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
    (loss,) = best_of_k_losses(torch.tensor([[1.0, 2.0, 0.0, 0.0]]), torch.tensor([1]))
    assert loss.item() == pytest.approx(0.493812, abs=1e-5)


def test_best_of_two_is_the_pair_loss() -> None:
    scores = torch.tensor([[0.3, -1.1], [2.0, 2.5]])
    expected = pair_losses(torch.tensor([0.3 + 1.1, 2.5 - 2.0]))
    assert torch.allclose(best_of_k_losses(scores, torch.tensor([0, 1])), expected)


def test_a_response_that_is_not_there_takes_no_part() -> None:
    scores = torch.tensor([[0.3, -1.1, -math.inf]], requires_grad=True)
    (loss,) = best_of_k_losses(scores, torch.tensor([0]))
    assert loss.item() == pytest.approx(softplus(-1.4), abs=1e-6)
    loss.backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 2] == 0.0


def test_each_comparison_has_its_own_mean() -> None:
    values, comparison_of = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 0, 1])
    assert mean_over_pairs(values, comparison_of, torch.tensor([1, 2])).tolist() == [2.0, 2.5]
