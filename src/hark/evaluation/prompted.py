"""How far a model without a context is from the same model with it, on held-out text.

Askell et al. (2112.00861) judge a distilled context by how nearly the model without it
behaves as the prompted one. The measure here is that of their loss, exact where training's is not:
KL( p₀(x_t | C, x_<t) ‖ p(x_t | x_<t) ) over the whole vocabulary, a mean over tokens of text.

1. A document's first token is given to both, and what the context leaves no room for is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hark.errors import DataError
from hark.evaluation.intervals import Array, Estimate, clustered_mean
from hark.models.language_model import context_length, output_embedding
from hark.models.logprobs import CHUNK_LOGITS, LEAST_CHUNK_TOKENS, hidden_states
from hark.models.packing import PromptTree, pack_for, pass_tokens, plan_batches
from hark.models.parallel import whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextGap:
    """KL(prompted ‖ without the context), nats a token; intervals are clustered by document."""

    before: Estimate
    """Of the model as it was."""
    after: Estimate
    """Of the model that was taught."""
    closed: Estimate
    """Share of the gap that teaching has closed: 1 − after / before."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for results.json."""
        return asdict(self)


def full_divergences(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(teacher ‖ student) over the whole vocabulary, nats. [M, V], [M, V] -> [M]."""
    teacher = F.log_softmax(teacher_logits.float(), dim=-1)
    student = F.log_softmax(student_logits.float(), dim=-1)
    return (teacher.exp() * (teacher - student)).sum(-1)


def context_gap(
    original: PreTrainedModel,
    taught: PreTrainedModel,
    context: Sequence[int],
    documents: Sequence[Sequence[int]],
    *,
    batch_tokens: int | None = None,
    seed: int = 0,
) -> ContextGap:
    """Measure both models without the context against the original with it.

    documents: token ids. Raises: DataError if the context leaves no room, or no document has two
    tokens.
    """
    room = context_length(original) - len(context)
    rows = [tuple(ids[:room]) for ids in documents if len(ids) > 1] if room > 1 else []
    if not rows:
        raise DataError(
            f"a context of {len(context)} tokens leaves no text to measure in a model's context of "
            f"{context_length(original)}; shorten it, or give text of two tokens and more"
        )
    trees = [PromptTree((row[0],), (row[1:],)) for row in rows]
    prompted = [PromptTree((*context, row[0]), (row[1:],)) for row in rows]
    sums = np.zeros((2, len(rows)))
    for group in plan_batches(prompted, batch_tokens or pass_tokens(original.device)):
        sums[:, group] = _gaps(
            original, taught, [prompted[i] for i in group], [trees[i] for i in group]
        )
    tokens = np.array([len(row) - 1 for row in rows], dtype=float)
    owners = [list(range(len(rows)))]
    before, after = (
        clustered_mean(each / tokens, weights=tokens, clusters=owners, seed=seed) for each in sums
    )
    shares = 1 - sums[1] / np.maximum(sums[0], np.finfo(float).tiny)
    closed = clustered_mean(shares, weights=sums[0], clusters=owners, seed=seed)
    return ContextGap(before=before, after=after, closed=closed)


@torch.no_grad()
def _gaps(
    original: PreTrainedModel,
    taught: PreTrainedModel,
    prompted: Sequence[PromptTree],
    trees: Sequence[PromptTree],
) -> Array:
    """[2, documents]: sums over tokens, of the original and of the taught model."""
    passes = ((original, prompted), (original, trees), (taught, trees))
    hidden = []
    for model, read in passes:
        packed = pack_for(model, read).to(model.device)
        with whole(model):
            hidden.append(hidden_states(model, packed, packed.predictors))
    teacher, *students = hidden
    sums = np.zeros((2, len(trees)))
    owner = packed.response_of.cpu().numpy()
    size = max(LEAST_CHUNK_TOKENS, CHUNK_LOGITS // original.config.get_text_config().vocab_size)
    for row, (model, student) in enumerate(zip((original, taught), students, strict=True)):
        parts = [
            full_divergences(output_embedding(original)(a), output_embedding(model)(b))
            for a, b in zip(teacher.split(size), student.split(size), strict=True)
        ]
        np.add.at(sums[row], owner, torch.cat(parts).double().cpu().numpy())
    return sums
