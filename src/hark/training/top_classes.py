"""A distribution over the vocabulary as its k likeliest tokens and one class for the rest (pure).

Bai et al. (2022) keep of a teacher's prediction the 50 highest log-probabilities and
the mass that remains as a 51st class. Lumping classes together never raises a divergence, so what
is measured over these classes is a lower bound of KL(teacher ‖ student) over the vocabulary, and
equal to it where k is the vocabulary.

Shape letters: `M` predicted tokens, `V` vocabulary, `k` classes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, kw_only=True)
class TopClasses:
    """What is kept of M predictions."""

    ids: Tensor
    """[M, k] long: tokens, the likeliest first."""
    logprobs: Tensor
    """[M, k] float32: their log-probabilities, nats."""
    rest: Tensor
    """[M] float32: log of the mass of all other tokens; −∞ where there are none."""


def top_classes(logits: Tensor, k: int) -> TopClasses:
    """The k likeliest tokens of each prediction, and the rest. [M, V] -> k of V classes and one."""
    logprobs = F.log_softmax(logits.float(), dim=-1)
    kept = logprobs.topk(k, dim=-1)
    return TopClasses(ids=kept.indices, logprobs=kept.values, rest=_rest(logprobs, kept.indices))


def coarse_divergences(teacher: TopClasses, logits: Tensor) -> Tensor:
    """KL(teacher ‖ student) of each prediction over the teacher's k + 1 classes, nats. [M].

    logits: [M, V] the student's. The rest is summed over its tokens rather than taken as one less
    the others, which loses every digit where a student is sure.
    """
    logprobs = F.log_softmax(logits.float(), dim=-1)
    own = logprobs.gather(-1, teacher.ids)
    divergences = (teacher.logprobs.exp() * (teacher.logprobs - own)).sum(-1)
    if teacher.ids.shape[-1] == logits.shape[-1]:
        return divergences
    return divergences + teacher.rest.exp() * (teacher.rest - _rest(logprobs, teacher.ids))


def _rest(logprobs: Tensor, ids: Tensor) -> Tensor:
    """[M] log of the mass of the tokens that are not among `ids`."""
    if ids.shape[-1] == logprobs.shape[-1]:
        return logprobs.new_full(logprobs.shape[:-1], -torch.inf)
    is_kept = torch.zeros_like(logprobs, dtype=torch.bool).scatter(-1, ids, True)
    return logprobs.masked_fill(is_kept, -torch.inf).logsumexp(-1)
