"""What an attention computes, and whether another one computes the same."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hark.models.logprobs import response_logprobs
from hark.models.packing import PackedBatch

Outcome = tuple[Tensor, dict[str, Tensor]]


def outcome(model: PreTrainedModel, batch: PackedBatch) -> Outcome:
    """Log-probabilities, and the gradients of a loss that weighs each token differently."""
    model.zero_grad()
    found = response_logprobs(model, batch.to(model.device))
    weights = torch.arange(1, found.numel() + 1, device=found.device)
    (found.exp() * weights).sum().backward()
    return found.detach(), {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def assert_same(
    got: Outcome, expected: Outcome, tolerance: float = 1e-5, *, least_scale: float = 1e-3
) -> None:
    """tolerance: relative to the largest number of a tensor.

    least_scale: of the largest gradient of all, where a tensor's own is zero but for rounding.
    """
    assert float((got[0] - expected[0]).abs().max()) <= tolerance * float(expected[0].abs().max())
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    assert got[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        scale = max(float(gradient.abs().max()), least_scale * largest)
        assert float((got[1][name] - gradient).abs().max()) <= tolerance * scale, name
