from __future__ import annotations

import math

import pytest
import torch

from hark.evaluation.prompted import full_divergences
from hark.training.top_classes import coarse_divergences, top_classes


def test_the_two_likeliest_and_the_rest_by_hand() -> None:
    teacher = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log() + 3.0
    student = torch.tensor([[0.25, 0.25, 0.3, 0.2]]).log() - 1.0
    kept = top_classes(teacher, 2)
    assert kept.ids.tolist() == [[1, 3]]
    assert kept.logprobs.exp().tolist() == [pytest.approx([0.5, 0.25])]
    assert kept.rest.exp().tolist() == [pytest.approx(0.25)]
    # The rest is one class: 0.25 of the teacher against 0.55 of the student.
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(0.25 / 0.2)
    by_hand += 0.25 * math.log(0.25 / 0.55)
    assert coarse_divergences(kept, student).tolist() == [pytest.approx(by_hand, abs=1e-6)]


def test_all_classes_give_the_divergence_over_the_vocabulary_and_fewer_less() -> None:
    draw = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(5, 7, generator=draw) for _ in range(2))
    full = full_divergences(teacher, student)
    probabilities = teacher.softmax(-1)
    by_definition = probabilities * (teacher.log_softmax(-1) - student.log_softmax(-1))
    assert torch.allclose(full, by_definition.sum(-1), atol=1e-6)
    assert torch.allclose(coarse_divergences(top_classes(teacher, 7), student), full, atol=1e-6)
    before = torch.zeros(5)
    for k in range(1, 8):
        found = coarse_divergences(top_classes(teacher, k), student)
        assert (found >= before - 1e-6).all(), "a class parted in two never lowers the divergence"
        before = found
    assert torch.allclose(before, full, atol=1e-6)


def test_no_divergence_from_itself_and_a_gradient_that_leads_there() -> None:
    teacher = torch.tensor([[2.0, 0.0, -1.0, 0.5, 1.0]])
    for k in (2, 5):
        kept = top_classes(teacher, k)
        assert float(coarse_divergences(kept, teacher)) == pytest.approx(0.0, abs=1e-6)
        student = torch.zeros(1, 5, requires_grad=True)
        coarse_divergences(kept, student).sum().backward()
        assert student.grad is not None
        assert student.grad.isfinite().all()
        # For the tokens kept the gradient is q − p, as for the divergence over the vocabulary.
        expected = (torch.full((1, 5), 0.2) - teacher.softmax(-1))[0, kept.ids[0]]
        assert torch.allclose(student.grad[0, kept.ids[0]], expected, atol=1e-6)


def test_a_rest_too_small_for_one_less_the_others_is_still_there() -> None:
    kept = top_classes(torch.tensor([[60.0, 0.0, 0.0]]), 1)
    assert float(kept.rest) == pytest.approx(math.log(2) - 60.0, abs=1e-4)
