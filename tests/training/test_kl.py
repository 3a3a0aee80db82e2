import math

import pytest
import torch

from hark.training.kl import AdaptiveKL, k1, k2, k3, sequence_kl


def test_estimators_of_one_token():
    # log π = ln ½, log π_ref = ln ¼: k1 = ln 2, k2 = ½ ln² 2, k3 = π_ref/π − 1 − ln(π_ref/π)
    # = ½ − 1 + ln 2.
    logprob, reference = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    assert k1(logprob, reference).item() == pytest.approx(math.log(2))
    assert k2(logprob, reference).item() == pytest.approx(0.5 * math.log(2) ** 2)
    assert k3(logprob, reference).item() == pytest.approx(-0.5 + math.log(2))


def test_k1_and_k3_have_the_divergence_as_their_mean():
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.5, 0.3])
    divergence = (policy * (policy / reference).log()).sum()
    for estimator in (k1, k3):
        mean = (policy * estimator(policy.log(), reference.log())).sum()
        torch.testing.assert_close(mean, divergence)


def test_kl_of_a_sequence_is_a_sum_over_its_tokens():
    # Token by token 1 1 1 | 5: 3 and 5 nats, 4 on average; the token mean would be 2.
    divergence = sequence_kl(torch.tensor([1.0, 1, 1, 5]), torch.zeros(4), torch.tensor([3, 1]))
    assert divergence.tolist() == [3.0, 5.0]
    assert divergence.mean().item() == 4.0


def test_adaptive_coefficient_over_a_sequence_of_values():
    # Ziegler: β₀ 0.15, target 6 nats, horizon 10 000, here 512 episodes: n/horizon = 0.0512.
    controller = AdaptiveKL(coefficient=0.15, target=6.0, horizon=10_000)
    expected = [
        (12.0, 0.151536),  # 12/6 − 1 = 1, clipped to 0.2: × (1 + 0.2·0.0512) = × 1.01024
        (6.0, 0.151536),  # on target
        (5.4, 0.15076013568),  # −0.1: × (1 − 0.00512)
        (0.0, 0.14921635189),  # −1, clipped to −0.2: × (1 − 0.01024)
        (7.2, 0.15074432733),  # +0.2 exactly, up to rounding: × 1.01024
    ]
    for kl, coefficient in expected:
        controller = controller.after(kl, episodes=512)
        assert controller.coefficient == pytest.approx(coefficient, rel=1e-9)


def test_the_controller_counts_episodes():
    controller = AdaptiveKL(coefficient=1.0, target=6.0, horizon=1000)
    assert controller.after(100.0, episodes=1).coefficient == pytest.approx(1.0002)
    assert controller.after(100.0, episodes=100).coefficient == pytest.approx(1.02)


def test_without_a_target_the_coefficient_stays():
    controller = AdaptiveKL(coefficient=0.02, target=None)
    assert controller.after(100.0, episodes=512) == controller
