"""Fix the free gain and bias of a preference model: its losses see differences of scores only.

The gain is folded into the head's weights and the bias kept as `config.reward_bias`, so that a
saved model gives normalised scores to whoever loads it with hark.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hark.errors import DataError
from hark.models.packing import PromptTree, pack_for, pass_tokens, plan_batches
from hark.models.scalar_head import response_scores


@torch.no_grad()
def score_trees(
    model: PreTrainedModel, trees: Sequence[PromptTree], *, batch_tokens: int | None = None
) -> Tensor:
    """Scores of all responses of all trees, in order, as float64 on the CPU. -> [N]"""
    limit = batch_tokens or pass_tokens(model.device)
    trees = [part for tree in trees for part in tree.parts(limit)]
    scores: dict[int, Tensor] = {}
    for group in plan_batches(trees, limit):
        batch = pack_for(model, [trees[place] for place in group]).to(model.device)
        sizes = [len(trees[place].responses) for place in group]
        for place, part in zip(group, response_scores(model, batch).split(sizes), strict=True):
            scores[place] = part.cpu().double()
    return torch.cat([scores[place] for place in range(len(trees))])


def shift_to_zero_mean(model: PreTrainedModel, scores: Tensor) -> None:
    """Change the bias so that the responses that had `scores` have mean 0 (InstructGPT, 3.5)."""
    model.config.reward_bias = _bias(model) - float(scores.mean())


def standardise(model: PreTrainedModel, scores: Tensor) -> None:
    """Change gain and bias so that those responses have mean 0 and standard deviation 1.

    The deviation is the population's (divided by n), as in Ziegler et al. (2019).
    Raises: DataError if all scores are equal: no gain can spread them.
    """
    deviation = float(scores.std(correction=0))
    if deviation == 0.0:
        raise DataError(
            f"all {len(scores)} samples of the reference policy have the same score, so no gain "
            "can give them standard deviation 1; use more or more varied prompts as "
            "normalise_data"
        )
    with torch.no_grad():
        model.score.weight /= deviation
    model.config.reward_bias = (_bias(model) - float(scores.mean())) / deviation


def _bias(model: PreTrainedModel) -> float:
    return float(getattr(model.config, "reward_bias", 0.0) or 0.0)
